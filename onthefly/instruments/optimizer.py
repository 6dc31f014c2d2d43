"""Watches optimizers through torch's own global hooks: when a step has really ended.

Hooks count nesting per thread: a subclass whose ``step`` calls ``super().step()``, and SAM, step twice, and only the
outermost end is a place to pause. An entry is tied to the frame that it was made in, so that a step that raised leaves
nothing open behind it.
"""

from __future__ import annotations

import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from onthefly.instruments.dynamo import skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from torch.optim import Optimizer

    from onthefly.core.gate import Gate
    from onthefly.errors import Guard


class OptimizerInstrument:
    """The global pre and post hook of optimizers, for one training thread."""

    def __init__(
        self, stepped: Callable[[Optimizer], None], gate: Gate, hold: Callable[[], None], guard: Guard
    ) -> None:
        """``stepped(optimizer)`` is called after each outermost step, then ``hold()`` if a command waits at the gate.

        ``hold`` may keep the thread, and may raise what must reach the script (an interrupt, a stop).
        """
        self._stepped = guard.around(stepped)
        self._gate = gate
        self._hold = hold
        self._thread = 0
        self._enabled = True
        self._inside = False
        self._open: list[int] = []
        """The ids of the frames of the steps under way, outermost first."""
        skip(self._before, callees=True)
        skip(self._after, callees=True)
        self._handles = [
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
        ]

    def disarm(self) -> None:
        """Take both hooks out; while one runs, only switch them off (torch iterates over the live dictionary)."""
        self._enabled = False
        if not self._inside:
            for handle in self._handles:
                handle.remove()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if get_ident() != self._thread:
            if self._thread:
                return  # another thread that trains: the recorder has told the user
            self._thread = get_ident()
        if self._enabled:
            frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
            if self._open:
                self._drop_abandoned(frame)
            self._open.append(id(frame))

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._open or not self._enabled or get_ident() != self._thread:
            return
        frame = id(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        while self._open and self._open.pop() != frame:
            pass  # steps inside this one that raised and were caught
        if self._open:
            return
        self._inside = True
        self._stepped(optimizer)
        try:
            if self._gate.waiting:
                self._hold()
        finally:
            self._inside = False

    def _drop_abandoned(self, frame: FrameType) -> None:
        """Forget steps that raised: those whose frame is no longer among this one's callers."""
        callers: set[int] = set()
        caller = frame.f_back
        while caller is not None:
            callers.add(id(caller))
            caller = caller.f_back
        self._open = [known for known in self._open if known in callers]
