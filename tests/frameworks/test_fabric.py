"""Lightning Fabric: a plain loop whose parts are set up; Lightning itself is in ``tests/lightning``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.fidelity.brute import dataset
from tests.frameworks.harness import Cases, State, Witness, content, judge, load, need

need("lightning")

CASES = Cases()


def train(witness: Witness, divisor: int = 1, **options: Any) -> State:
    """The loop of Fabric's documentation."""
    fabric = load("lightning.fabric").Fabric(accelerator="cpu", devices=1, **options)
    data, model = dataset("value"), nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    witness.attend(model, content(data.tensors[0]),
                   lambda samples, output: F.mse_loss(output, data.tensors[1][samples], reduction="none"))  # fmt: skip
    prepared, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), 0.1))
    loader: Any = fabric.setup_dataloaders(DataLoader(data, 8, shuffle=True))
    for _ in range(2):
        for number, (x, y) in enumerate(loader):
            with fabric.no_backward_sync(prepared, enabled=number % divisor != 0):
                fabric.backward(F.mse_loss(prepared(x), y) / divisor)
            if number % divisor == 0:
                optimizer.step()
                optimizer.zero_grad()
    return [model.state_dict(), optimizer.state_dict()]


@CASES.add("Lightning Fabric: setup and backward", "index")
def plain(witness: Witness) -> State:
    return train(witness)


@CASES.add("Lightning Fabric: accumulation of two batches", "index")
def accumulated(witness: Witness) -> State:
    return train(witness, divisor=2)


@CASES.add("Lightning Fabric: bf16-mixed", "index")
def mixed(witness: Witness) -> State:
    return train(witness, precision="bf16-mixed")


@pytest.mark.parametrize("name", CASES.marked())
def test_what_is_captured(name: str) -> None:
    judge(CASES[name])
