"""What a loop is, and what loops are made of: data whose rows tell their index, a network with state of all kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

State = list[Any]


class Loop(NamedTuple):
    """A training loop that returns all state that it could change."""

    play: Callable[[], State]
    outcomes: tuple[str, ...]
    """What becomes of its backward calls, each at least once: "index" (exact, every sample named), "exact" (no sample
    named), "approximate", or words of the reason why it has no values. What is right, where we do it wrong today."""


LOOPS: dict[str, Loop] = {}
"""All of them, by name."""

MADE: list[TensorDataset] = []
"""The data sets of the loop that runs, for the comparison of targets at the recorded indices."""


def captured(*outcomes: str) -> Callable[[Callable[[], State]], Callable[[], State]]:
    """Enter the loop, with what is captured of it."""

    def enter(play: Callable[[], State]) -> Callable[[], State]:
        LOOPS[play.__name__] = Loop(play, outcomes)
        return play

    return enter


def data(classes: int = 4, count: int = 83) -> TensorDataset:
    """Random vectors, whole numbers as targets."""
    made = TensorDataset(torch.randn(count, 6), torch.randint(0, classes, (count,)))
    MADE.append(made)
    return made


def values(count: int = 83, width: int = 1) -> TensorDataset:
    """Random vectors, random vectors as targets: each target tells its index."""
    made = TensorDataset(torch.randn(count, 6), torch.randn(count, width))
    MADE.append(made)
    return made


def net(out: int = 4) -> nn.Module:
    """With BatchNorm and dropout: state and randomness that observing could disturb."""
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, out))


def fit(
    model: nn.Module,
    loader: Iterable[Any],
    optimizer: Optional[torch.optim.Optimizer] = None,
    loss: Optional[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = None,
    epochs: int = 2,
) -> State:
    """The loop that everybody writes; cross entropy and SGD with momentum unless told otherwise."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    seen: list[float] = []
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            number = loss(model(x), y) if loss else F.cross_entropy(model(x), y)
            number.backward()
            optimizer.step()
            seen.append(number.item())
    return [model.state_dict(), optimizer.state_dict(), seen]
