"""Tensors that the script writes into after the loader gave them, where the collate function wrote into them before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.identity.truth import Numbers
from tests.watching import watched


def filling(batch: list[Any]) -> Any:
    """Writes into the labels once for each item, into the mask once, and never into the inputs."""
    y = torch.zeros(len(batch))
    for i, (_, number) in enumerate(batch):
        y[i] = number
    z = torch.tensor([float(number) for _, number in batch])
    z[z == 3] = -100
    return torch.stack([x for x, _ in batch]), y, z


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("which", [1, 2])
def test_written_by_the_collate_function(workers: int, which: int) -> None:
    model, truth = nn.Linear(2, 1), []
    with watched() as kept:
        for batch in DataLoader(Numbers(23), 4, shuffle=True, num_workers=workers, collate_fn=filling):
            truth.append([int(number) for number in batch[1]])
            F.mse_loss(model(batch[0])[:, 0], batch[which]).backward()
    assert [row.samples for row in kept.rows()] == truth


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("times", [1, 3, 4])
def test_written_by_the_script(which: int, times: int) -> None:
    """Whatever number its version counter has come to, of this or of another tensor of the batch."""
    model = nn.Linear(2, 1)
    with watched() as kept:
        for batch in DataLoader(Numbers(11), 4, collate_fn=filling):
            for _ in range(times):
                batch[which].copy_(batch[which].flip(0))
            out = model(torch.ones(len(batch[0]), 2))
            F.mse_loss(out.expand_as(batch[0]) if which == 0 else out[:, 0], batch[which]).backward()
    assert {row.identity for row in kept.rows()} == {"none"}
