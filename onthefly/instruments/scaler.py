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

    def __init__(self, scaled: Callable[[Any], None], gate: Gate, hold: Callable[[], None], guard: Guard) -> None:
        """``scaled(result)`` is called with what a scaler made of a loss, or of several.

        ``hold()`` is called after a scaler's step if something waits at the gate, and may raise what must reach the
        script.
        """
        self._scaled = guard.around(scaled)
        self._gate = gate
        self._hold = hold
        self._slots = [Slot(GRAD_SCALER, "scale", self._wrap), Slot(GRAD_SCALER, "step", self._wrap_step)]

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
            try:
                result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if slot.enabled and gate.waiting:
                hold()
            return result

        skip(step, callees=False)
        return step
