"""From a command line to the store and back: an example is paused, tested and scanned, and ends as it would have."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import DIGITS, FULL, REPOSITORY, wait_for

if TYPE_CHECKING:
    from tests.conftest import Home

LONG = [FULL, pytest.mark.timeout(400)]
EXAMPLES = [
    pytest.param([str(DIGITS), "--epochs", "4"], id="digits"),
    pytest.param([str(REPOSITORY / "examples" / "text.py"), "--epochs", "2"], id="text", marks=LONG),
    pytest.param([str(REPOSITORY / "examples" / "tabular.py")], id="tabular", marks=LONG),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_tested_and_scanned(home: Home, example: list[str]) -> None:
    plain = home.python(*example)
    script = home.start(sys.executable, "-m", "onthefly", *example, ONTHEFLY_STRICT="1")
    home.wait_step(3)
    onthefly = [sys.executable, "-m", "onthefly"]
    session = home.session()
    assert session is not None
    home.post(f"sessions/{session['id']}/commands", {"id": "1", "name": "pause"})
    home.wait_state("paused")
    ended = home.run(*onthefly, "ctl", "last", "test")
    assert ended.code == 0, ended.err
    assert b"test_1  baseline step" in ended.out, "it waits for the steps"
    home.post(f"sessions/{session['id']}/commands", {"id": "2", "name": "scan"})
    found = wait_for("both", lambda: len(all_ := home.get("sessions/last/evaluations")["evaluations"]) == 2 and all_)
    test, scan = found
    assert (test["label"], scan["label"]) == ("test_1", "scan_1")
    assert test["how"] == scan["how"] == "recipe, reproduced 2 of 2"
    rows = home.get("sessions/last/samples?evaluation=scan_1")
    assert len(rows) == scan["count"] == len({row["sample"] for row in rows})
    assert {row["phase"] for row in rows} == {"scan"}
    assert sum(row["loss"] for row in rows) / len(rows) == pytest.approx(scan["result"]["loss"], rel=1e-4)
    assert {row["run"] for row in home.get("sessions/last/samples?limit=5")} == {"baseline"}, "training has its own"
    listed = home.run(*onthefly, "evaluations", "last", "test_1").out.decode()
    assert listed.startswith("test_1  baseline step ")
    assert "class 0: " in listed or "rmse" in listed
    home.post(f"sessions/{session['id']}/commands", {"id": "3", "name": "resume"})
    out, _ = script.communicate(timeout=100)
    assert out == plain.out
    wait_for("the check afterwards", lambda: all(
        one["how"] == "recipe, reproduced 3 of 3" and one["verified"]
        for one in home.get("sessions/last/evaluations")["evaluations"]))  # fmt: skip
