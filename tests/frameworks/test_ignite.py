"""pytorch-ignite: engines that do the loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.fidelity.brute import dataset
from tests.frameworks.harness import Cases, State, Witness, content, judge, load, need

need("ignite")

CASES = Cases()


def train(witness: Witness, kind: str, loss: Any, each: Any, **options: Any) -> State:
    """Two epochs of a supervised trainer with an evaluator after each."""
    ignite, metrics = load("ignite.engine"), load("ignite.metrics")
    data, model = dataset(kind), nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 4))
    witness.attend(model, content(data.tensors[0]),
                   lambda samples, output: each(output, data.tensors[1][samples]))  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    trainer = ignite.create_supervised_trainer(model, optimizer, loss, **options)
    evaluator = ignite.create_supervised_evaluator(model, metrics={"loss": metrics.Loss(loss)})
    trainer.add_event_handler(ignite.Events.EPOCH_COMPLETED, lambda: evaluator.run(DataLoader(data, 16)))
    trainer.run(DataLoader(data, 8, shuffle=True), max_epochs=2)
    return [model.state_dict(), optimizer.state_dict(), evaluator.state.metrics]


@CASES.add("ignite: create_supervised_trainer, cross entropy", "index")
def classes(witness: Witness) -> State:
    return train(witness, "class", F.cross_entropy, lambda x, y: F.cross_entropy(x, y, reduction="none"))


@CASES.add("ignite: create_supervised_trainer, gradient_accumulation_steps=2", "index")
def accumulated(witness: Witness) -> State:
    return train(witness, "value", F.mse_loss, lambda x, y: F.mse_loss(x, y, reduction="none"),
                 gradient_accumulation_steps=2)  # fmt: skip


@pytest.mark.parametrize("name", CASES.marked())
def test_what_is_captured(name: str) -> None:
    judge(CASES[name])
