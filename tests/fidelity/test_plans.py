"""Losses of a known form are read by a plan: what is recorded is what the full reading records, loss by loss."""

from __future__ import annotations

import ctypes
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from onthefly.capture import leaves
from onthefly.capture.plans import Plan, Plans
from onthefly.capture.reading import cascaded
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.watching import Row

ROWS, STEPS = 6, 12


class Net(nn.Module):
    """Classes [B, 4] and values [B, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.values = nn.Linear(5, 8), nn.Linear(8, 4), nn.Linear(8, 5)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.body(x).relu()
        return self.head(hidden), self.values(hidden)


Given = Any
"""Network, its classes and values, inputs, targets that are classes, targets that are values, and chance."""

CASES: dict[str, Callable[[Given], torch.Tensor]] = {
    "cross entropy": lambda g: F.cross_entropy(g.out, g.y),
    "summed": lambda g: F.cross_entropy(g.out, g.y, reduction="sum"),
    "some ignored": lambda g: F.cross_entropy(g.out, g.y, ignore_index=2),
    "values": lambda g: F.mse_loss(g.values, g.t),
    "values in a sum": lambda g: F.mse_loss(g.values, g.t, reduction="sum"),
    "values cast": lambda g: F.mse_loss(g.values.double(), g.t.double()),
    "huber": lambda g: F.huber_loss(g.values, g.t, delta=0.5),
    "logits": lambda g: F.binary_cross_entropy_with_logits(g.values, g.t.sigmoid()),
    "scaled": lambda g: F.cross_entropy(g.out, g.y) * 0.3,
    "divided by the rows": lambda g: F.cross_entropy(g.out, g.y, reduction="sum") / len(g.x),
    "two": lambda g: F.cross_entropy(g.out, g.y) + 0.5 * F.mse_loss(g.values, g.t),
    "two sums": lambda g: F.cross_entropy(g.out, g.y, reduction="sum") - F.mse_loss(g.values, g.t, reduction="sum") / 3,
    "mean and sum": lambda g: F.cross_entropy(g.out, g.y) + 0.1 * F.mse_loss(g.values, g.t, reduction="sum"),
    "two, some ignored": lambda g: (F.cross_entropy(g.out, g.y, ignore_index=1) * 2 + F.mse_loss(g.values, g.t)) / 4,
    "three": lambda g: F.cross_entropy(g.out, g.y) + F.mse_loss(g.values, g.t) * 0.5 - F.smooth_l1_loss(g.values, g.t),
    "penalty": lambda g: F.cross_entropy(g.out, g.y) + 1e-2 * g.net.body.weight.pow(2).sum(),
    "penalties": lambda g: F.mse_loss(g.values, g.t) + 1e-2 * sum(p.abs().sum() for p in g.net.parameters()),
    "learned weight": lambda g: F.cross_entropy(g.out, g.y) * g.net.scale,
    "absolute": lambda g: F.l1_loss(g.values, g.t),
    "poisson": lambda g: F.poisson_nll_loss(g.values, g.t.exp()),
    "by hand": lambda g: ((g.values - g.t) ** 2).mean(),
    "by hand, summed": lambda g: (g.values - g.t).abs().sum() / len(g.x),
    "by hand, by sample": lambda g: ((g.values - g.t) ** 2).mean(1).mean(),
    "by hand, masked": lambda g: (((g.values - g.t) ** 2) * (g.t > 0)).sum() / (g.t > 0).sum(),
    "autoencoder": lambda g: F.mse_loss(g.values, g.x) + F.l1_loss(g.values, g.x),
    "weights of classes": lambda g: F.cross_entropy(g.out, g.y, weight=torch.arange(1.0, 5)),
}
"""All end in a single number; each is computed at each step."""


def _turned(g: Given) -> torch.Tensor:
    """Rows in another order, where the target is the batch's own: no index is proven, or the right one."""
    g.t.copy_(g.t.flip(0))
    return F.mse_loss(g.values, g.t)


MIXED: dict[str, list[Callable[[Given], torch.Tensor]]] = {
    "options": [
        lambda g: F.cross_entropy(g.out, g.y),
        lambda g: F.cross_entropy(g.out, g.y, reduction="sum"),
        lambda g: F.cross_entropy(g.out, g.y, ignore_index=2),
        lambda g: F.cross_entropy(g.out, g.y, weight=torch.arange(1.0, 5)),
        lambda g: F.cross_entropy(g.out[:, :3], g.y.clamp(max=2)),
    ],
    "targets": [
        lambda g: F.mse_loss(g.values, g.t),
        lambda g: F.mse_loss(g.values, g.x),
        lambda g: F.mse_loss(g.values, g.t.flip(0)),
        lambda g: F.mse_loss(g.values, g.t.clone()),
        lambda g: F.mse_loss(g.values[:3], g.t[:3]),
        lambda g: F.mse_loss(g.values.t(), g.t.t()),
        _turned,
    ],
    "numbers": [
        lambda g: F.cross_entropy(g.out, g.y, reduction="sum") / g.chance.choice([2, ROWS, 5.0]),
        lambda g: F.cross_entropy(g.out, g.y, reduction="sum") / torch.tensor([2.0]),
        lambda g: F.cross_entropy(g.out, g.y, reduction="sum") / torch.tensor(3.0, dtype=torch.float64),
    ],
    "sums": [
        lambda g: torch.add(F.cross_entropy(g.out, g.y), F.mse_loss(g.values, g.t), alpha=g.chance.choice([1, 2])),
        lambda g: F.cross_entropy(g.out, g.y) + F.mse_loss(g.values, g.t.flip(0)),
        lambda g: F.cross_entropy(g.out, g.y) + F.mse_loss(g.net.scale.view(1), torch.zeros(1)),
        lambda g: F.cross_entropy(g.out, g.y) + 1,
    ],
    "by hand": [
        lambda g: ((g.values - g.t) ** 2).mean(),
        lambda g: ((g.values.flip(0) - g.t) ** 2).mean(),
        lambda g: ((g.values.t().reshape(len(g.x), 5) - g.t) ** 2).mean(),
        lambda g: ((g.net(g.x.flip(0))[1] - g.t) ** 2).mean(),
        lambda g: ((g.net(g.x * 2)[1] - g.t) ** 2).mean(),
        lambda g: ((g.values[:, None].expand(len(g.x), 1, 5) - g.t[:, None]) ** 2).mean(),
        lambda g: ((g.values - g.t) ** 2).mean(),
    ],
}
"""Of these, each step takes one by chance: what the one before was says nothing of it."""


