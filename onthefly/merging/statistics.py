"""BatchNorm's statistics of a merged model: estimated anew on data, as a mean of the parents' belongs to no model.

Cumulative means over the batches, as ``torch.optim.swa_utils.update_bn`` takes them; momentum and modes are put back.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from onthefly.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

_Norm: Any = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]


def normed(model: nn.Module) -> list[Any]:
    """Its modules that keep running statistics."""
    return [module for module in model.modules() if isinstance(module, _Norm) and module.track_running_stats]


def reestimate(model: nn.Module, run: Callable[[Any], object], batches: Iterable[Any]) -> int:
    """Estimate them over the batches that ``run(batch)`` puts through the model; how many there were.

    Refused where there is nothing to estimate them from; then they are what they were. Nothing else trains: only
    BatchNorm is in training mode, so that dropout draws nothing.
    """
    modules = normed(model)
    if not modules:
        return 0
    before = [(module, module.momentum, [buffer.clone() for buffer in module.buffers()]) for module in modules]
    count = 0
    try:
        with evaluating(model), torch.no_grad():
            for module in modules:
                module.reset_running_stats()
                module.momentum, module.training = None, True
            for batch in batches:
                run(batch)
                count += 1
    finally:
        for module, momentum, buffers in before:
            module.momentum = momentum
            if not count:
                for live, kept in zip(module.buffers(), buffers):
                    live.copy_(kept)
    if not count:
        raise Refused("BatchNorm's statistics want data, and there was none")
    return count


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Generator[None, None, None]:
    """All of its modules in evaluation mode within the block, and then each in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
