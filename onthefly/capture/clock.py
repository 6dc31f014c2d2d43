"""The monotonic clock as wall-clock time: one anchor a process, so that records stay in order when the clock is set."""

from __future__ import annotations

from time import perf_counter_ns, time

_ZERO = time() - perf_counter_ns() / 1e9
"""The wall clock when the monotonic one was zero."""


def wall(ns: int) -> float:
    """Seconds since the epoch for a reading of ``perf_counter_ns``."""
    return _ZERO + ns / 1e9
