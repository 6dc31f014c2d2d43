"""Accuracy of single batches against brute force, and how often it is measured."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from onthefly.capture import accuracy
from onthefly.protocol import Metrics
from tests.fidelity.brute import dataset
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.watching import Kept

LOSSES: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], int]] = {
    "plain": (F.cross_entropy, -100),
    "nll": (lambda x, y: F.nll_loss(F.log_softmax(x, 1), y), -100),
    "ignore_index": (lambda x, y: F.cross_entropy(x, y, ignore_index=2), 2),
    "smoothed": (lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1), -100),
    "smoothed, ignore_index": (lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1, ignore_index=1), 1),
    "by hand, scaled": (lambda x, y: F.cross_entropy(x, y, reduction="none").mean() / 2, -100),
}


def found(kept: Kept) -> dict[int, float]:
    """Accuracy by step; steps that were not measured have none."""
    values: dict[int, float] = {}
    for message in kept.messages:
        if isinstance(message, Metrics) and "accuracy" in message.values:
            assert len(message.time) == len(message.step)
            values.update(zip(array("q", message.step), array("d", message.values["accuracy"])))
    return values


def loop(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], ignored: int = -100) -> list[float]:
    """Train, and count right answers by hand."""
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    shares = []
    for x, y in DataLoader(dataset("class"), 8, shuffle=True):
        optimizer.zero_grad()
        logits = model(x)
        pairs = [(int(guess), int(right)) for guess, right in zip(logits.argmax(1), y) if right != ignored]
        shares.append(sum(guess == right for guess, right in pairs) / len(pairs))
        loss(logits, y).backward()
        optimizer.step()
    return shares


@pytest.mark.parametrize("name", LOSSES)
def test_every_batch_when_there_is_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "PERIOD_NS", 0)
    monkeypatch.setattr(accuracy, "SHARE", 0)
    loss, ignored = LOSSES[name]
    with watched() as kept:
        shares = loop(loss, ignored)
    values = found(kept)
    assert list(values) == list(range(7))
    assert list(values.values()) == shares
    assert len(set(shares)) > 2


def test_ten_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven steps take less than the pause after the first one, whatever this machine does: it is made long."""
    monkeypatch.setattr(accuracy, "PERIOD_NS", 3600 * 10**9)
    with watched() as kept:
        shares = loop(F.cross_entropy)
    assert found(kept) == {0: shares[0]}
    hits = torch.zeros(1000, 10), torch.zeros(1000, dtype=torch.int64), torch.ones(1000, dtype=torch.bool)
    sent: list[Any] = []
    accuracies = accuracy.Accuracies(sent.append)
    monkeypatch.setattr(accuracy, "PERIOD_NS", 100)
    monkeypatch.setattr(accuracy, "SHARE", 0)
    assert accuracies.measure(hits, 3, 1, 7) == 7 + 10_000, "an element is a nanosecond"
    monkeypatch.setattr(accuracy, "PERIOD_NS", 20_000)
    assert accuracies.measure(hits, 4, 1, 7) == 7 + 20_000
    monkeypatch.setattr(accuracy, "SHARE", 10**6)
    assert accuracies.measure(hits, 5, 1, 7) > 10**9, "a measurement is followed by a pause as many times as long"
    accuracies.send("run", wait=False)
    accuracies.send("run", wait=True)
    (message,) = sent
    assert list(array("q", message.step)) == [3, 4, 5]
    assert list(array("d", message.values["accuracy"])) == [1.0] * 3


def test_rows_that_are_all_ignored_have_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "PERIOD_NS", 0)
    model = nn.Linear(6, 4)
    with watched() as kept:
        for x, y in DataLoader(dataset("class", 8), 8):
            F.cross_entropy(model(x), torch.full_like(y, -100)).backward()
    (value,) = kept.metric("accuracy")
    assert value != value


def test_losses_without_classes_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "PERIOD_NS", 0)
    model = nn.Linear(6, 4)
    with watched() as kept:
        for x, y in DataLoader(dataset("share", 16), 8):
            F.mse_loss(model(x), y).backward()
            F.cross_entropy(model(x), y).backward()
    assert {row.certificate for row in kept.rows()} == {"exact"}
    assert found(kept) == {}
