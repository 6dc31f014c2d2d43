"""The check of throughput: a slow loader, a slow optimizer and our own time are told, and a step is divided rightly."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import Dataset

from onthefly.health.scene import Scene, Steps
from onthefly.health.throughput import Throughput
from tests.health.examined import Training, verdict

if TYPE_CHECKING:
    from pathlib import Path


def busy(seconds: float) -> None:
    """Work, without a sleep."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


class Slow(Dataset[Any]):
    """Takes its time for each sample."""

    def __init__(self, training: Training, seconds: float) -> None:
        self.training, self.seconds = training, seconds

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        busy(self.seconds)
        return self.training.inputs[index], self.training.targets[index]


def test_a_slow_loader_is_told(tmp_path: Path) -> None:
    training = Training()
    training.dataset = Slow(training, 0.004)
    found = verdict(tmp_path, training, "throughput")
    assert found.verdict == "bad", found
    assert float(found.numbers["loader_share"] or 0) > 0.5
    assert "num_workers" in found.do


def test_a_step_that_computes_is_good_and_the_run_what_it_was(tmp_path: Path) -> None:
    class Computing(Training):
        def __init__(self) -> None:
            super().__init__()
            self.loss = self.compute

        def compute(self, output: Any, targets: Any) -> Any:
            busy(0.01)
            return torch.nn.functional.cross_entropy(output, targets)

    found = verdict(tmp_path, Computing(), "throughput", pure=True)
    assert found.verdict == "good", found
    assert float(found.numbers["forward_share"] or 0) > 0.6
    shares = [float(value or 0) for name, value in found.numbers.items() if name.endswith("_share")]
    assert sum(shares) == pytest.approx(1.0, abs=0.02)


def test_a_slow_optimizer_is_told(tmp_path: Path) -> None:
    class Heavy(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            busy(0.05)
            return super().step(closure)

    training = Training()
    training.optimizer = Heavy(training.model.parameters(), 0.01)
    found = verdict(tmp_path, training, "throughput")
    assert found.verdict == "warning", found
    assert "optimizer" in found.says


def look(steps: Steps) -> Any:
    check = Throughput(Scene([], [], [], steps=steps))
    check.begin()
    check.backward(())
    check.backward_ended()
    check.before(None)
    return check.end()


def test_our_own_time_is_told_and_few_steps_say_nothing() -> None:
    assert look(Steps([2.0] * 20, [0.0] * 20, [500.0] * 20)).verdict == "good"
    assert look(Steps([2.0] * 50, [0.0] * 50, [500.0] * 50)).verdict == "warning"
    assert look(Steps([2.0] * 50, [0.0] * 50, [20.0] * 50)).verdict == "good"
    assert look(Steps([2.0] * 2, [0.0] * 2, [20.0] * 2)).verdict == "unknown"
