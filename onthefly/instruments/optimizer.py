"""Watches optimizers through torch's own global hooks: when a step has really ended.

Hooks count nesting per thread: a subclass whose ``step`` calls ``super().step()``, and SAM, step twice, and only the
outermost end is a place to pause. An entry is tied to the frame that it was made in, so that a step that raised leaves
nothing open behind it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from torch.optim import Optimizer

    from onthefly.errors import Guard


class OptimizerInstrument:
    """The global pre and post hook of optimizers, for one training thread."""

    def __init__(self, stepped: Callable[[Optimizer], None], is_ours: Callable[[], bool], guard: Guard) -> None:
        """``stepped(optimizer)`` is called after each outermost step; ``is_ours()`` says whether this thread counts.

        ``stepped`` may hold the thread (the gate) and may raise what must reach the script; it guards its own parts.
        """
        self._stepped = stepped
        self._is_ours = is_ours
        self._guard = guard
        self._enabled = True
        self._inside = False
        self._open: list[int] = []
        """The ids of the frames of the steps under way, outermost first."""
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
        if not self._enabled or not self._is_ours():
            return
        self._inside = True
        with self._guard:
            frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
            if self._open:
                self._drop_abandoned(frame)
            self._open.append(id(frame))
        self._inside = False

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._enabled or not self._open or not self._is_ours():
            return
        frame = id(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        while self._open and self._open.pop() != frame:
            pass  # steps inside this one that raised and were caught
        if not self._open:
            self._inside = True
            try:
                self._stepped(optimizer)
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