class _Given:
    def __init__(self, net: Net, batch: tuple[torch.Tensor, ...], chance: random.Random) -> None:
        self.net, self.chance = net, chance
        self.x, self.y, self.t = batch
        self.out, self.values = net(self.x)


def rows_of(losses: list[Callable[[Given], torch.Tensor]], seed: int) -> list[Row]:
    """What is recorded of a loop whose steps take one of these losses by chance."""
    torch.manual_seed(seed)
    net, chance = Net(), random.Random(seed)
    count = ROWS * STEPS + 2  # the last batch is smaller
    data = TensorDataset(torch.randn(count, 5), torch.randint(0, 4, (count,)), torch.randn(count, 5))
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with watched() as kept:
        for batch in DataLoader(data, ROWS, shuffle=True):
            optimizer.zero_grad()
            chance.choice(losses)(_Given(net, batch, chance)).backward()
            optimizer.step()
    return kept.rows()


def compare(losses: list[Callable[[Given], torch.Tensor]], seed: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The same loop with plans and without; how many losses were read by one."""
    taken: list[int] = []
    take = Plan.take

    def counted(*given: Any) -> int:
        slot = take(*given)
        taken.append(slot)
        return slot

    with monkeypatch.context() as patch:
        patch.setattr(Plan, "take", counted)
        planned = rows_of(losses, seed)
    with monkeypatch.context() as patch:
        patch.setattr(Plans, "learn", lambda *given: None)
        full = rows_of(losses, seed)
    assert len(planned) == len(full) == STEPS + 1
    for one, other in zip(planned, full):
        for name in ("loss", "certificate", "reason", "identity", "samples", "valid", "step", "epoch", "phase"):
            assert getattr(one, name) == getattr(other, name), name
        for name in ("losses", "confidence", "margin"):
            assert list(getattr(one, name)) == pytest.approx(list(getattr(other, name)), rel=1e-6, nan_ok=True), name
        assert one.shared == pytest.approx(other.shared, rel=1e-6)
        assert one.components.keys() == other.components.keys()
        for name, column in one.components.items():
            assert list(column) == pytest.approx(list(other.components[name]), rel=1e-6), name
    return sum(slot >= 0 for slot in taken)


FULL = {"weights of classes", "learned weight", "by hand, masked", "logits"}
"""What is read in full at each step."""


@pytest.mark.parametrize("name", CASES)
def test_a_plan_records_what_the_full_reading_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = compare([CASES[name]], 3, monkeypatch)
    assert planned == (0 if name in FULL else STEPS - 1)


@pytest.mark.parametrize("name", MIXED)
def test_forms_that_look_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(compare(MIXED[name], seed, monkeypatch) for seed in range(4)) > 0


def test_all_forms_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = [*CASES.values(), *[loss for several in MIXED.values() for loss in several]]
    for seed in range(6):
        compare(losses, seed, monkeypatch)


@pytest.mark.parametrize("rows", [*range(1, 20), 31, 32, 33, 128, 256, 257, 258, 300, 1000, 4113])
def test_elements_are_added_up_in_the_order_of_nll_loss(rows: int) -> None:
    """By bits; a plain sum gives another number in half of the calls."""
    scores, targets = torch.randn(40, rows, 7).log_softmax(2), torch.randint(0, 7, (40, rows))
    elements = torch.stack([F.nll_loss(*call, reduction="none") for call in zip(scores, targets)])
    assert cascaded(elements).tolist() == [
        F.nll_loss(*call, reduction="sum").item() for call in zip(scores, targets)
    ]  # fmt: skip


def test_where_the_order_is_another_one_the_operator_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    number_of = leaves.Leaf.number_of

    def counted(leaf: leaves.Leaf, slot: int) -> torch.Tensor:
        asked.append(slot)
        return number_of(leaf, slot)

    monkeypatch.setattr(leaves.Leaf, "number_of", counted)
    for name in ("cross entropy", "summed", "values", "three", "penalty"):
        compare([CASES[name]], 5, monkeypatch)
    assert not asked
    monkeypatch.setattr(leaves, "cascaded", lambda elements: elements.sum(1) + 1)
    compare([CASES["cross entropy"]], 5, monkeypatch)
    assert len(asked) == STEPS - 1


def test_a_copy_that_is_not_what_the_loss_was_computed_from_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaves, "_move", lambda target, source, size: ctypes.memset(target, 0, size))
    certificates = [row.certificate for row in rows_of([CASES["cross entropy"]], 3)]
    assert certificates.count("exact") == 2  # the first, and the last, which is smaller, are read in full
    assert certificates.count("approximate") == STEPS - 1
