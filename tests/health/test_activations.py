"""The check of activations: dead and saturated units, of modules and of functions; no hook is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from tests.health.examined import Training, verdict

if TYPE_CHECKING:
    from pathlib import Path


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_a_sound_step_is_good_and_leaves_no_hook(tmp_path: Path) -> None:
    training = Training()
    seen: list[int] = []
    training.after = lambda training, step, loss: seen.append(hooks(training.model))
    found = verdict(tmp_path, training, "activations")
    assert found.verdict == "good", found
    assert seen[7] > 0
    assert sum(seen) == seen[7], "hooks stay longer than for one step"
    assert hooks(training.model) == 0
    assert 0 < float(found.rows[0]["zeros"] or 0) < 1


def test_the_run_is_bit_for_bit_what_it_would_have_been(tmp_path: Path) -> None:
    verdict(tmp_path, Training(), "activations", pure=True)


class Functional(nn.Module):
    """Its ReLU is a function."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 2)
        nn.init.constant_(self.first.bias, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


def of(*layers: nn.Module) -> Training:
    training = Training()
    training.rate = 0.001
    training.model = nn.Sequential(*layers)
    return training


def dead(bias: float, units: int) -> nn.Module:
    layer = nn.Linear(3, 8)
    with torch.no_grad():
        layer.bias[:units] = bias
    return layer


CASES: list[tuple[Any, str, str]] = [
    (lambda: of(dead(-50.0, 8), nn.ReLU(), nn.Linear(8, 2)), "bad", "1 gives 100.0% zeros"),
    (lambda: of(dead(-50.0, 5), nn.ReLU(), nn.Linear(8, 2)), "warning", "62% of its units nothing else"),
    (lambda: of(dead(50.0, 8), nn.Sigmoid(), nn.Linear(8, 2)), "warning", "what 1 gives is at the end of its range"),
    (lambda: of(dead(-50.0, 6), nn.Tanh(), nn.Linear(8, 2)), "warning", "end of its range"),
    (lambda: of(Functional(-50.0)), "bad", "functions give 100.0% zeros"),
    (lambda: of(Functional(0.0)), "good", "functions give"),
    (lambda: of(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)), "good", "no unit of 1 activation module is dead"),
    (lambda: of(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 2)), "unknown", "no activation module"),
]


@pytest.mark.parametrize(("make", "kind", "says"), CASES)
def test_what_is_planted_is_found(tmp_path: Path, make: Any, kind: str, says: str) -> None:
    found = verdict(tmp_path, make(), "activations")
    assert found.verdict == kind, found
    assert says in found.says
    assert bool(found.do) == (kind in ("bad", "warning"))


def test_outputs_of_images_are_judged_by_channel(tmp_path: Path) -> None:
    convolution = nn.Conv2d(1, 4, 2)
    with torch.no_grad():
        assert convolution.bias is not None
        convolution.bias[:3], convolution.bias[3] = -50.0, 50.0
    found = verdict(tmp_path, of(nn.Unflatten(1, (1, 1, 3)), nn.Upsample((4, 4)), convolution, nn.ReLU(), nn.Flatten(),
                                 nn.Linear(36, 2)), "activations")  # fmt: skip
    assert found.rows[0]["dead_units"] == 0.75
