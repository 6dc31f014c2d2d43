"""Watches the functions whose results keep no trace of their operands: some losses, and reductions by hand.

The slots are what ``torch.nn.functional`` calls at run time, so that functions imported by name before and modules
(``nn.L1Loss``) come by as well; ``F.gaussian_nll_loss`` calls nothing that could be told from arithmetic and is a slot
itself, as ``nn.GaussianNLLLoss`` calls it through the module. ``mean`` and ``sum`` are watched as functions and as
methods. No other loss function is touched in training, least of all cross entropy: a slot costs a microsecond and more
each time it is called.
"""

from __future__ import annotations

import functools
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional
from torch import Tensor
from torch.overrides import has_torch_function

from onthefly.errors import leave_frame_out
from onthefly.instruments.dynamo import skip
from onthefly.instruments.standing import Standing, compiling, function_modes
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

REDUCTIONS = ("mean", "sum")
"""As functions and as methods; of interest where a single number comes out."""


class FunctionInstrument:
    """The slots of :data:`LOSSES` and :data:`REDUCTIONS`."""

    def __init__(self, computed: Callable[..., None], guard: Guard, *, known: bool = True) -> None:
        """``computed(function, result, args, named)`` is called after a number was computed that needs a gradient.

        ``known``: what stands in the slots stood there before the script began, so that this is what its modes and
        classes of tensors compare a function with.
        """
        self._computed = guard.around(computed)
        skip(self._computed, callees=True)
        self._standing = Standing(known)
        self._slots = self._standing.slots = [
            *[Slot(owner, name, self._wrap) for owner, name in LOSSES],
            *[Slot(torch, name, self._wrap_reduction) for name in REDUCTIONS],
            *[Slot(Tensor, name, self._wrap_method) for name in REDUCTIONS],
        ]

    def disarm(self) -> None:
        """Put back what was there."""
        self._standing.disarm()

    def _wrap(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        computed, standing = self._computed, self._standing
        python = isinstance(original, FunctionType)  # it tells modes and classes of tensors of itself

        @functools.wraps(original)
        def function(*args: Any, **named: Any) -> Any:
            if compiling():  # ours is in its table, but for the Python function; else it is an attribute of a class
                if args and not isinstance(args[0], Tensor):
                    return function(*args[1:], **named)
                return original(*args, **named)
            seen: Any = args
            try:
                if not python and (
                    not args or not isinstance(args[0], Tensor) or has_torch_function((*args, *named.values()))
                ):
                    result, seen = standing.otherwise(original, function, args, named)
                else:
                    result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            # Not what a trace, a transform or a subclass made: it has no graph of its own, or not this one.
            if type(result) is Tensor and not function_modes() and slot.enabled and seen is not None:
                computed(original, result, seen, named)
            return result

        return standing.present(original, function, slot)

    def _wrap_reduction(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        computed, standing = self._computed, self._standing

        @functools.wraps(original)
        def reduction(*args: Any, **named: Any) -> Any:
            if compiling():
                if args and not isinstance(args[0], Tensor):
                    return reduction(*args[1:], **named)
                return original(*args, **named)
            seen: Any = args
            try:
                if not args or type(args[0]) is not Tensor or function_modes():
                    result, seen = standing.otherwise(original, reduction, args, named)
                else:
                    result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            # Asking a tensor for an attribute is something that a mode sees.
            if (
                type(result) is Tensor and not function_modes() and result.requires_grad and not result.dim()
                and slot.enabled and seen is not None
            ):  # fmt: skip
                computed(original, result, seen, named)
            return result

        return standing.present(original, reduction, slot)

    def _wrap_method(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        computed, name = self._computed, slot.name

        @functools.wraps(original)
        def reduction(*args: Any, **named: Any) -> Any:
            if compiling():
                return getattr(args[0], name)(*args[1:], **named)
            try:
                result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if (
                type(result) is Tensor and not function_modes() and result.requires_grad and not result.dim()
                and slot.enabled
            ):  # fmt: skip
                computed(original, result, args, named)
            return result

        return self._standing.present(original, reduction, slot)
