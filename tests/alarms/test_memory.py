"""Leaks, and what looks like them for a while."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onthefly.alarms.memory import MB, MemoryGrowth, resident, slope

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.alarms.finding import Finding


def found(shape: Callable[[int], float], steps: int = 40_000, every: int = 1, noise: float = 2.0) -> list[Finding]:
    """``shape(step)`` in MB, above 1 GB."""
    draw, watch = random.Random(1), MemoryGrowth()
    taken = [watch.take(step, (1000 + shape(step) + draw.uniform(0, noise)) * MB) for step in range(0, steps, every)]
    return [finding for finding in taken if finding is not None]


def saw(period: int, height: float) -> Callable[[int], float]:
    return lambda step: height * (step % period) / period


@pytest.mark.parametrize(
    "shape",
    [
        lambda step: 0.0,
        lambda step: 800 * (1 - math.exp(-step / 300)),  # a warm-up
        lambda step: 800 * (1 - math.exp(-step / 1000)),
        lambda step: 300.0 if step > 5000 else 0.0,  # a jump
        lambda step: 150.0 * (step > 2000) + 150.0 * (step > 9000) + 150.0 * (step > 11_000),
        lambda step: -0.01 * step,
        saw(37, 500), saw(100, 500), saw(500, 500),
    ],
)  # fmt: skip
def test_what_is_no_leak(shape: Callable[[int], float]) -> None:
    assert found(shape) == []


def test_a_saw_longer_than_the_scale_does_not_fool_it_for_long() -> None:
    for period in (1000, 5000):
        assert len(found(saw(period, 500))) <= 2


@pytest.mark.parametrize("rate", [0.01, 0.05, 1.0, 20.0])
@pytest.mark.parametrize("under", [lambda step: 0.0, saw(40, 100), lambda step: 400 * (1 - math.exp(-step / 50))])
def test_a_leak_is_found(rate: float, under: Callable[[int], float]) -> None:
    first = found(lambda step: under(step) + rate * step)[0]
    assert first.numbers["bytes_per_step"] == pytest.approx(rate * MB, rel=0.2)
    assert "grows steadily" in first.text


def test_a_leak_that_begins_late_and_samples_far_apart() -> None:
    (first, *_) = found(lambda step: max(0, step - 20_000) * 0.1, every=10)
    assert 20_000 < first.step < 40_000


def test_it_is_told_again_when_there_is_a_quarter_more() -> None:
    levels = [finding.numbers["now"] for finding in found(lambda step: 0.1 * step)]
    assert 2 <= len(levels) <= 8
    assert all(later >= 1.25 * earlier for earlier, later in zip(levels, levels[1:]))


@settings(deadline=None)
@given(st.floats(-100, 100), st.floats(-1e3, 1e3), st.integers(8, 30), st.data())
def test_a_slope_stands_outliers(steep: float, level: float, count: int, data: st.DataObject) -> None:
    values = [level + steep * step for step in range(count)]
    for at in data.draw(st.lists(st.integers(0, count - 1), max_size=count // 8)):
        values[at] += 1e6
    low, high = sorted((steep * 0.9, steep * 1.1))
    steps = [float(step) for step in range(count)]
    assert slope(steps, [level + steep * step for step in range(count)]).per_step == pytest.approx(steep, abs=1e-6)
    if max(values) < 1e5:
        assert low - 1e-6 <= slope(steps, values).per_step <= high + 1e-6


def test_resident_memory() -> None:
    now = resident()
    assert now is not None
    assert 10 * MB < now < 1e12
    held = bytearray(64 * 1024 * 1024)
    after = resident()
    assert after is not None
    assert after - now > 50 * MB
    del held
