"""The structure of what is trained: a rewind across a change of it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer


class Structure:
    """Which modules hold which parts, and which optimizers train which parameters."""

    def __init__(self, modules: list[tuple[Module, str]], optimizers: list[tuple[Optimizer, str]]) -> None:
        self._modules = [(module, name, _parts(module)) for module, name in modules]
        self._optimizers = [(optimizer, name, type(optimizer), _groups(optimizer)) for optimizer, name in optimizers]

    def differs(self) -> str:
        """What is not as it was; empty: all is."""
        for module, name, parts in self._modules:
            if _parts(module) != parts:
                return f"the structure of {name} ({type(module).__name__}) has changed since the checkpoint"
        for optimizer, name, kind, groups in self._optimizers:
            if type(optimizer) is not kind or _groups(optimizer) != groups:
                return f"the parameter groups of {name} ({kind.__name__}) have changed since the checkpoint"
        return ""


def _parts(module: Module) -> list[tuple[str, int]]:
    own: list[tuple[str, Any]] = [*module._modules.items(), *module._parameters.items()]
    return [(name, id(part)) for name, part in own] + [(name, 0) for name in module._buffers]


def _groups(optimizer: Optimizer) -> list[list[int]]:
    return [[id(parameter) for parameter in group["params"]] for group in optimizer.param_groups]
