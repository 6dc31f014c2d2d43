"""Brute force beside a watched loop: the loss of each sample with ``reduction="none"``, and which sample it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.watching import Row


def dataset(kind: str, count: int = 53, dtype: torch.dtype = torch.float32) -> TensorDataset:
    """Vectors of 6 and a target of this kind; 53 is no multiple of a batch, so that the last one is short."""
    generator = torch.Generator().manual_seed(7)
    value = torch.randn(count, 4, generator=generator)
    targets: dict[str, torch.Tensor] = {
        "class": torch.randint(0, 4, (count,), generator=generator),
        "value": value,
        "single": value[:, 0].clone(),
        "column": value[:, :1].clone(),
        "flag": torch.rand(count, 4, generator=generator).round(),
        "share": torch.softmax(value, 1),
        "log share": torch.log_softmax(value, 1),
        "count": torch.poisson(value.exp(), generator=generator),
        "pixels": torch.softmax(torch.randn(count, 4, 3, generator=generator), 1),
    }
    target = targets[kind]
    inputs = torch.randn(count, 6, generator=generator)
    return TensorDataset(inputs, target.to(dtype) if target.is_floating_point() else target)


class Truth:
    """What a loop knows of itself: the loss of each sample, computed beside it, and which sample it is."""

    def __init__(self, data: TensorDataset) -> None:
        self._rows = {tuple(row): index for index, row in enumerate(data.tensors[0].tolist())}
        self.indices: list[list[int]] = []
        self.losses: list[torch.Tensor] = []

    def add(self, x: torch.Tensor, each: torch.Tensor) -> None:
        """A batch, and the loss of each element of it."""
        self.indices.append([self._rows[tuple(row)] for row in x.tolist()])
        self.losses.append(each.detach().reshape(len(x), -1).clone())

    def check(self, rows: list[Row], *, factor: float = 1.0, summed: bool = False, identity: str = "index") -> None:
        """Every record equals this bit for bit, as float32, and is certified."""
        assert len(rows) == len(self.losses)
        for row, indices, each in zip(rows, self.indices, self.losses):
            assert row.samples == (indices if identity == "index" else [-1] * len(indices))
            value = each.reshape(-1) if each.shape[1] == 1 else (each.sum(1) if summed else each.mean(1))
            found, expected = torch.tensor(row.losses), (value * factor).float()
            assert found.shape == expected.shape, row.reason
            assert expected.isfinite().all(), "a loop that diverged would prove nothing"
            assert torch.equal(found, expected)
            assert (row.certificate, row.identity) == ("exact", identity)


def train(
    loader: DataLoader[Any],
    loss: Callable[..., torch.Tensor],
    truth: Truth,
    reduce: Callable[..., torch.Tensor],
    dtype: torch.dtype = torch.float32,
    rate: float = 0.1,
    autocast: bool = False,
) -> list[Row]:
    """Two epochs; ``reduce(x, y)`` is what the script back-propagates."""
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    with watched() as kept:
        for _ in range(2):
            for x, y in loader:
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    with torch.no_grad():
                        truth.add(x, loss(model(x).to(dtype), y, "none"))
                    reduced = reduce(model(x).to(dtype), y)
                reduced.backward()
                optimizer.step()
    return kept.rows()
