"""Watches a script that has no DataLoader select rows of its tensors: which it takes is which samples it trains on.

Until the first loader is iterated, and never again in that process. ``Tensor.__getitem__`` is no slot: a class that was
given one of Python's is a sequence to C from then on, even when it is taken out again, and ``torch.tensor`` asks the
length of each number in a list of them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from onthefly.errors import leave_frame_out
from onthefly.instruments.dynamo import skip
from onthefly.instruments.standing import Standing, compiling, function_modes
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.errors import Guard


class DrawInstrument:
    """The slots ``index_select``, as a method and as a function, and ``DataLoader.__iter__``."""

    def __init__(self, took: Callable[..., None], guard: Guard, *, known: bool) -> None:
        """``took(source, key, result)`` is called after a plain tensor was indexed with a tensor, list or array.

        ``known`` as for :class:`~onthefly.instruments.copies.CopyInstrument`. To be armed after the instrument of
        loaders: what stands in front leaves first.
        """
        self._took = guard.around(took)
        skip(self._took, callees=True)
        self._standing = Standing(known)
        self._slots = self._standing.slots = [
            Slot(Tensor, "index_select", self._wrap_select),
            Slot(torch, "index_select", self._wrap_select),
        ]
        self._first = Slot(DataLoader, "__iter__", self._wrap_iter)

    def disarm(self) -> None:
        """Put back what was there."""
        self._first.restore()
        if self._slots:
            self._standing.disarm()
        self._slots = []

    def _wrap_select(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        took, standing, method = self._took, self._standing, slot.owner is Tensor

        @functools.wraps(original)
        def index_select(*args: Any, **named: Any) -> Any:
            if compiling():
                if method:
                    return args[0].index_select(*args[1:], **named)
                return original(*args, **named)
            seen: Any = args
            try:
                if not method and (not args or type(args[0]) is not Tensor or function_modes()):
                    result, seen = standing.otherwise(original, index_select, args, named)
                else:
                    result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if (
                seen and len(seen) == 3 and type(result) is Tensor and type(seen[0]) is Tensor and not function_modes()
                and seen[1] == 0 and type(seen[2]) is Tensor and slot.enabled
            ):  # fmt: skip
                took(seen[0], seen[2], result)
            return result

        return standing.present(original, index_select, slot)

    def _wrap_iter(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def __iter__(loader: Any) -> Any:
            if slot.enabled:
                self.disarm()
            try:
                return original(loader)
            except BaseException as error:
                leave_frame_out(error)
                raise

        return __iter__
