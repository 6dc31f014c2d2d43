"""accelerate: prepared loaders fetch one batch ahead; its own backward divides by the accumulation's steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.fidelity.brute import dataset
from tests.frameworks.harness import Cases, State, Witness, content, judge, load, need

need("accelerate")

CASES = Cases()


def train(witness: Witness, **options: Any) -> State:
    """The loop of accelerate's documentation."""
    accelerator = load("accelerate").Accelerator(cpu=True, **options)
    data, model = dataset("class"), nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    witness.attend(model, content(data.tensors[0]), lambda samples, output: F.cross_entropy(
        output, data.tensors[1][samples], reduction="none"))  # fmt: skip
    model, optimizer, loader = accelerator.prepare(
        model, torch.optim.SGD(model.parameters(), 0.1), DataLoader(data, 8, shuffle=True)
    )
    for _ in range(2):
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(x), y))
                optimizer.step()
                optimizer.zero_grad()
    state = [model.state_dict(), optimizer.state_dict()]
    for shared in ("AcceleratorState", "GradientState", "PartialState"):
        getattr(load("accelerate.state"), shared)._reset_state()
    return state


@CASES.add("accelerate: prepare and backward, one batch fetched ahead", "index")
def prepared(witness: Witness) -> State:
    return train(witness)


@CASES.add("accelerate: gradient_accumulation_steps=3", "index")
def accumulated(witness: Witness) -> State:
    return train(witness, gradient_accumulation_steps=3)


@CASES.add("accelerate: mixed_precision bf16", "index")
def mixed(witness: Witness) -> State:
    return train(witness, mixed_precision="bf16")


@CASES.add("accelerate: dispatch_batches, one process reads for all", "they are not samples")
def dispatched(witness: Witness) -> State:
    configuration = load("accelerate.utils").DataLoaderConfiguration(dispatch_batches=True)
    return train(witness, dataloader_config=configuration)


@CASES.add("accelerate: gradient_accumulation_steps=3, split_batches", "index")
def split(witness: Witness) -> State:
    configuration = load("accelerate.utils").DataLoaderConfiguration(split_batches=True)
    return train(witness, dataloader_config=configuration, gradient_accumulation_steps=3)


@pytest.mark.parametrize("name", CASES.marked())
def test_what_is_captured(name: str) -> None:
    judge(CASES[name])
