"""The loops that ``Trainer`` must equal to the bit, written by hand, and what is compared."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset, WeightedRandomSampler

if TYPE_CHECKING:
    from collections.abc import Callable


class Parts(NamedTuple):
    """What a training is made of."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: DataLoader[Any]
    valid: DataLoader[Any]


def parts(*, sampler: str = "shuffle", batch_size: int = 8, count: int = 60, dropout: float = 0.2) -> Parts:
    """A small network with BatchNorm and dropout, 60 samples in batches of 8, 20 more for validation."""
    torch.manual_seed(0)
    random.seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))
    data = TensorDataset(torch.randn(count, 5), torch.randint(0, 3, (count,)))
    if sampler == "shuffle":
        loader: DataLoader[Any] = DataLoader(data, batch_size, shuffle=True)
    elif sampler == "weighted":
        loader = DataLoader(data, batch_size, sampler=WeightedRandomSampler([1.0 + n for n in range(count)], count))
    elif sampler == "batch_sampler":
        loader = DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), batch_size, drop_last=False))
    else:
        loader = DataLoader(data, batch_size)
    valid = DataLoader(TensorDataset(torch.randn(20, 5), torch.randint(0, 3, (20,))), batch_size)
    return Parts(model, torch.optim.AdamW(model.parameters(), 0.01), loader, valid)


def train(
    given: Parts,
    epochs: int,
    *,
    loss: Callable[[nn.Module, Any], Any] = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
    after_step: Callable[[int], bool | None] = lambda step: None,
    after_epoch: Callable[[float | None], None] = lambda result: None,
    clip: float | None = None,
    amp: bool = False,
    validate: bool = False,
) -> list[float]:
    """The loop; ``after_step`` says whether to end. Gives the validation losses."""
    model, optimizer, step, found = given.model, given.optimizer, 0, []
    for _ in range(epochs):
        model.train()
        ends = False
        for batch in given.loader:
            optimizer.zero_grad()
            with torch.autocast("cpu") if amp else contextlib.nullcontext():
                value = loss(model, batch)
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            step += 1
            ends = bool(after_step(step))
            if ends:
                break
        result = None
        if validate:
            model.eval()
            with torch.no_grad():
                values = [(loss(model, batch).item(), len(batch[1])) for batch in given.valid]
            result = sum(value * count for value, count in values) / sum(count for _, count in values)
            found.append(result)
        after_epoch(result)
        if ends:
            break
    return found


def state(given: Parts) -> dict[str, Any]:
    """Everything that training leaves behind, to the bit."""
    found: dict[str, Any] = {f"model.{name}": value.clone() for name, value in given.model.state_dict().items()}
    for number, entry in given.optimizer.state_dict()["state"].items():
        found.update({f"optimizer.{number}.{name}": torch.as_tensor(value).clone() for name, value in entry.items()})
    groups = given.optimizer.param_groups
    found["lr"] = torch.tensor([group["lr"] for group in groups], dtype=torch.float64)
    found["random"] = torch.get_rng_state()
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of what is not equal bit for bit (NaN equals itself)."""
    assert one.keys() == other.keys()
    return [name for name in one if not _same(one[name], other[name])]


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))
