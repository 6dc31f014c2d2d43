"""Watches optimizers through torch's own global hooks: when a step has really ended.

Hooks count nesting: a subclass whose ``step`` calls ``super().step()``, and SAM, step twice, and only the outermost end
is a place to pause. A step that raised leaves the count too high; where it says that a step is still open, the stack
tells whether one is (tying each entry to its frame instead cost 2 us a step).
"""

from __future__ import annotations

import sys
import weakref
from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from onthefly.core.threads import runs
from onthefly.instruments.dynamo import skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from torch.optim import Optimizer

    from onthefly.core.gate import Gate
    from onthefly.errors import Guard


_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]
graph_task = _c._current_graph_task_id


_constants: Any = torch.optim.Optimizer.profile_hook_step.__code__.co_consts
STEP = next(code for code in _constants if getattr(code, "co_name", "") == "wrapper")
"""The code of torch's own frame around each ``step``, which runs the hooks."""


class OptimizerInstrument:
    """The global pre and post hook of optimizers, for one training thread."""

    def __init__(
        self, stepped: Callable[[Optimizer], None], gate: Gate, hold: Callable[[], None],
        seen: list[weakref.ref[Optimizer]], guard: Guard,
    ) -> None:  # fmt: skip
        """``stepped(optimizer)`` is called after each outermost step, then ``hold()`` if something waits at the gate.

        ``hold`` may keep the thread, and may raise what must reach the script (an interrupt, a stop). ``seen`` is kept:
        the living optimizers, in the order of their first step.
        """
        self._stepped = guard.around(stepped)
        self._gate = gate
        self._hold = hold
        self.points = 0
        """Outermost steps that have ended, of all optimizers."""
        self._seen = seen
        self._last = 0
        """``id`` of the one that stepped last; 0 once it is gone, for an ``id`` may come again."""
        self._thread = 0
        self._enabled = True
        self._inside = False
        self._depth = 0
        """Steps under way in this thread, those that raised included."""
        skip(self._before, callees=True)
        skip(self._after, callees=True)
        # Torch counts all hooks of a process, and the numbers of the script's are in what it pickles: ours get others.
        counted, RemovableHandle.next_id = RemovableHandle.next_id, -2
        try:
            self._handles = [
                register_optimizer_step_pre_hook(self._before),
                register_optimizer_step_post_hook(self._after),
            ]
        finally:
            RemovableHandle.next_id = counted

    @property
    def inside(self) -> bool:
        """Whether a step is under way in this thread, as where a closure calls backward."""
        frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        while frame is not None and frame.f_code is not STEP:
            frame = frame.f_back
        return frame is not None

    def disarm(self) -> None:
        """Take both hooks out; while one runs, only switch them off (torch iterates over the live dictionary)."""
        self._enabled = False
        if not self._inside:
            for handle in self._handles:
                handle.remove()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        if get_ident() != self._thread:
            if self._thread and runs(self._thread):
                return None  # another thread that trains: the recorder has told the user
            self._thread, self._depth = get_ident(), 0
        self._depth += 1
        if self._gate.prepare is None or not self._enabled:
            return None
        if self._depth > 1:
            self._depth = 1 + _steps_above(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        return self._gate.prepare(optimizer, args, kwargs) if self._depth == 1 else None

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if get_ident() != self._thread or not self._enabled:
            return
        self._depth -= 1
        if self._depth > 0:
            self._depth = _steps_above(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
            if self._depth:
                return
        self._depth = 0
        self._inside = True
        try:
            if id(optimizer) != self._last:
                self._note(optimizer)
            self._stepped(optimizer)
            if graph_task() == -1:  # else it steps inside backward: half of the parameters are new, half are old
                self.points += 1
                self._gate.missed = 0
                if self._gate.waiting:
                    self._hold()
        finally:
            self._inside = False

    def _note(self, optimizer: Optimizer) -> None:
        if not any(known() is optimizer for known in self._seen):
            self._seen.append(weakref.ref(optimizer, self._forget))
        self._last = id(optimizer)

    def _forget(self, reference: weakref.ref[Optimizer]) -> None:
        self._seen.remove(reference)
        self._last = 0


def _steps_above(frame: FrameType) -> int:
    """How many optimizer steps are open above the one whose hooks this frame runs."""
    step, caller, count = frame.f_code, frame.f_back, 0
    while caller is not None:
        count += caller.f_code is step
        caller = caller.f_back
    return count
