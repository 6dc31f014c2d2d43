"""The comparison itself: what it must find, and what happens where a framework is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from onthefly.capture import reading
from onthefly.capture.loaders import LoaderRecord
from tests.fidelity.brute import dataset
from tests.frameworks.harness import Case, Witness, content, judge, need

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this goes into the table."""
    monkeypatch.delenv("ONTHEFLY_REPORT", raising=False)


def plain(witness: Witness) -> Any:
    """A loop without a framework."""
    data, model = dataset("value"), nn.Linear(6, 4)
    witness.attend(model, content(data.tensors[0]), lambda samples, output: F.mse_loss(
        output, data.tensors[1][samples], reduction="none"))  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in DataLoader(data, 8, shuffle=True):
        F.mse_loss(model(x), y).backward()
        optimizer.step()
    return model.state_dict()


def values(patch: pytest.MonkeyPatch) -> None:
    read = reading.OperatorReader.read

    def off(*given: Any) -> Any:
        target, found, *rest = read(*given)
        return (target, found.flip(0), *rest)

    patch.setattr(reading.OperatorReader, "read", off)


def indices(patch: pytest.MonkeyPatch) -> None:
    deliver = LoaderRecord.deliver
    patch.setattr(LoaderRecord, "deliver", lambda self, drawn, data: deliver(self, drawn[::-1], data))


@pytest.mark.parametrize("spoil", [values, indices])
def test_what_is_wrong_is_found(spoil: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    judge(Case("plain", plain, "index", ""))
    spoil(monkeypatch)
    with pytest.raises(AssertionError):
        judge(Case("plain", plain, "index", ""))


def test_less_than_expected_is_found() -> None:
    with pytest.raises(AssertionError, match="index"):
        judge(Case("plain", plain, "exact", ""))


def test_training_that_is_changed_is_found() -> None:
    runs: list[int] = []

    def changed(witness: Witness) -> Any:
        runs.append(1)
        return {**plain(witness), "runs": torch.tensor(len(runs))}

    with pytest.raises(AssertionError, match="watching changes"):
        judge(Case("changed", changed, "index", ""))


def test_a_framework_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped where tests must be quick; a failure where all must run."""
    monkeypatch.delenv("ONTHEFLY_FULL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no_such_framework"):
        need("torch", "no_such_framework")
    monkeypatch.setenv("ONTHEFLY_FULL", "1")
    with pytest.raises(ModuleNotFoundError, match="no_such_framework"):
        need("torch", "no_such_framework")
    need("torch")
