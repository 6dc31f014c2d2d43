"""How long we kept the training thread busy: the figure that the user sees as the cost of watching."""

from __future__ import annotations


class Meter:
    """Adds up our own time on the training thread; whoever counts steps sets it back to zero at each.

    The hooks add what they measured around their own lines; what it costs to enter and leave a hook (some 0.3 us each)
    is not in it, which is why ``make bench`` compares whole epochs instead.
    """

    __slots__ = ("ours_ns", "waiting_ns")

    def __init__(self) -> None:
        self.ours_ns = 0
        """Nanoseconds in our hooks since the step before; time spent paused is not in it."""
        self.waiting_ns = 0
        """Nanoseconds the script waited for data since the step before."""
