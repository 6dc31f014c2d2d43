"""``onthefly doctor``: says what is wrong and how to mend it, and tells in words what is captured of a script."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from tests.conftest import DIGITS

if TYPE_CHECKING:
    from tests.conftest import Ended, Home


def doctor(home: Home, *arguments: str, **environment: Any) -> Ended:
    """Run it in this home."""
    return home.run(sys.executable, "-m", "onthefly", "doctor", *arguments, **environment)


def trial(home: Home, *arguments: str) -> dict[str, Any]:
    """The report of a trial run."""
    return json.loads(doctor(home, "--json", *arguments).out)


def test_a_healthy_home(home: Home) -> None:
    ended = doctor(home)
    assert ended.code == 0, ended.out.decode()
    assert b"torch" in ended.out
    assert b"all is as it should be" in ended.out


def test_what_is_wrong_is_told_with_its_remedy(home: Home) -> None:
    (home.folder / "file").write_text("")
    ended = doctor(home, ONTHEFLY_DATA_DIR=str(home.folder / "file"), ONTHEFLY_DISABLE="1")
    assert ended.code == 1
    text = ended.out.decode()
    assert "-> set ONTHEFLY_DATA_DIR" in text
    assert "ONTHEFLY_DISABLE is set" in text


def test_a_script_that_is_captured(home: Home) -> None:
    ended = doctor(home, "--steps", "12", "--script", str(DIGITS), "--epochs", "1000")
    assert ended.code == 0, ended.out.decode()
    text = ended.out.decode()
    assert "12 of 12 backward calls are read for each sample, exactly" in text
    assert "all 384 samples have their index" in text
    assert home.hub_file() is None, "the trial left the user's own folders alone"


def test_a_script_whose_losses_are_not_read(home: Home) -> None:
    (home.folder / "s.py").write_text(
        "import torch\nw = torch.ones(3, requires_grad=True)\no = torch.optim.SGD([w], 0.1)\n"
        "while True:\n    (w ** 2).sum().backward()\n    o.step()\n"
    )
    report = trial(home, "--steps", "5", "--script", "s.py")
    assert (report["backwards"], report["captured"], report["steps"]) == (5, 0, 5)
    assert list(report["reasons"].values()) == [5]


def test_a_script_that_fails(home: Home) -> None:
    (home.folder / "s.py").write_text("raise ValueError('of the script')")
    ended = doctor(home, "--script", "s.py")
    assert ended.code == 1
    assert b"no backward call was seen" in ended.out
    assert b"ValueError: of the script" in ended.out


def test_a_script_that_does_not_end(home: Home) -> None:
    (home.folder / "s.py").write_text("import time\nwhile True:\n    time.sleep(0.1)\n")
    report = trial(home, "--timeout", "3", "--script", "s.py")
    assert not report["in_time"]
    assert report["seconds"] < 30
