"""Small models with a planted fault, and one step of training under :class:`Origin`."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onthefly.alarms.origin import Origin
from onthefly.errors import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Log(nn.Module):
    """Gives ``-inf`` where its input is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x.abs() * (x != x.amax()))


class Divide(nn.Module):
    """0 / 0."""

    def forward(self, x: Tensor) -> Tensor:
        zeros = x - x.detach()
        return zeros / (zeros * 2)


class Sqrt(nn.Module):
    """Finite, but for its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x.relu() * 0) + 1


class Overflow(nn.Module):
    """Too large for half precision, and for float32."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(x.abs() * 0 + 1000)


class Cube(torch.autograd.Function):
    """Whose backward divides by zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] / (x * 0)


class Custom(nn.Module):
    """An autograd function of its own."""

    def forward(self, x: Tensor) -> Tensor:
        applied: Any = Cube.apply
        return applied(x)


class Attention(nn.Module):
    """With a causal mask of ``-inf`` that is added, and one that is filled in."""

    def __init__(self, width: int = 8, *, blind: bool = False) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.blind = blind

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        length = x.shape[-2]
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        scores = scores + torch.triu(torch.full((length, length), -math.inf), diagonal=1)
        padding = torch.zeros(length, dtype=torch.bool)
        padding[-1] = True
        scores = scores.masked_fill(padding, -math.inf)
        if self.blind:
            scores = scores.masked_fill(torch.ones(length, dtype=torch.bool), -math.inf)
        return scores.softmax(-1) @ v


@contextmanager
def watched() -> Generator[Origin, None, None]:
    """From one pause point to the next."""
    origin = Origin(Guard("looking for the origin", strict=True))
    origin.enter()
    try:
        yield origin
    finally:
        assert origin.exit()


def step(net: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor] = lambda y: y.float().square().mean()) -> None:
    """One step of SGD."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    optimizer.zero_grad()
    loss(net(x)).backward()
    optimizer.step()


def mlp(*plants: tuple[int, nn.Module], depth: int = 3, width: int = 8) -> nn.Sequential:
    """A perceptron with modules put in at these places."""
    torch.manual_seed(depth)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.Tanh()]
    for place, module in plants:
        layers.insert(place, module)
    return nn.Sequential(*layers)
