"""The check of gradients: exploding, vanishing, missing, and steps that move too much or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from tests.health.examined import Training, verdict

if TYPE_CHECKING:
    from pathlib import Path


def test_a_sound_step_is_good_and_the_run_stays_what_it_is(tmp_path: Path) -> None:
    training = Training()
    norms: list[float] = []

    def note(training: Training, step: int, loss: Any) -> None:
        norms.append(float(torch.stack([p.grad.norm() for p in training.model.parameters()]).norm()))

    training.rate, training.after = 0.003, note
    found = verdict(tmp_path, training, "gradients")
    assert found.verdict == "good", found
    assert found.numbers["norm"] == pytest.approx(norms[7])  # the step after the one at whose end it was asked
    assert [row["name"] for row in found.rows] == ["0", "3"]


def test_the_run_is_bit_for_bit_what_it_would_have_been(tmp_path: Path) -> None:
    verdict(tmp_path, Training(), "gradients", pure=True)


def test_the_ratio_is_that_of_the_step(tmp_path: Path) -> None:
    training = Training()
    training.optimizer = torch.optim.SGD(training.model.parameters(), 0.1)
    seen: list[list[torch.Tensor]] = []

    def note(training: Training, step: int, loss: Any) -> None:
        seen.append([parameter.detach().clone() for parameter in training.model[3].parameters()])

    training.after = note
    found = verdict(tmp_path, training, "gradients")
    before, after = (torch.cat([part.flatten() for part in seen[step]]) for step in (7, 8))
    row = next(row for row in found.rows if row["name"] == "3")
    assert row["ratio"] == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)


def faulty(name: str) -> Training:
    training = Training()
    if name == "exploding":
        training.loss = lambda output, target: 1e6 * nn.functional.cross_entropy(output, target)
    elif name == "not finite":
        training.loss = lambda output, target: output.sum() * float("inf")
    elif name == "zero":
        training.loss = lambda output, target: (output * 0).sum()
    elif name == "too far":
        training.rate = 5.0
    elif name == "vanishing":
        training.model = nn.Sequential(nn.Linear(3, 8), nn.Sigmoid(), Shrink(), nn.Linear(8, 2))
    elif name == "missing":
        training.model = Half()
    else:
        training.optimizer = torch.optim.SGD(training.model.parameters(), 1e-12)
    return training


class Shrink(nn.Module):
    """Lets next to nothing of a gradient through."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1e-7


class Half(nn.Module):
    """Uses one of its two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("exploding", "bad", "explode"), ("not finite", "bad", "not finite"), ("zero", "bad", "zero"),
        ("too far", "warning", "of its weights in one step"), ("vanishing", "warning", "vanish in 0"),
        ("missing", "warning", "unused got no gradient"), ("standing still", "warning", "hardly moves"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(tmp_path: Path, name: str, kind: str, says: str) -> None:
    found = verdict(tmp_path, faulty(name), "gradients")
    assert found.verdict == kind, found
    assert says in found.says
    assert found.do
