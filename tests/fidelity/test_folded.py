"""Large tensors that a script reduces by hand are not held until backward: what is kept of them gives the same values.

Here everything counts as large, so that all loops and shapes come by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from onthefly.capture import noted
from tests import loops
from tests.fidelity.brute_force import BruteForce
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

N, B = 24, 8


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what was folded."""
    monkeypatch.setattr(noted, "LARGE", 0)
    monkeypatch.setattr(noted, "MAX_FOLDED", 4)
    folded: list[tuple[int, ...]] = []
    fold = noted.Noted.fold

    def told(self: noted.Noted, node: Any, result: Tensor, elements: Tensor) -> bool:
        done = fold(self, node, result, elements)
        if done:
            folded.append(tuple(elements.shape))
        return done

    monkeypatch.setattr(noted.Noted, "fold", told)
    return folded


@pytest.mark.parametrize("name", loops.LOOPS)
def test_no_loop_is_read_wrongly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = BruteForce(monkeypatch)
    with watched() as kept:
        loops.run(name)
    truth.check(kept.rows())


SHAPES: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor], int]] = {
    "maps": ((3, 4, 5), lambda out: out.view(-1, 3, 4, 5), 0),
    "rows": ((60,), lambda out: out, 0),
    "time first": ((3, 20), lambda out: out.view(-1, 3, 20).transpose(0, 1), 1),
    "flattened": ((3, 20), lambda out: out.view(-1, 3, 20).flatten(0, 1), 0),
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", SHAPES)
def test_of_every_shape(everything_is_large: list[tuple[int, ...]], name: str, reduction: str) -> None:
    """Exact where the samples lie along the first axis, and where they do not either right or without values."""
    _, shaped, axis = SHAPES[name]
    torch.manual_seed(0)
    inputs, targets = torch.randn(N, 6), torch.randn(N, 60)
    model, truth = nn.Linear(6, 60), list[Any]()
    numbered = TensorDataset(inputs, targets, torch.arange(N))
    with watched() as kept:
        for x, y, index in DataLoader(numbered, B, shuffle=True):
            each = (shaped(model(x)) - shaped(y)) ** 2
            parts = each.detach().movedim(axis, 0).reshape(B, -1)
            truth.append((index.tolist(), parts.mean(1) if reduction == "mean" else parts.sum(1)))
            getattr(each, reduction)().backward()
    assert len(everything_is_large) == N // B
    assert len(kept.rows()) == N // B
    for row, (samples, losses) in zip(kept.rows(), truth):
        if name == "time first" and row.certificate == "none":
            continue
        assert (row.certificate, row.samples) == ("exact", samples)
        assert torch.allclose(torch.tensor(row.losses), losses, rtol=1e-5)
        assert row.valid == [60] * B
