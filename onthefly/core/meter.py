"""How long we kept the training thread busy: the figure that the user sees as the cost of watching."""

from __future__ import annotations


class Meter:
    """Adds up our own time on the training thread; whoever counts steps sets it back to zero at each.

    A lower bound: the hooks add what they measured around their own lines. Entering and leaving them, and what they
    push out of the caches, is not in it (half as much again in a step of 0.7 ms), which is why ``make bench`` compares
    whole epochs instead.
    """

    __slots__ = ("ours_ns", "waiting_ns")

    def __init__(self) -> None:
        self.ours_ns = 0
        """Nanoseconds in our hooks since the step before; time spent paused is not in it."""
        self.waiting_ns = 0
        """Nanoseconds the script waited for data since the step before."""
