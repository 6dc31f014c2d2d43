"""The step, the epoch and the scale of a record, where scripts make them hard to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from onthefly.protocol import Command
from tests.watching import watched

if TYPE_CHECKING:
    from tests.watching import Kept


def flags(count: int = 32) -> TensorDataset:
    return TensorDataset(torch.randn(count, 6), torch.randint(0, 2, (count,)))


def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """With a target that is cast, as binary cross entropy wants it."""
    return F.binary_cross_entropy_with_logits(model(x)[:, 0], y.float())


def epochs(kept: Kept) -> list[int]:
    return [row.epoch for row in kept.rows()]


def test_epochs_of_a_loader_that_is_gone_through() -> None:
    model, loader = nn.Linear(6, 1), DataLoader(flags(), 16)
    with watched() as kept:
        for _ in range(3):
            for x, y in loader:
                loss(model, x, y).backward()
    assert epochs(kept) == [0, 0, 1, 1, 2, 2]


@pytest.mark.xfail(raises=AssertionError, reason="only iterators that were exhausted count as epochs", strict=True)
def test_epochs_that_are_cut_short() -> None:
    model, loader = nn.Linear(6, 1), DataLoader(flags(), 8)
    with watched() as kept:
        for _ in range(3):
            for _, (x, y) in zip(range(2), loader):
                loss(model, x, y).backward()
    assert epochs(kept) == [0, 0, 1, 1, 2, 2]


@pytest.mark.xfail(raises=AssertionError, reason="a target of no batch counts as the newest batch's", strict=True)
def test_a_cast_target_and_validation_in_between() -> None:
    """The loss is of the training loader's first epoch, whatever another loader did since the batch was fetched."""
    model, training, validation = nn.Linear(6, 1), DataLoader(flags(), 8), DataLoader(flags(), 8)
    with watched() as kept:
        for x, y in training:
            for _ in validation:
                pass
            loss(model, x, y).backward()
    assert epochs(kept) == [0] * 4


@pytest.mark.xfail(raises=AssertionError, reason="the scaler's factor is taken for a part of the loss", strict=True)
def test_a_gradient_scaler_is_no_part_of_the_loss() -> None:
    model, seen = nn.Linear(6, 1), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with watched() as kept:
        for x, y in DataLoader(flags(), 8):
            number = loss(model, x, y)
            seen.append(number.item())
            scaler.scale(number).backward()
            scaler.step(optimizer)
            scaler.update()
    assert [sum(row.losses) / len(row.losses) for row in kept.rows()] == pytest.approx(seen)


@pytest.mark.xfail(raises=AssertionError, reason="every step's end is a place to pause, the engine's too", strict=True)
def test_no_pause_inside_a_backward_call() -> None:
    """Where an optimizer steps from a gradient's hook, half of the parameters are new and half are old."""
    weight = torch.ones(4, requires_grad=True)
    optimizer = torch.optim.SGD([weight], 0.1)
    weight.register_post_accumulate_grad_hook(lambda parameter: optimizer.step())  # type: ignore[arg-type, return-value]
    places: list[int] = []
    with watched() as kept:
        gate = kept.session._gate
        serve = kept.session._serve
        kept.session._serve = lambda place: (places.append(torch._C._current_graph_task_id()), serve(place))  # type: ignore[assignment, method-assign]
        for number, name in enumerate(("pause", "resume")):
            gate.submit(Command(n=number, id=name, name=name, args={}, by=""))
        weight.sum().backward()
    assert set(places) <= {-1}
