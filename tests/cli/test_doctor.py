"""``onthefly doctor``: says what is wrong and how to mend it, and tells in words what is captured of a script."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from onthefly.cli import captured
from tests.conftest import DIGITS, FULL, REPOSITORY
from tests.lean import LEAN

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
    assert "12 optimizer steps, 12 backward calls" in text
    assert "training, loader0 (DataLoader number 1 that the script went through)" in text
    assert "of each sample, exact: together they give your loss again (all 12)" in text
    assert "known by their index in the dataset (all 384)" in text
    assert "cost" not in text, "twelve steps are all warm-up"
    assert home.hub_file() is None, "the trial left the user's own folders alone"


def test_a_script_whose_losses_are_not_read(home: Home) -> None:
    (home.folder / "s.py").write_text(
        LEAN + "w = torch.ones(3, requires_grad=True)\no = torch.optim.SGD([w], 0.1)\n"
        "while True:\n    (w ** 2).sum().backward()\n    o.step()\n"
    )
    report = trial(home, "--steps", "5", "--script", "s.py")
    assert (report["backwards"], report["captured"], report["steps"]) == (5, 0, 5)
    (part,) = report["parts"]
    assert (part["phase"], part["loader"], list(part["reasons"].values())) == ("train", "", [5])
    assert report["ended"] == "steps"


def test_a_script_that_fails(home: Home) -> None:
    (home.folder / "s.py").write_text("raise ValueError('of the script')")
    ended = doctor(home, "--script", "s.py")
    assert ended.code == 1
    assert b"no backward call was seen" in ended.out
    assert b"ValueError: of the script" in ended.out


def test_a_script_that_does_not_end(home: Home) -> None:
    (home.folder / "s.py").write_text("import time\nwhile True:\n    time.sleep(0.1)\n")
    report = trial(home, "--timeout", "3", "--script", "s.py")
    assert (report["ended"], report["torch"]) == ("time", False)
    assert report["seconds"] < 30


def test_a_script_that_fails_after_some_steps(home: Home) -> None:
    (home.folder / "s.py").write_text(
        LEAN + "w = torch.ones(3, requires_grad=True)\no = torch.optim.SGD([w], 0.1)\n"
        "torch.nn.functional.mse_loss(w, torch.zeros(3)).backward()\no.step()\nraise ValueError('of the script')\n"
    )
    ended = doctor(home, "--script", "s.py")
    assert ended.code == 1
    assert b"THEN THE SCRIPT FAILED, with exit code 1" in ended.out
    assert b"  | ValueError: of the script" in ended.out


def test_a_script_without_an_optimizer_of_torchs(home: Home) -> None:
    """Nothing ends it at a step: it is ended when enough was seen of it."""
    (home.folder / "s.py").write_text(
        "import torch\nw = torch.ones(3, requires_grad=True)\n"
        "while True:\n    torch.nn.functional.mse_loss(w, torch.zeros(3)).backward()\n"
        "    w = (w - 0.1 * w.grad).detach().requires_grad_()\n"
    )
    ended = doctor(home, "--steps", "3", "--timeout", "90", "--script", "s.py")
    text = ended.out.decode()
    assert ended.code == 1, "a penalty: no samples"
    assert "no optimizer steps" in text
    assert "then the trial was over" in text
    assert "pause and stop act at a backward call" in text


PART: dict[str, Any] = {
    "phase": "train", "loader": "loader0", "calls": 20, "certificates": {"exact": 20}, "reasons": {}, "error": 0.0,
    "samples": 640, "identities": {"index": 640}, "unnamed": [], "components": [], "elements": [1, 1],
}  # fmt: skip
REPORT: dict[str, Any] = {
    "ended": "steps", "code": 0, "seconds": 4.0, "output": [], "torch": True, "steps": 20, "backwards": 20,
    "captured": 20, "parts": [PART], "processes": [""], "accuracy": True, "metrics": ["lr"], "onthefly_us": 20.0,
    "step_ms": 2.0, "notices": [],
}  # fmt: skip


def said(part: dict[str, Any], **report: Any) -> str:
    """The words for that part of a report."""
    return "\n".join(captured.words("train.py", {**REPORT, **report, "parts": [{**PART, **part}]}))


def test_what_is_captured_is_said_for_each_loader_and_phase() -> None:
    validation = said({"phase": "valid", "loader": "loader1"})
    assert "validation, loader1 (DataLoader number 2 that the script went through)" in validation
    assert "accuracy" not in validation
    assert "no losses seen" not in validation
    terms = said({"components": ["loss.cross_entropy", "loss.pow"], "elements": [6, 12]})
    assert "each in a column of its own: loss.cross_entropy, loss.pow" in terms
    assert "averaged    over 6 to 12 elements" in terms
    assert "validation: no losses seen" in terms
    mixed = said({"certificates": {"exact": 15, "approximate": 3, "none": 2}, "error": 3e-5, "reasons": {"why": 2},
                  "identities": {"index": 600, "none": 40}, "unnamed": ["it was copied"]})  # fmt: skip
    for words in ("exact: together they give your loss again (15 of 20)", "up to 3e-05 of it (3 of 20)",
                  "no losses   why (2 of 20)", "by their index in the dataset (600 of 640)",
                  "not known which: it was copied (40 of 640)"):  # fmt: skip
        assert words in mixed
    assert "key that they carry (all 640)" in said({"identities": {"key": 640}})


def test_costs_and_processes_and_what_else_was_told() -> None:
    assert "cost" not in said({})
    assert "cost: 20 us in a step of 2.00 ms (1.0 %)" in said({}, steps=100)
    assert "processes that train: the script itself, Process-1" in said({}, processes=["", "Process-1"])
    notices = [("samples have no index: it was copied", ""), ("a second thread trains", "use one")]
    told = said({"identities": {"none": 640}, "unnamed": ["it was copied"]}, notices=notices)
    assert told.count("it was copied") == 1
    assert "told: a second thread trains (use one)" in told
    assert "the time was up" in said({}, ended="time")


@FULL
def test_a_script_of_a_framework(home: Home) -> None:
    """Hugging Face's Trainer, which collates by itself."""
    home.environment["PYTHONPATH"] = str(REPOSITORY)
    report = trial(home, "--steps", "8", "--script", "-m", "tests.frameworks", "transformers", "classes")
    (part,) = [part for part in report["parts"] if part["phase"] == "train"]
    assert (report["steps"], part["certificates"], part["elements"]) == (8, {"exact": 8}, [1, 1])
    assert report["accuracy"]
    assert part["identities"].get("index") or part["unnamed"]
