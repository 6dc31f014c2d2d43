"""One model, five ways: the records are those of brute force, and each way trains as it does unobserved."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.conftest import FULL

if TYPE_CHECKING:
    from tests.conftest import Home

SCRIPT = str(Path(__file__).with_name("one_model.py"))

IN_BRIEF = ("Trainer", "python -m onthefly", "attach_lightning")
"""The others differ from these in who opens the session or sees the batches: for the full tier."""

WAYS: dict[str, tuple[str, bool, bool]] = {
    "Trainer": ("trainer", False, True),
    "python -m onthefly": ("bare", True, False),
    "Trainer under python -m onthefly": ("trainer", True, True),
    "Lightning": ("lightning", True, True),
    "attach_lightning": ("attached", False, True),
    "attach_lightning under python -m onthefly": ("attached", True, True),
}
"""Which of the script's ways, whether the launcher starts it, and whether it logs a validation loss."""


def train(home: Home, way: str, launched: bool, *more: str, **environment: str) -> Any:
    state = home.folder / f"{way}.pt"
    options: dict[str, Any] = {"ONTHEFLY_STRICT": "1", **environment}
    command = (sys.executable, *(("-m", "onthefly") if launched else ()), SCRIPT, way, str(state), *more)
    ended = home.run(*command, **options)
    assert ended.code == 0, ended.err.decode()
    return torch.load(state)


def equal(one: Any, other: Any) -> bool:
    """Bit for bit, through containers."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    """Each sample's loss by brute force, from the loop by hand, watched by nobody."""
    from tests.conftest import Home

    home = Home(tmp_path_factory.mktemp("truth"))
    train(home, "bare", False, str(home.folder / "losses.json"), ONTHEFLY_DISABLE="1")
    return json.loads((home.folder / "losses.json").read_text())


@pytest.mark.parametrize("name", [name if name in IN_BRIEF else pytest.param(name, marks=FULL) for name in WAYS])
def test_the_records_are_the_same(home: Home, truth: list[list[float]], name: str) -> None:
    way, launched, validates = WAYS[name]
    plain = train(home, way, False, ONTHEFLY_DISABLE="1")
    watched = train(home, way, launched)
    assert equal(plain, watched)
    session = home.wait_state("ended")
    rows = home.get(f"sessions/{session['id']}/samples?limit=1000000")
    columns = ("backward", "step", "epoch", "position", "sample")
    assert [[row[column] for column in columns] for row in rows] == [row[:5] for row in truth]
    assert [row["loss"] for row in rows] == [torch.tensor(row[5]).item() for row in truth], "to the bit, as float32"
    assert {(row["certificate"], row["identity"]) for row in rows} == {("exact", "index")}
    assert ("val_loss" in session["metrics"]) == validates
