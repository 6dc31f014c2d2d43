"""The example is a notebook as one would keep it: without outputs, and it runs from top to bottom."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.conftest import FULL, REPOSITORY, wait_for
from tests.notebook.kernel import running_kernel

if TYPE_CHECKING:
    from tests.conftest import Home


@FULL  # real kernels are run by tests/notebook/test_kernel.py on every push
def test_the_example(home: Home) -> None:
    cells = json.loads((REPOSITORY / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    with running_kernel(home) as kernel:
        said = ""
        for cell in code:
            ran = kernel.run("".join(cell["source"]))
            assert ran.ok, ran.text
            said += ran.text
        wait_for("all of it", lambda: home.get("sessions/last")["state"] == "ended")
        found = home.get("sessions")["sessions"]
    assert [float(value) > 0.95 for value in re.findall(r"accuracy (\S+)", said)] == [True] * 3
    assert [(one["project"], one["name"], one["state"]) for one in found[::-1]] == [
        ("", "my notes.ipynb", "ended"), ("tumours", "decay 0.01", "ended"), ("tumours", "decay 1.0", "ended"),
    ]  # fmt: skip
    assert {one["backwards"] for one in found} == {15 * 27}
