"""skorch: nets with the interface of scikit-learn."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn
from torch.nn import functional as F

from tests.fidelity.brute import dataset
from tests.frameworks.harness import Cases, State, Witness, content, judge, load, need

need("skorch")

CASES = Cases()


def fit(witness: Witness, net: Any, kind: str, each: Any) -> State:
    """Fit on arrays, with skorch's own split for validation."""
    data = dataset(kind)
    inputs, targets = (tensor.numpy() for tensor in data.tensors)
    net.initialize()
    witness.attend(net.module_, content(data.tensors[0]),
                   lambda samples, output: each(output, data.tensors[1][samples]))  # fmt: skip
    net.partial_fit(inputs, targets)
    return [net.module_.state_dict(), net.optimizer_.state_dict(), net.history[:, "train_loss"]]


def network(out: int) -> Any:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, out))


@CASES.add("skorch: NeuralNetClassifier, cross entropy, no validation", "index")
def classifier(witness: Witness) -> State:
    net = load("skorch").NeuralNetClassifier(
        network(4), criterion=nn.CrossEntropyLoss, max_epochs=2, batch_size=8, lr=0.1, iterator_train__shuffle=True,
        verbose=0, train_split=None)  # fmt: skip
    return fit(witness, net, "class", lambda x, y: F.cross_entropy(x, y, reduction="none"))


@CASES.add("skorch: NeuralNetRegressor, its own split for validation", "index")
def regressor(witness: Witness) -> State:
    net = load("skorch").NeuralNetRegressor(network(4), max_epochs=2, batch_size=8, lr=0.1, verbose=0)
    return fit(witness, net, "value", lambda x, y: F.mse_loss(x, y, reduction="none"))


@pytest.mark.parametrize("name", CASES.marked())
def test_what_is_captured(name: str) -> None:
    judge(CASES[name])
