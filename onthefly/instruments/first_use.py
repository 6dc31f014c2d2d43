"""Waits in a child of the script until it trains.

A child (``spawn``, ``fork``, a subprocess) is nobody's business until it iterates a loader or calls backward; a worker
of a DataLoader never does so for itself. Three attributes are replaced until then, and nothing else is imported or
started. A child that only steps an optimizer, without a loader and without autograd, is not seen: a hook of the
optimizer's cannot put others in place while torch walks through them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
import torch.autograd
from torch.utils.data import DataLoader, get_worker_info

from onthefly.instruments.dynamo import skip
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.errors import Guard


class FirstUse:
    """The slots ``DataLoader.__iter__`` and ``torch.autograd.backward``, until the first call."""

    def __init__(self, begin: Callable[[], object], guard: Guard) -> None:
        """``begin()`` is called once, before the first loader is iterated or the first backward call runs."""
        self._begin = guard.around(begin)
        self._slots = [Slot(DataLoader, "__iter__", self._wrap), Slot(torch.autograd, "backward", self._wrap)]

    def disarm(self) -> None:
        """Put back what was there."""
        for slot in reversed(self._slots):
            slot.restore()

    def _wrap(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def first(*args: Any, **kwargs: Any) -> Any:
            if slot.enabled and get_worker_info() is None:
                out = slot.restore()
                self.disarm()
                self._begin()
                if out:  # what stands there now sees this very call
                    return getattr(slot.owner, slot.name)(*args, **kwargs)
            return original(*args, **kwargs)

        skip(first, callees=False)
        return first
