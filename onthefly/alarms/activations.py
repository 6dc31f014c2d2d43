"""Units that give nothing but zeros: the share of zero outputs of each ReLU, measured for one step on demand.

By hooks on these modules that read and change nothing, put in place, and taken out again when the step is over. A ReLU
that is called as a function (``F.relu``) is no module and is not seen. Modules inside of a compiled one are left alone:
a hook there would have them compiled again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onthefly.alarms.finding import Finding
from onthefly.alarms.place import is_compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.hooks import RemovableHandle

NAME = "dead-activations"
WATCHED = (nn.ReLU, nn.ReLU6, nn.Threshold, nn.Hardswish, nn.Hardsigmoid)
"""Modules with outputs of exactly zero over a range of inputs."""


class DeadActivations:
    """Measures the ReLU-like modules of one model from :meth:`install` to :meth:`remove`."""

    def __init__(self, *, dead: float = 0.99) -> None:
        """``dead``: the share of zeros from which a module is reported."""
        self._dead = dead
        self._handles: list[RemovableHandle] = []
        self._zeros: dict[str, tuple[Tensor, int]] = {}
        """Zeros and outputs by module, so far."""
        self.skipped: list[str] = []
        """Modules that are not measured since they lie in a compiled part."""
        self.measured: dict[str, float] = {}
        """The share of zeros of each module that was called; after :meth:`remove`."""

    def install(self, model: nn.Module) -> int:
        """Put the hooks in place; how many."""
        for name, module, compiled in _watched(model):
            if compiled:
                self.skipped.append(name)
            else:
                self._handles.append(module.register_forward_hook(self._hook(name)))
        return len(self._handles)

    def remove(self, step: int) -> list[Finding]:
        """Take the hooks out, read what they counted (one wait for each device's work), and judge it."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.measured = {name: float(zeros) / count for name, (zeros, count) in self._zeros.items()}
        self._zeros.clear()
        return [
            Finding(NAME, step, f"{_called(name)} gives {share:.1%} zeros at step {step}", numbers={"zeros": share})
            for name, share in self.measured.items()
            if share >= self._dead
        ]  # fmt: skip

    def _hook(self, name: str) -> Any:
        def count(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or torch.compiler.is_compiling() or not output.numel():
                return
            with torch.no_grad():
                zeros = (output == 0).sum()
            before, outputs = self._zeros.get(name, (None, 0))
            self._zeros[name] = (zeros if before is None else before + zeros, outputs + output.numel())

        return count


def _called(name: str) -> str:
    return name or "the model"


def _watched(model: nn.Module) -> Iterator[tuple[str, nn.Module, bool]]:
    """ReLU-like modules with their names, and whether they lie in a compiled part; a shared one once."""
    compiled: set[int] = set()
    for _, module in model.named_modules():
        if is_compiled(module):
            compiled.update(map(id, module.modules()))
    for name, module in model.named_modules():
        if isinstance(module, WATCHED):
            yield name, module, id(module) in compiled
