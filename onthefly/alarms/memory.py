"""Memory that grows steadily: of the process, or of an accelerator.

Memory rises while a script warms up and goes up and down like a saw where garbage is collected; a leak is neither. So
what is watched is the lowest value of each bucket of samples, at several scales: a bucket of the next scale is eight of
the one below, and each scale keeps its newest 24. A fast leak shows at the first scale, a slow one, which there is
smaller than the noise, at a higher one. Slopes are Theil and Sen's (the median of those between all pairs: Sen 1968),
which a few jumps do not move. What rises steadily for longer than a whole scale (770 samples) and stops then, such as a
cache that fills in the first epoch, cannot be told from a leak before it stops.
"""

from __future__ import annotations

import os
from collections import deque
from statistics import median
from typing import NamedTuple

from onthefly.alarms.finding import Finding

NAME = "memory-growth"
BUCKETS, NEXT, NEAR = 24, 8, 4
"""Of each scale; how many make one of the next; how far apart two are that still must rise."""
MB = 1e6


def resident() -> int | None:
    """Bytes of this process's resident memory (2 us); None where the system does not tell cheaply."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read(100).split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


class Slope(NamedTuple):
    """How a line of values goes."""

    per_step: float
    """Theil-Sen."""
    rising: float
    """Share of the pairs that rise; ties count half."""


def slope(steps: list[float], values: list[float]) -> Slope:
    """Of values at increasing steps, two at least."""
    pairs = [
        ((values[j] - values[i]) / (steps[j] - steps[i]), values[j] - values[i])
        for i in range(len(steps)) for j in range(i + 1, len(steps))
    ]  # fmt: skip
    rising = sum([1.0 if rise > 0 else 0.5 if rise == 0 else 0.0 for _, rise in pairs]) / len(pairs)
    return Slope(median([steep for steep, _ in pairs]), rising)


class _Scale:
    """Buckets of one length."""

    def __init__(self) -> None:
        self.buckets: deque[tuple[int, float]] = deque(maxlen=BUCKETS)
        """Last step and lowest value."""
        self._inside: list[tuple[int, float]] = []

    def add(self, step: int, value: float, length: int) -> tuple[int, float] | None:
        """The bucket that this value has filled, if it has."""
        self._inside.append((step, value))
        if len(self._inside) < length:
            return None
        filled = (step, min([value for _, value in self._inside]))
        self._inside.clear()
        self.buckets.append(filled)
        return filled


class MemoryGrowth:
    """Watches one memory: that of the process, or of one accelerator."""

    def __init__(
        self, of: str = "resident memory", *, bucket: int = 32, first: int = 500, least_mb: float = 50.0,
        share: float = 0.02, rising: float = 0.9,
    ) -> None:  # fmt: skip
        """Fires where 24 buckets rise in ``rising`` of their pairs, near ones too, in both halves, by enough in all.

        ``bucket``: samples in one of the first scale. ``first``: samples that are left out, as warm-up. ``least_mb``
        and ``share`` (of the memory): what counts as enough.
        """
        self._of, self._bucket, self._skip = of, bucket, first
        self._least, self._share, self._rising = least_mb * MB, share, rising
        self._scales: list[_Scale] = []
        self._told = 0.0
        """What the memory was at the newest finding: the next comes when it is a quarter more."""

    def take(self, step: int, memory: float) -> Finding | None:
        """One sample, in bytes; steps must rise, any distance apart."""
        if self._skip > 0:
            self._skip -= 1
            return None
        found: Finding | None = None
        filled: tuple[int, float] | None = (step, memory)
        number = 0
        while filled is not None:
            if number == len(self._scales):
                self._scales.append(_Scale())
            scale = self._scales[number]
            filled = scale.add(*filled, NEXT if number else self._bucket)
            if filled is not None and len(scale.buckets) == BUCKETS:
                found = found or self._judge(scale)
            number += 1
        return found

    def _judge(self, scale: _Scale) -> Finding | None:
        steps, values = ([float(one) for one in column] for column in zip(*scale.buckets))
        span, level, half = steps[-1] - steps[0], values[-1], BUCKETS // 2
        enough = max(self._least, self._share * level)
        if level - values[0] < enough or level < 1.25 * self._told:
            return None
        whole = slope(steps, values)
        early, late = slope(steps[:half], values[:half]), slope(steps[half:], values[half:])
        grown = whole.per_step * span
        near = sum([later > value for value, later in zip(values, values[NEAR:])]) / (BUCKETS - NEAR)
        if (
            whole.rising < self._rising
            or near < self._rising  # a few jumps: flat between them
            or late.per_step < 0.75 * early.per_step  # it flattens: a warm-up
            or grown < enough
        ):
            return None
        self._told = level
        text = (
            f"{self._of} grows steadily: {grown / MB:.0f} MB in the {span:.0f} steps up to {steps[-1]:.0f}, "
            f"to {level / MB:.0f} MB now"
        )
        numbers = {"bytes_per_step": whole.per_step, "grown": grown, "now": level, "steps": span}
        return Finding(NAME, int(steps[-1]), text, "warning", numbers)
