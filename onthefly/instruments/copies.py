"""Watches what only moves, casts or reshapes a tensor: the ways by which a batch becomes the target of a loss.

``y.float()``, ``x.to(device)`` and ``labels[..., 1:].contiguous()`` are other tensors than the batch's, of the same
samples. A view says itself what it is a view of; a copy does not, so it is told when it is made. What needs a gradient
was made by a network and is of no interest. 0.3 us a call, in training a handful of calls a step.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional
from torch import Tensor

from onthefly.errors import leave_frame_out
from onthefly.instruments.dynamo import skip
from onthefly.instruments.standing import Standing, compiling, function_modes
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.errors import Guard

_nn: Any = torch._C._nn  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]

METHODS = (
    "to", "cuda", "cpu", "float", "double", "half", "bfloat16", "int", "long", "short", "bool", "type", "type_as",
    "contiguous", "clone", "detach", "reshape", "flatten",
)  # fmt: skip
"""Of tensors: elements keep their order."""

FUNCTIONS: list[tuple[Any, str]] = [
    (torch, "clone"), (torch, "flatten"), (torch, "reshape"), (torch, "detach"), (_nn, "pad"),
    (_nn, "one_hot"),
]  # fmt: skip


class CopyInstrument:
    """The slots of :data:`METHODS` and :data:`FUNCTIONS`."""

    def __init__(self, copied: Callable[..., None], guard: Guard, *, known: bool) -> None:
        """``copied(name, source, result, args)`` is called after a tensor without gradient was made of another one.

        ``known``: what stands in the slots stood there before the script began, so that this is what its modes and
        classes of tensors compare a function with.
        """
        self._copied = guard.around(copied)
        skip(self._copied, callees=True)
        self._standing = Standing(known)
        self._slots = self._standing.slots = [
            *[Slot(Tensor, name, self._wrap_method) for name in METHODS if hasattr(Tensor, name)],
            *[Slot(owner, name, self._wrap) for owner, name in FUNCTIONS if hasattr(owner, name)],
        ]
        # The same function again, as before: ``pickle`` looks for it in one place, the script in the other.
        self._slots.append(Slot(torch.nn.functional, "one_hot", lambda slot, original: _nn.one_hot))

    def disarm(self) -> None:
        """Put back what was there."""
        self._standing.disarm()

    def _wrap(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        copied, name, standing = self._copied, slot.name, self._standing

        @functools.wraps(original)
        def copy(*args: Any, **named: Any) -> Any:
            if compiling():
                if args and not isinstance(args[0], Tensor):
                    return copy(*args[1:], **named)
                return original(*args, **named)
            seen: Any = args
            try:
                if not args or type(args[0]) is not Tensor or function_modes():
                    result, seen = standing.otherwise(original, copy, args, named)
                else:
                    result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            # Asking a tensor for an attribute is something that a mode sees.
            if (
                seen and type(result) is Tensor and result is not seen[0] and not function_modes()
                and not result.requires_grad and slot.enabled
            ):  # fmt: skip
                copied(name, seen[0], result, seen)
            return result

        return standing.present(original, copy, slot)

    def _wrap_method(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        copied, name = self._copied, slot.name

        @functools.wraps(original)
        def copy(*args: Any, **named: Any) -> Any:
            if compiling():
                return getattr(args[0], name)(*args[1:], **named)
            try:
                result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if (
                type(result) is Tensor and result is not args[0] and not function_modes() and not result.requires_grad
                and slot.enabled
            ):  # fmt: skip
                copied(name, args[0], result, args)
            return result

        return self._standing.present(original, copy, slot)
