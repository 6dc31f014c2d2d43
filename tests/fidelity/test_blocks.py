"""When calls are sent: many together, all of an epoch at its end, but where epochs are over in a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from onthefly.capture import recorder
from onthefly.protocol import Records
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

EPOCHS, STEPS = 60, 2


def epochs() -> Iterator[None]:
    """A training, epoch by epoch."""
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    loader = DataLoader(TensorDataset(torch.randn(8, 3), torch.randint(0, 2, (8,))), 8 // STEPS)
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        yield


def test_short_epochs_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "EPOCH_NS", recorder.SEND_NS)
    with watched() as kept:
        for _ in epochs():
            pass
    assert sum(isinstance(message, Records) for message in kept.messages) < EPOCHS / 2
    assert [(row.epoch, len(row.samples)) for row in kept.rows()] == [
        (epoch, 8 // STEPS) for epoch in range(EPOCHS) for _ in range(STEPS)
    ]


def test_a_longer_one_is_there_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "EPOCH_NS", 0)
    with watched() as kept:
        for epoch, _ in enumerate(epochs()):
            assert len(kept.rows()) == STEPS * (epoch + 1)
