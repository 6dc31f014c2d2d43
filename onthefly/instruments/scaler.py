"""Watches gradient scalers: the factor that ``GradScaler.scale`` puts on a loss is no part of the loss.

``GradScaler.step`` is a pause point too: it leaves the optimizer's own step out where a gradient is infinite.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch

from onthefly.errors import leave_frame_out
from onthefly.instruments.dynamo import skip
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.core.gate import Gate
    from onthefly.errors import Guard

_amp: Any = torch.amp if hasattr(torch.amp, "GradScaler") else torch.cuda.amp
GRAD_SCALER: Any = _amp.GradScaler


class ScalerInstrument:
    """The slots ``GradScaler.scale`` and ``GradScaler.step``."""

    def __init__(self, scaled: Callable[[Any], None], gate: Gate, hold: Callable[[], None], guard: Guard,
                 points: Callable[[], int] = lambda: 0) -> None:  # fmt: skip
        """``scaled(result)`` is called with what a scaler made of a loss, or of several.

        ``hold()`` is called after a scaler's step if something waits at the gate, and may raise what must reach the
        script. ``points()``: the optimizers' steps that have ended.
        """
        self._scaled = guard.around(scaled)
        self._gate = gate
        self._hold = hold
        self.steps = self.skipped = 0
        """Calls of ``GradScaler.step``, and those in which no optimizer stepped. (A fused one leaves its step out by
        itself, where nobody sees it.)"""
        self._points = points
        self._slots = [Slot(GRAD_SCALER, "scale", self._wrap), Slot(GRAD_SCALER, "step", self._wrap_step)]

    @property
    def counts(self) -> tuple[int, int]:
        """Steps, and those of them that were left out."""
        return self.steps, self.skipped

    def disarm(self) -> None:
        """Put back what was there."""
        for slot in reversed(self._slots):
            slot.restore()

    def _wrap(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        scaled = self._scaled

        @functools.wraps(original)
        def scale(*args: Any, **named: Any) -> Any:
            try:
                result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if slot.enabled:
                scaled(result)
            return result

        skip(scale, callees=False)
        return scale

    def _wrap_step(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        gate, hold = self._gate, self._hold

        @functools.wraps(original)
        def step(*args: Any, **named: Any) -> Any:
            points = self._points()
            try:
                result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if slot.enabled:
                self.steps += 1
                self.skipped += self._points() == points
                if gate.waiting:
                    hold()
            return result

        skip(step, callees=False)
        return step
