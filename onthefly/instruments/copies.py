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
from torch.overrides import handle_torch_function, has_torch_function

from onthefly.errors import leave_frame_out
from onthefly.instruments.dynamo import skip
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
    (torch.nn.functional, "one_hot"),
]  # fmt: skip


function_modes: Callable[[], int] = torch._C._len_torch_function_stack  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]
"""How many of the script's modes would see a call."""


class CopyInstrument:
    """The slots of :data:`METHODS` and :data:`FUNCTIONS`."""

    def __init__(self, copied: Callable[..., None], guard: Guard, *, known: bool) -> None:
        """``copied(name, source, result, args)`` is called after a tensor without gradient was made of another one.

        ``known``: what stands in the slots stood there before the script began, so that this is what its modes and
        classes of tensors compare a function with.
        """
        self._known = known
        self._copied = guard.around(copied)
        skip(self._copied, callees=True)
        self._slots = [
            *[Slot(Tensor, name, self._wrap) for name in METHODS if hasattr(Tensor, name)],
            *[Slot(owner, name, self._wrap) for owner, name in FUNCTIONS if hasattr(owner, name)],
        ]

    def disarm(self) -> None:
        """Put back what was there."""
        for slot in reversed(self._slots):
            slot.restore()

    def _wrap(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        copied, name, owner, known = self._copied, slot.name, slot.owner, self._known

        @functools.wraps(original)
        def copy(*args: Any, **named: Any) -> Any:
            if torch.compiler.is_compiling():
                return original(*args, **named)
            if known and (function_modes() or not args or type(args[0]) is not Tensor) and has_torch_function(args):
                return handle_torch_function(copy, args, *args, **named)
            try:
                result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if type(result) is Tensor and not result.requires_grad and slot.enabled and args and result is not args[0]:
                copied(name, args[0], result, args)
            return result

        skip(copy, callees=False)
        if owner in (torch, Tensor):
            copy.__module__ = "torch"
            copy.__qualname__ = name if owner is torch else f"Tensor.{name}"
        return copy
