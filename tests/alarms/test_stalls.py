"""Waiting for data."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from onthefly.alarms.stalls import BOUND, STALL, LoaderStall

if TYPE_CHECKING:
    from onthefly.alarms.finding import Finding


def found(waits: list[float], work: float = 20.0, epoch_length: int = 10_000) -> list[Finding]:
    watch = LoaderStall()
    findings = [watch.take(step, step // epoch_length, wait, wait + work) for step, wait in enumerate(waits)]
    return [finding for finding in findings if finding is not None]


def waits(steps: int, around: float = 0.5, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [around * draw.uniform(0.5, 2.0) for _ in range(steps)]


def test_steady_waits_do_not_fire() -> None:
    for seed in range(5):
        assert found(waits(500, seed=seed)) == []
    assert found([0.0] * 500) == []


def test_one_long_wait_is_a_stall() -> None:
    series = waits(300)
    series[123] = 900.0
    (finding,) = found(series)
    assert (finding.name, finding.step) == (STALL, 123)
    assert "900 ms" in finding.text


def test_the_start_of_an_epoch_and_small_waits_are_none() -> None:
    series = waits(300)
    series[100] = series[200] = 900.0
    assert found(series, epoch_length=100) == []
    series = waits(300)
    series[123] = 60.0
    assert found(series) == []


def test_a_long_wait_in_a_longer_step_is_none() -> None:
    series = waits(300)
    series[123] = 900.0
    assert found(series, work=5000.0) == []


def test_bound_by_the_loader_is_said_once() -> None:
    for around in (30.0, 300.0):
        (finding,) = found(waits(1000, around * 2, seed=3))
        assert finding.name == BOUND
        assert 29 <= finding.step <= 60
    series = [*waits(100), *waits(100, 45.0), *waits(100), *waits(100, 45.0)]
    assert [(finding.name, finding.step) for finding in found(series)] == [(BOUND, 119), (BOUND, 319)]


def test_stalls_in_a_row_are_one() -> None:
    series = waits(400)
    series[200:205] = [900.0] * 5
    series[300] = 900.0
    assert [finding.step for finding in found(series)] == [200, 300]


def test_a_few_in_a_row_are_not_bound() -> None:
    series = waits(400)
    for start in range(50, 400, 50):
        series[start : start + 19] = [50.0] * 19
    assert found(series) == []


def test_nonsense_is_passed_over() -> None:
    watch = LoaderStall()
    assert all(watch.take(step, 0, float("nan"), 1.0) is None for step in range(100))
    assert all(watch.take(step, 0, 0.0, 0.0) is None for step in range(100))
