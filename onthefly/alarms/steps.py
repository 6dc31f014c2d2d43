"""The watchdogs that read tensors at each step: gradients before it, parameters after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onthefly.alarms import nonfinite
from onthefly.alarms.spikes import GRADIENT as EXPLOSION
from onthefly.alarms.spikes import GradientExplosion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch.nn import Module

    from onthefly.alarms.finding import Finding

NAMES = (nonfinite.GRADIENT, nonfinite.PARAMETER, EXPLOSION)


class StepWatchdogs:
    """Those that were chosen."""

    def __init__(self, chosen: Mapping[str, dict[str, float]], modules: Callable[[], Iterable[Module]]) -> None:
        """``chosen``: parameters by name. ``modules()``: where parameters have their names, asked when one fired."""
        self._gradient = nonfinite.GRADIENT in chosen
        self._parameter = nonfinite.PARAMETER in chosen
        settings: Any = chosen.get(EXPLOSION)
        self._explosion = GradientExplosion(**settings) if settings is not None else None
        self._modules = modules

    @property
    def before(self) -> bool:
        """Whether anything is looked at before a step."""
        return self._gradient or self._explosion is not None

    @property
    def after(self) -> bool:
        """Whether anything is looked at after a step."""
        return self._parameter

    def look_before(self, optimizer: Any, step: int) -> Finding | None:
        """At the gradients that this optimizer is about to step with."""
        if nonfinite.scaler_decides(optimizer):
            return None
        norm = nonfinite.gradients(optimizer)
        if not norm.finite and self._gradient:
            return nonfinite.finding(nonfinite.GRADIENT, step, nonfinite.culprits(optimizer, self._modules()))
        return self._explosion.take(step, norm.value) if self._explosion is not None else None

    def look_after(self, optimizers: Iterable[Any], step: int) -> Finding | None:
        """At all parameters, once that step is done."""
        for optimizer in optimizers:
            if not nonfinite.parameters_finite(optimizer):
                bad = nonfinite.culprits(optimizer, self._modules(), of=nonfinite.PARAMETER)
                return nonfinite.finding(nonfinite.PARAMETER, step, bad)
        return None
