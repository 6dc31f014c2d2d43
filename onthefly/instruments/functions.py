"""Watches the functions whose results keep no trace of their operands: some losses, and reductions by hand.

The slots are what ``torch.nn.functional`` calls at run time, so that functions imported by name before and modules
(``nn.L1Loss``) come by as well; ``F.gaussian_nll_loss`` calls nothing that could be told from arithmetic and is a slot
itself, as ``nn.GaussianNLLLoss`` calls it through the module. ``mean`` and ``sum`` are watched as functions and as
methods. No other loss function is touched in training, least of all cross entropy: a slot costs a microsecond and more
each time it is called.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
import torch.jit._builtins
import torch.nn.functional
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from onthefly.errors import leave_frame_out
from onthefly.instruments.dynamo import skip
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.errors import Guard

_nn: Any = torch._C._nn  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]

LOSSES: list[tuple[Any, str]] = [
    (_nn, "l1_loss"),  # also F.smooth_l1_loss(beta=0)
    (torch, "kl_div"),
    (torch, "poisson_nll_loss"),
    (torch.nn.functional, "gaussian_nll_loss"),
    (torch, "cosine_embedding_loss"),
    (torch, "margin_ranking_loss"),
    (torch, "hinge_embedding_loss"),
    (torch, "triplet_margin_loss"),
    (torch, "ctc_loss"),
]

REDUCTIONS: list[tuple[Any, str]] = [(torch, "mean"), (torch, "sum"), (Tensor, "mean"), (Tensor, "sum")]
"""Of interest where a single number comes out."""


class FunctionInstrument:
    """The slots of :data:`LOSSES` and :data:`REDUCTIONS`."""

    def __init__(self, computed: Callable[..., None], guard: Guard, *, known: bool = True) -> None:
        """``computed(function, result, args, named)`` is called after a number was computed that needs a gradient.

        ``known``: what stands in the slots stood there before the script began, so that this is what its modes and
        classes of tensors compare a function with.
        """
        self._known = known
        self._computed = guard.around(computed)
        skip(self._computed, callees=True)
        builtins: Any = torch.jit._builtins  # pyright: ignore[reportPrivateUsage]
        self._operators: dict[int, str] = getattr(builtins, "_builtin_table", None) or {}
        """Which function is which operator to ``torch.jit.script``, by ``id``; private to torch, empty if absent."""
        self._scripted: list[int] = []
        """Ours among them."""
        self._slots = [
            *[Slot(owner, name, self._wrap) for owner, name in LOSSES],
            *[Slot(owner, name, self._wrap_reduction) for owner, name in REDUCTIONS],
        ]

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
            try:
                result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            # Not what a trace, a transform or a subclass made: it has no graph of its own, or not this one.
            if slot.enabled and type(result) is Tensor:
                computed(original, result, args, named)
            return result

        return self._stands_for(original, function, slot)

    def _wrap_reduction(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        computed, method, known = self._computed, slot.owner is Tensor, self._known

        @functools.wraps(original)
        def reduction(*args: Any, **named: Any) -> Any:
            if torch.compiler.is_compiling():
                return original(*args, **named)
            if not args or type(args[0]) is not Tensor:
                if known and has_torch_function((*args, *named.values())):
                    return handle_torch_function(reduction, (*args, *named.values()), *args, **named)
                # A builtin that is an attribute of a class is no method of it; a function is, and gets its instance.
                if not method and len(args) > 1 and isinstance(args[1], Tensor) and not isinstance(args[0], Tensor):
                    args = args[1:]
            elif known and function_modes():
                return handle_torch_function(reduction, args, *args, **named)
            try:
                result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if type(result) is Tensor and result.requires_grad and not result.dim() and slot.enabled:
                computed(original, result, args, named)
            return result

        return self._stands_for(original, reduction, slot)

    def _stands_for(self, original: Callable[..., Any], ours: Any, slot: Slot) -> Callable[..., Any]:
        """Make ours known under the original's name: to the compiler, to TorchScript and to ``pickle``."""
        skip(ours, callees=False)
        if slot.owner in (torch, Tensor):
            ours.__module__ = "torch"
            ours.__qualname__ = slot.name if slot.owner is torch else f"Tensor.{slot.name}"
        operator = self._operators.get(id(original))
        if operator is not None:
            self._operators[id(ours)] = operator
            self._scripted.append(id(ours))
        return ours


function_modes: Callable[[], int] = torch._C._len_torch_function_stack  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]
"""How many of the script's modes would see a call."""
