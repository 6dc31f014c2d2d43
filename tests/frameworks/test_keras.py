"""Keras on torch: ``fit`` on a DataLoader and on arrays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.fidelity.brute import dataset
from tests.frameworks.harness import Cases, State, Witness, content, judge, load, need

need("keras")

pytestmark = pytest.mark.filterwarnings("ignore")
CASES = Cases()


def fit(witness: Witness, kind: str, loss: Any, each: Any, *, arrays: bool = False, **options: Any) -> State:
    """Two epochs."""
    keras = load("keras")
    keras.utils.set_random_seed(5)
    data = dataset(kind)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu"),
                                   keras.layers.Dropout(0.2, seed=1), keras.layers.Dense(4)])  # fmt: skip
    model.compile(keras.optimizers.SGD(0.05), loss=loss, **options)
    witness.attend(model, content(data.tensors[0]), lambda samples, output: each(output, data.tensors[1][samples]))
    if arrays:
        inputs, targets = (tensor.numpy() for tensor in data.tensors)
        history = model.fit(inputs, targets, batch_size=8, epochs=2, verbose=0, shuffle=True)
    else:
        history = model.fit(DataLoader(data, 8, shuffle=True), epochs=2, verbose=0)
    return [[torch.as_tensor(weight) for weight in model.get_weights()], history.history["loss"]]


def classes(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(x, y, reduction="none")


def squares(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(x, y, reduction="none")


@CASES.add("Keras on torch: fit(DataLoader), SparseCategoricalCrossentropy", "index")
def loader(witness: Witness) -> State:
    return fit(witness, "class", load("keras").losses.SparseCategoricalCrossentropy(from_logits=True), classes)


@CASES.add("Keras on torch: fit(DataLoader), mean squared error", "index")
def loader_values(witness: Witness) -> State:
    return fit(witness, "value", "mse", squares)


@CASES.add("Keras on torch: fit(arrays), mean squared error", "exact")
def arrays(witness: Witness) -> State:
    return fit(witness, "value", "mse", squares, arrays=True)


@CASES.add("Keras on torch: fit(arrays), SparseCategoricalCrossentropy", "exact")
def array_classes(witness: Witness) -> State:
    return fit(
        witness, "class", load("keras").losses.SparseCategoricalCrossentropy(from_logits=True), classes, arrays=True
    )


@pytest.mark.parametrize("name", CASES.marked())
def test_what_is_captured(name: str) -> None:
    judge(CASES[name])
