"""Clips gradients, and keeps parameters as they are, at the start of an optimizer's step.

Frozen parameters lose their gradient before each step, and so the optimizer passes over them. ``requires_grad`` is not
touched: it would have to be known before the forward call, breaks DDP's reducer and reentrant checkpointing, and has a
compiled model compiled anew. The price is that their gradients are still computed.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch

from onthefly.actions.living import roots
from onthefly.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from onthefly.actions.optimizers import Optimizers
    from onthefly.core.gate import Place


class Gradients:
    """What is done to gradients before each step."""

    def __init__(self, optimizers: Optimizers, changed: Callable[[], None]) -> None:
        """``changed()`` is told that :attr:`active` may be another."""
        self._optimizers = optimizers
        self._changed = changed
        self._norm: float | None = None
        self._value: float | None = None
        self.patterns: list[str] = []
        self._frozen: dict[int, Tensor] = {}
        """Frozen parameters by ``id``; kept here, so that none comes again."""

    @property
    def active(self) -> bool:
        """Whether anything is to be done before a step."""
        return self._norm is not None or self._value is not None or bool(self._frozen)

    @property
    def clipping(self) -> str:
        """In words; empty: none."""
        if self._norm is not None:
            return f"norm {self._norm:g}"
        return f"value {self._value:g}" if self._value is not None else ""

    @property
    def frozen(self) -> int:
        """How many parameters (numbers) are frozen."""
        return sum(parameter.numel() for parameter in self._frozen.values())

    def state(self) -> Any:
        """What a checkpoint keeps of it."""
        return self._norm, self._value, list(self.patterns), dict(self._frozen)

    def put_back(self, state: Any) -> None:
        """As it was at that checkpoint."""
        self._norm, self._value, patterns, frozen = state
        self.patterns, self._frozen = list(patterns), dict(frozen)
        self._changed()

    def clip(self, given: Any, place: Place, by: str) -> dict[str, Any]:
        """The command ``clip``."""
        if given.norm is not None and given.value is not None:
            raise Refused("gradients are clipped by their norm or by value, not both")
        before = self.clipping
        self._norm, self._value = given.norm, given.value
        self._changed()
        return {"before": {"clip": before}, "after": {"clip": self.clipping}}

    def freeze(self, given: Any, place: Place, by: str) -> dict[str, Any]:
        """The command ``freeze``."""
        before, found = self.frozen, self._matching(given.pattern)
        trained = {id(each) for optimizer in self._optimizers.living() for each in _parameters(optimizer)}
        if trained <= {*self._frozen, *map(id, found)}:
            raise Refused(f"{given.pattern!r} would freeze every parameter", "pause instead, or name fewer")
        self._frozen.update({id(parameter): parameter for parameter in found})
        self.patterns = [*[pattern for pattern in self.patterns if pattern != given.pattern], given.pattern]
        self._changed()
        return {"before": {"frozen": before}, "after": {"frozen": self.frozen, "parameters": len(found)}}

    def unfreeze(self, given: Any, place: Place, by: str) -> dict[str, Any]:
        """The command ``unfreeze``."""
        if not self._frozen:
            raise Refused("no parameter is frozen here", "what the script itself has frozen is the script's")
        before, found = self.frozen, self._matching(given.pattern)
        for parameter in found:
            self._frozen.pop(id(parameter), None)
        self.patterns = [pattern for pattern in self.patterns if not fnmatchcase(pattern, given.pattern)]
        if self._frozen and not self.patterns:
            self.patterns = [f"all but {given.pattern}"]
        self._changed()
        return {"before": {"frozen": before}, "after": {"frozen": self.frozen}}

    def _matching(self, pattern: str) -> list[Tensor]:
        """Parameters of that name, or of a module of that name; a root's class may stand before it."""
        trained = {id(each) for optimizer in self._optimizers.living() for each in _parameters(optimizer)}
        if not trained:
            raise Refused("no optimizer has stepped yet", "freeze after the first step")
        found: dict[int, Tensor] = {}
        names: list[str] = []
        for root in roots():
            kind = type(root).__name__
            for name, parameter in root.named_parameters():
                name = name.replace("_orig_mod.", "").removeprefix("module.") if "." in name else name
                if id(parameter) in trained:
                    names.append(name)
                    if any(_names(each, pattern) for each in (name, f"{kind}.{name}")):
                        found[id(parameter)] = parameter
        if not found:
            known = ", ".join(sorted({name.partition(".")[0] for name in names})[:20])
            raise Refused(f"no trained parameter is called {pattern!r}", f"they begin with {known}" if known else "")
        return list(found.values())

    def treat(self, optimizer: Any) -> None:
        """Its gradients are there, and it is about to step with them."""
        frozen = self._frozen
        parameters = _parameters(optimizer)
        for parameter in parameters if frozen else ():
            if id(parameter) in frozen:
                parameter.grad = None
        if self._norm is None and self._value is None:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer divides by GradScaler's factor itself
        factor = 1.0 if scale is None else float(scale)
        if self._norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self._norm * factor)
        elif self._value is not None and gradients:
            torch.nn.utils.clip_grad_value_(parameters, self._value * factor)


def _names(name: str, pattern: str) -> bool:
    """Whether the pattern names it, or a module around it."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:length]), pattern) for length in range(1, len(parts) + 1))


def _parameters(optimizer: Any) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
