"""Watches the loss functions whose graph does not keep their operands: L1, KL, Poisson and Gaussian likelihood.

The slots are what ``torch.nn.functional`` calls at run time, so that functions imported by name before and modules
(``nn.L1Loss``) come by as well; ``F.gaussian_nll_loss`` calls nothing that could be told from arithmetic and is a slot
itself, as ``nn.GaussianNLLLoss`` calls it through the module. No other loss function is touched, least of all cross
entropy: a slot costs a microsecond and more each time it is called.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
import torch.jit._builtins
import torch.nn.functional
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from onthefly.instruments.dynamo import skip
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.errors import Guard

_nn: Any = torch._C._nn  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]

SLOTS: list[tuple[Any, str]] = [
    (_nn, "l1_loss"),  # also F.smooth_l1_loss(beta=0)
    (torch, "kl_div"),
    (torch, "poisson_nll_loss"),
    (torch.nn.functional, "gaussian_nll_loss"),
]


class FunctionInstrument:
    """The slots of :data:`SLOTS`."""

    def __init__(self, computed: Callable[..., None], guard: Guard) -> None:
        """``computed(function, result, args, named)`` is called after a loss was computed that needs a gradient."""
        self._computed = guard.around(computed)
        skip(self._computed, callees=True)
        builtins: Any = torch.jit._builtins  # pyright: ignore[reportPrivateUsage]
        self._operators: dict[int, str] = getattr(builtins, "_builtin_table", None) or {}
        """Which function is which operator to ``torch.jit.script``, by ``id``; private to torch, empty if absent."""
        self._scripted: list[int] = []
        """Ours among them."""
        self._slots = [Slot(owner, name, self._wrap) for owner, name in SLOTS]

    def disarm(self) -> None:
        """Put back what was there."""
        for slot in reversed(self._slots):
            slot.restore()
        for function in self._scripted:
            self._operators.pop(function, None)

    def _wrap(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        computed, operator = self._computed, self._operators.get(id(original))

        @functools.wraps(original)
        def function(*args: Any, **named: Any) -> Any:
            # Dynamo inlines this frame, finds a constant here, and has the script's own call in its graph.
            if torch.compiler.is_compiling():
                return original(*args, **named)
            if operator is not None and has_torch_function((*args, *named.values())):
                # The operator would name itself to modes and subclasses, and not be what the script finds in its place.
                return handle_torch_function(function, (*args, *named.values()), *args, **named)
            result = original(*args, **named)
            # Not what a trace, a transform or a subclass made: it has no graph of its own, or not this one.
            if slot.enabled and type(result) is Tensor:
                computed(original, result, args, named)
            return result

        skip(function, callees=False)
        if operator is not None:
            self._operators[id(function)] = operator
            self._scripted.append(id(function))
        return function
