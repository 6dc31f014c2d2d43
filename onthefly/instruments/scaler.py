"""Watches gradient scalers: the factor that ``GradScaler.scale`` puts on a loss is no part of the loss."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch

from onthefly.errors import leave_frame_out
from onthefly.instruments.dynamo import skip
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.errors import Guard

_amp: Any = torch.amp if hasattr(torch.amp, "GradScaler") else torch.cuda.amp
GRAD_SCALER: Any = _amp.GradScaler


class ScalerInstrument:
    """The slot ``GradScaler.scale``."""

    def __init__(self, scaled: Callable[[Any], None], guard: Guard) -> None:
        """``scaled(result)`` is called with what a scaler made of a loss, or of several."""
        self._scaled = guard.around(scaled)
        self._slots = [Slot(GRAD_SCALER, "scale", self._wrap)]

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
