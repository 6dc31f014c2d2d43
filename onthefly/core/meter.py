"""How long we kept the training thread busy: the figure that the user sees as the cost of watching."""

from __future__ import annotations

from time import perf_counter_ns


class Meter:
    """Adds up our own time on the training thread, between one reading and the next.

    The hooks add what they measured around their own lines; what it costs to enter and leave a hook (some 0.3 us each)
    is not in it, which is why ``make bench`` compares whole epochs instead.
    """

    __slots__ = ("ours_ns", "waiting_ns")

    def __init__(self) -> None:
        self.ours_ns = 0
        """Nanoseconds in our hooks since the last :meth:`take`; time spent paused is not in it."""
        self.waiting_ns = 0
        """Nanoseconds the script waited for data since the last :meth:`take`."""

    def add_since(self, start_ns: int) -> None:
        """Count the time from ``start_ns`` (``perf_counter_ns``) until now as ours."""
        self.ours_ns += perf_counter_ns() - start_ns

    def take(self) -> tuple[float, float]:
        """``(ours in microseconds, waiting in milliseconds)`` since the last call; starts anew."""
        ours, waiting = self.ours_ns / 1e3, self.waiting_ns / 1e6
        self.ours_ns = self.waiting_ns = 0
        return ours, waiting
