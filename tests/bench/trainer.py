"""Runs under OnTheFly: epochs of a loop by hand and of ``Trainer`` in turn, seconds a step of each, as JSON."""

from __future__ import annotations

import json
import sys
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from onthefly import Trainer

STEPS = 200
"""A fit costs a millisecond or two besides its steps."""


def main() -> None:
    """A step takes some 5 ms."""
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(512, 768), nn.ReLU(), nn.Linear(768, 768), nn.ReLU(), nn.Linear(768, 10))
    loader = DataLoader(TensorDataset(torch.randn(64 * STEPS, 512), torch.randint(0, 10, (64 * STEPS,))), 64)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    loss_fn = nn.CrossEntropyLoss()

    def by_hand() -> None:
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()

    def by_trainer() -> None:
        with Trainer(max_epochs=1) as trainer:
            trainer.fit(model=model, optimizer=optimizer, loss_fn=loss_fn, train_loader=loader)

    def seconds(epoch: object) -> float:
        start = time.perf_counter()
        epoch()  # type: ignore[operator]
        return (time.perf_counter() - start) / STEPS

    seconds(by_hand)
    seconds(by_trainer)
    found: list[tuple[float, float]] = []
    for number in range(int(sys.argv[1])):
        if number % 2:
            found.append((seconds(by_hand), seconds(by_trainer)))
        else:
            theirs = seconds(by_trainer)
            found.append((seconds(by_hand), theirs))
    print(json.dumps(found))


main()
