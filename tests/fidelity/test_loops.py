"""Fidelity: of every loop, what is captured is what is written beside it, and equals brute force from outside."""

from __future__ import annotations

import threading
from collections import UserDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from onthefly.capture.batches import RecentBatches
from tests import loops
from tests.fidelity.brute_force import BruteForce
from tests.reporting import seen
from tests.watching import watched

if TYPE_CHECKING:
    from tests.watching import Row

WRONG: dict[str, str] = {}
"""Loops that we read wrongly, and what the fault is: a loop that is repaired is taken out here."""


def outcome(row: Row) -> str:
    """In the words of :class:`tests.loops.loop.Loop`."""
    if row.certificate == "exact":
        return "index" if row.identity == "index" else "exact"
    return row.reason or row.certificate


def judge(name: str, patch: pytest.MonkeyPatch) -> None:
    """Run the loop beside brute force, and compare."""
    truth = BruteForce(patch)
    with watched() as kept:
        loops.run(name)
    rows, expected = kept.rows(), loops.LOOPS[name].outcomes
    truth.check(rows)
    outcomes = {outcome(row) for row in rows}
    assert [words for words in expected if not any(_fits(words, found) for found in outcomes)] == []
    assert [found for found in outcomes if not any(_fits(words, found) for words in expected)] == []
    told = (loops.LOOPS[name].play.__doc__ or "").partition("\n")[0].rstrip(".")
    seen("loop", name.replace("_", " ") + (f" ({told[0].lower()}{told[1:]})" if told else ""), kept)


def _fits(words: str, found: str) -> bool:
    return words == found if found in ("index", "exact", "approximate") else words in found


def _marked(name: str) -> Any:
    fault = WRONG.get(name)
    return (
        pytest.param(name, marks=pytest.mark.xfail(raises=AssertionError, reason=fault, strict=True)) if fault else name
    )


@pytest.mark.parametrize("name", [_marked(name) for name in loops.LOOPS])
def test_what_is_captured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    judge(name, monkeypatch)


def test_the_newest_batch_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses named after the newest batch, wherever their targets come from, would be seen."""
    from onthefly.capture.batches import Tied
    from onthefly.capture.layout import batch_first
    from onthefly.capture.loaders import Batch

    def newest(self: RecentBatches, tensor: torch.Tensor) -> Tied | None:
        layout = batch_first(tensor.shape)
        return Tied(Batch(*self.newest), 0, layout, "") if self.newest is not None and layout is not None else None

    monkeypatch.setattr(RecentBatches, "find", newest)
    for name in ("same_data_in_two_loaders", "a_batch_late", "shuffled_in_the_batch", "halves_joined"):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            judge(name, patch)


class Gated(UserDict[str, Any]):
    """A sample whose batch, when it is looked through in another thread, says so and waits."""

    main = threading.get_ident()
    looked, go = threading.Event(), threading.Event()

    def values(self) -> Any:
        if threading.get_ident() != self.main:
            self.looked.set()
            self.go.wait(20)
        return super().values()


class Gates(Dataset[Any]):
    """Samples of that kind."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return Gated(x=torch.randn(6), y=torch.tensor([float(index)]))


def test_a_batch_that_arrives_in_another_thread() -> None:
    """A thread of the script's fetches the next batch: until it is there, the one before is the newest in all parts."""
    model = nn.Linear(6, 1)
    with watched() as kept:
        batches = iter(DataLoader(Gates(), 2))
        batch = next(batches)
        F.mse_loss(model(batch["x"]), batch["y"]).backward()
        thread = threading.Thread(target=lambda: next(batches))
        thread.start()
        assert Gated.looked.wait(20)
        F.mse_loss(model(batch["x"]), batch["y"]).backward()
        Gated.go.set()
        thread.join()
    for row in kept.rows():
        assert row.samples in ([0, 1], [-1, -1])
