"""Values far above what they were: a loss that spikes, gradients that explode."""

from __future__ import annotations

import math

from onthefly.alarms.calm import Calm
from onthefly.alarms.finding import Finding
from onthefly.alarms.window import Window

LOSS, GRADIENT = "loss-spike", "grad-explosion"


class LossSpike:
    """A loss that lies many robust standard deviations above the median of the newest ones.

    Median and MAD (times 1.4826) of a window; on logarithms where all of it is positive, see
    :mod:`onthefly.alarms.window`.
    """

    def __init__(
        self, *, window: int = 200, deviations: float = 8.0, rise: float = 0.1, first: int = 30, calm: int = 10
    ) -> None:
        """A loss is a spike above ``deviations``, and above the median by a share of ``rise`` at least.

        ``first``: values that are only looked at. ``calm``: harmless ones after which it may fire again.
        """
        self._window = Window(window)
        self._deviations, self._rise, self._first = deviations, rise, first
        self._calm = Calm(calm)

    def take(self, step: int, loss: float) -> Finding | None:
        """One training loss, in order; one that is not finite is left to its own watchdog."""
        if not math.isfinite(loss):
            return None
        window, far, middle = self._window, 0.0, 0.0
        if len(window) >= self._first:
            middle = window.median()
            if loss - middle > self._rise * abs(middle):
                far = window.beyond(loss, self._deviations)
        window.add(loss)
        if not self._calm.passes(far > 0):
            return None
        text = f"the loss of step {step} is {loss:.4g}; the median of the {len(window) - 1} before it is {middle:.4g}"
        return Finding(LOSS, step, text, "warning", {"loss": loss, "median": middle, "deviations": far})


class GradientExplosion:
    """A gradient norm that is a multiple of its running median and, in logarithms, far out of its spread."""

    def __init__(
        self, *, window: int = 200, factor: float = 10.0, deviations: float = 4.0, first: int = 30, calm: int = 10
    ) -> None:
        """A norm is an explosion above ``factor`` times the median and above ``deviations``."""
        self._window = Window(window)
        self._factor, self._deviations, self._first = factor, deviations, first
        self._calm = Calm(calm)

    def take(self, step: int, norm: float) -> Finding | None:
        """The norm before one step; 0 (no gradients) and what is not finite are passed over."""
        if not (math.isfinite(norm) and norm > 0):
            return None
        window, exploded, middle = self._window, False, 0.0
        if len(window) >= self._first:
            middle = window.median()
            # A window without spread judges by the factor alone.
            exploded = norm > self._factor * middle and (window.flat() or window.beyond(norm, self._deviations) > 0)
        window.add(norm)
        if not self._calm.passes(exploded):
            return None
        text = f"the gradient norm before step {step} is {norm:.4g}, {norm / middle:.0f} times its median {middle:.4g}"
        return Finding(GRADIENT, step, text, "warning", {"norm": norm, "median": middle, "ratio": norm / middle})
