"""Arithmetic on metrics that never raises: IEEE 754 where Python would, and summaries of the newest values.

Values of a metric may be infinite or not a number, and a condition on them is asked at every step: what it comes to is
defined for all of them. ``1 / 0`` is infinite, ``0 / 0`` is not a number, and so is any summary of values of which
one is not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def divided(a: float, b: float) -> float:
    """``a / b``; by zero: infinite with the sign that the two have, or not a number."""
    if b:
        return a / b
    if not a or math.isnan(a) or math.isnan(b):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def floored(a: float, b: float) -> float:
    """``a // b`` as Python gives it; by zero as :func:`divided`."""
    return a // b if b else divided(a, b)


def remainder(a: float, b: float) -> float:
    """``a % b``, with the sign of ``b``; by zero not a number."""
    return a % b if b else math.nan


def power(a: float, b: float) -> float:
    """``a ** b``; infinite where it is too large, not a number where it would be complex."""
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:  # zero to a negative power, or a negative number to a broken one
        if a:
            return math.nan
        return math.copysign(math.inf, a) if b % 2 == 1 else math.inf


def least(*values: float) -> float:
    """The lowest; not a number if one is not (Python's ``min`` depends on the order then)."""
    return math.nan if any(map(math.isnan, values)) else min(values)


def greatest(*values: float) -> float:
    """The highest; not a number if one is not."""
    return math.nan if any(map(math.isnan, values)) else max(values)


def mean(values: Sequence[float]) -> float:
    """Their sum, divided by their number."""
    return sum(values) / len(values)


def median(values: Sequence[float]) -> float:
    """The middle one; of an even number the mean of the two in the middle."""
    if any(map(math.isnan, values)):
        return math.nan
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def std(values: Sequence[float]) -> float:
    """The standard deviation, with n - 1 as torch's default has it."""
    middle = mean(values)
    return math.sqrt(sum([(value - middle) * (value - middle) for value in values]) / (len(values) - 1))


def lowest(values: Sequence[float]) -> float:
    """The least of them."""
    return least(*values)


def highest(values: Sequence[float]) -> float:
    """The greatest of them."""
    return greatest(*values)


def change(values: Sequence[float]) -> float:
    """The newest minus the oldest."""
    return values[-1] - values[0]
