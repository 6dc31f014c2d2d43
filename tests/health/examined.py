"""Examines small loops in this process, through the real gate and instruments; and the same loop without us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from onthefly.protocol import Checked, HealthResult
from tests.actions.desk import Commander, desk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Training:
    """A loop over 40 samples in batches of four, three numbers each, into two classes; parts may be replaced."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        self.model: Any = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
        self.inputs = torch.randn(40, 3)
        self.targets = torch.arange(40) % 2
        self.dataset: Any = TensorDataset(self.inputs, self.targets)
        self.loss: Any = nn.functional.cross_entropy
        self.rate = 0.05
        self.optimizer: Any = None
        self.others: list[Any] = []
        """Further loaders, kept, and iterated once before training."""
        self.kept: list[Any] = []
        self.after: Callable[[Training, int, Any], None] = lambda training, step, loss: None
        """Called before an optimizer steps."""

    def run(self, commander: Commander | None, at: dict[int, list[tuple[str, dict[str, Any]]]], epochs: int = 1) -> Any:
        """What the run ends with; commands before a step's end."""
        self.optimizer = self.optimizer or torch.optim.AdamW(self.model.parameters(), self.rate)
        for loader in self.others:
            self.kept.append(next(iter(loader)))
        loader = DataLoader(self.dataset, 4, shuffle=True)
        step = 0
        for _ in range(epochs):
            for inputs, targets in loader:
                self.optimizer.zero_grad()
                loss = self.loss(self.model(inputs), targets)
                loss.backward()
                self.after(self, step, loss)
                if commander is not None:
                    for name, args in at.get(step, []):
                        commander.send(name, **args)
                self.optimizer.step()
                step += 1
        return [parameter.detach().clone() for parameter in self.model.parameters()] + [torch.get_rng_state()]


PAUSED_AT = 6


def examine(
    folder: Path, training: Training, *checks: str, seconds: float = 20.0, pure: bool = False
) -> dict[str, HealthResult]:
    """What the checks say of it at a pause; with ``pure``, also that the run ends as it would have without them."""
    commands: dict[int, list[tuple[str, dict[str, Any]]]] = {
        PAUSED_AT: [("pause", {}), ("health", {"checks": list(checks), "seconds": seconds}), ("resume", {})],
        PAUSED_AT + 1: [("resume", {})],
    }
    with desk(ONTHEFLY_DATA_DIR=str(folder)) as commander:
        ended = training.run(commander, commands)
        for answer in commander.answers()[:2]:
            assert answer.status == "applied", answer
    results = {message.result.check: message.result for message in commander.kept.messages
               if isinstance(message, Checked)}  # fmt: skip
    assert set(results) == set(checks), commander.answers()
    if pure:
        again = type(training)()
        assert all(torch.equal(one, two) for one, two in zip(ended, again.run(None, {}))), "the run is another"
    return results


def verdict(folder: Path, training: Training, check: str, **options: Any) -> HealthResult:
    """Of one check."""
    return examine(folder, training, check, **options)[check]
