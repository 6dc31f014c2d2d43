"""The middle and the spread of the newest values, robustly: median and MAD of a sliding window.

Spread is judged on logarithms where all values are positive, since losses, norms and durations are skewed: those of
small batches look lognormal, and in plain numbers one step in fifty would lie "eight deviations" out.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque

TO_DEVIATIONS = 1.4826
"""The MAD of a normal distribution times this is its standard deviation."""


class Window:
    """The newest values, at most ``length``. An addition costs about a microsecond."""

    def __init__(self, length: int) -> None:
        self._values: deque[float] = deque()
        self._sorted: list[float] = []
        self._length = length

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: float) -> None:
        """Take one in, the oldest out; it must be finite."""
        if len(self._values) == self._length:
            del self._sorted[bisect_left(self._sorted, self._values.popleft())]
        self._values.append(value)
        insort(self._sorted, value)

    def median(self) -> float:
        """The middle value, the upper one of an even number; the window must not be empty."""
        return self._sorted[len(self._sorted) // 2]

    def flat(self) -> bool:
        """Whether more than half of the values are one."""
        ordered, half = self._sorted, len(self._sorted) // 2
        middle = ordered[half]
        return bisect_right(ordered, middle) - bisect_left(ordered, middle) > half

    def beyond(self, value: float, limit: float) -> float:
        """How many robust standard deviations ``value`` lies above the median, if more than ``limit``; else 0.

        0 also where the window has no spread.
        """
        ordered, count = self._sorted, len(self._sorted)
        logs = ordered[0] > 0 and value > 0
        middle = _logarithm(self.median(), logs)
        above = _logarithm(value, logs) - middle
        # More than half of the values lie within the MAD, and those between two quarters are half: so it reaches to
        # one of these. Nearly every value is judged by that, without the sorting below (2 us instead of 25).
        low, high = _logarithm(ordered[count // 4], logs), _logarithm(ordered[count // 4 + count // 2], logs)
        if above <= limit * TO_DEVIATIONS * min(middle - low, high - middle):
            return 0.0
        distances = sorted([abs(_logarithm(one, logs) - middle) for one in ordered])
        spread = TO_DEVIATIONS * distances[count // 2]
        return above / spread if spread and above > limit * spread else 0.0


def _logarithm(value: float, logs: bool) -> float:
    return math.log(value) if logs else value
