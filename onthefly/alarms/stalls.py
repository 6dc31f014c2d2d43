"""A script that waits for its data: once, for a strangely long time, or at every step."""

from __future__ import annotations

from onthefly.alarms.calm import Calm
from onthefly.alarms.finding import Finding
from onthefly.alarms.window import Window

STALL, BOUND = "loader-stall", "loader-bound"


class LoaderStall:
    """Watches how long each step waited for the data loader."""

    def __init__(
        self, *, window: int = 200, factor: float = 10.0, share: float = 0.5, least_ms: float = 100.0, row: int = 20,
        first: int = 30, calm: int = 10,
    ) -> None:  # fmt: skip
        """A wait is a stall above ``factor`` times the median wait, ``share`` of its step, and ``least_ms``.

        With ``row`` steps in a row of which each waits for more than ``share``, training is bound by its loader; said
        once, and again after as many steps in a row that were not. ``calm``: steps without a stall after which it may
        report the next.
        """
        self._window = Window(window)
        self._factor, self._share, self._least_ms, self._row, self._first = factor, share, least_ms, row, first
        self._calm = Calm(calm)
        self._epoch: int | None = None
        self._waiting = self._busy = 0
        self._bound = False

    def take(self, step: int, epoch: int, data_ms: float, step_ms: float) -> Finding | None:
        """One step: milliseconds that it waited for data, of how many in all.

        The first of an epoch waits while workers start and fill their queues: that is no stall.
        """
        begins, self._epoch = epoch != self._epoch, epoch
        if not (data_ms >= 0 and step_ms > 0):
            return None
        known, middle = len(self._window) >= self._first, 0.0
        waits = data_ms >= self._share * step_ms
        self._waiting, self._busy = (self._waiting + 1, 0) if waits else (0, self._busy + 1)
        if known:
            middle = self._window.median()
        self._window.add(data_ms)
        if self._busy >= self._row:
            self._bound = False
        stalls = known and waits and not begins and data_ms > max(self._factor * middle, self._least_ms)
        told = self._calm.passes(stalls)
        if known and self._waiting >= self._row and not self._bound:
            self._bound = True
            text = (
                f"bound by the data loader: each of the {self._row} steps up to {step} waited for data for "
                f"{self._share:.0%} of its time or more (this one {data_ms:.0f} of {step_ms:.0f} ms)"
            )
            return Finding(BOUND, step, text, "warning", {"data_ms": data_ms, "step_ms": step_ms, "median": middle})
        if told:
            text = f"step {step} waited {data_ms:.0f} ms for data; the median is {middle:.1f} ms"
            return Finding(STALL, step, text, "warning", {"data_ms": data_ms, "step_ms": step_ms, "median": middle})
        return None
