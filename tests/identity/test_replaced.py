"""Tensors of a batch whose memory the script replaces: no version counter tells, the storage does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.identity.truth import Numbers
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable


def by_data(y: torch.Tensor) -> torch.Tensor:
    y.data = y.flip(0)
    return y


def by_data_twice(y: torch.Tensor) -> torch.Tensor:
    """The second may lie where the first lay before."""
    y.data = y.flip(0)
    y.data = y.roll(1)
    return y


def by_set(y: torch.Tensor) -> torch.Tensor:
    return y.set_(y.flip(0).untyped_storage(), 0, y.shape)  # type: ignore[arg-type]


def of_a_copy(y: torch.Tensor) -> torch.Tensor:
    copy = y.double()
    copy.data = copy.flip(0)
    return copy.float()


def of_a_view(y: torch.Tensor) -> torch.Tensor:
    view = y[:]
    view.data = y.flip(0)
    return view


REPLACED: list[Callable[[torch.Tensor], torch.Tensor]] = [by_data, by_data_twice, by_set, of_a_copy, of_a_view]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("replace", REPLACED)
def test_rows_that_were_replaced_have_no_index(replace: Callable[..., torch.Tensor], ahead: bool) -> None:
    """Also where the next batch is there already, so that the one that is learned is not the newest."""
    model = nn.Linear(2, 1)
    with watched() as kept:
        batches: Any = iter(DataLoader(Numbers(20), 4))
        held = [next(batches)] if ahead else []
        for batch in batches:
            held.append(batch)
            y = held.pop(0)[1]
            F.mse_loss(
                model(torch.ones(4, 2))[:, 0], replace(y.float()) if replace is of_a_copy else replace(y)
            ).backward()
    assert {row.identity for row in kept.rows()} == {"none"}
