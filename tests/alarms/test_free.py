"""The free watchdogs, fed with messages as they go to the hub."""

from __future__ import annotations

import math
from array import array
from typing import Any

import pytest

from onthefly.alarms import free
from onthefly.alarms.free import FREE, FreeWatchdogs, default
from onthefly.errors import UsageError
from onthefly.protocol import Metrics
from tests.alarms.test_nonfinite import block


def steps(first: int, data_ms: list[float], step_ms: float = 20.0, *, complete: bool = False) -> Metrics:
    n = len(data_ms)
    return Metrics(
        run="baseline", step=array("q", range(first, first + n)).tobytes(), epoch=bytes(4 * n), time=bytes(8 * n),
        values={"data_ms": array("d", data_ms).tobytes(),
                "step_ms": array("d", [one + step_ms for one in data_ms]).tobytes()}, complete=complete,
    )  # fmt: skip


def test_what_was_planted_is_found_at_its_step() -> None:
    watch, found = FreeWatchdogs({name: {} for name in FREE}), []
    for first in range(0, 320, 32):
        losses = [2.0 + 0.01 * (number * 7 % 13) for number in range(32)]
        waits = [1.0] * 32
        if first == 96:
            losses[3] = 50.0
        if first == 160:
            waits[4] = 900.0
        if first == 224:
            losses[5] = math.nan
        found += watch.take(block([(loss, [loss] * 4) for loss in losses], first=first))
        found += watch.take(steps(first, waits))
    assert [(one.name, one.step) for one in found] == [
        ("loss-spike", 99), ("loader-stall", 164), ("nonfinite-loss", 229),
    ]  # fmt: skip


def test_memory_is_read_once_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e9]
    monkeypatch.setattr(free.memory, "resident", lambda: int(now[0]))
    watch, found = FreeWatchdogs({"memory-growth": {"first": 0, "bucket": 1}}), []
    for first in range(0, 3200, 32):
        now[0] += 5e6
        found += watch.take(steps(first, [1.0] * 32))
    (first_found, *_) = found
    assert first_found.name == "memory-growth"
    assert first_found.step == 24 * 32 - 1
    assert first_found.numbers["bytes_per_step"] == pytest.approx(5e6 / 32)


def test_what_was_not_chosen_is_silent() -> None:
    watch = FreeWatchdogs({"loss-spike": {"deviations": 50}})
    assert watch.take(block([(math.nan, [math.nan])])) == []
    assert watch.take(steps(0, [900.0] * 200)) == []
    assert FreeWatchdogs({}).take(block([(math.nan, [])])) == []


def test_values_that_the_script_logs_are_none_of_ours() -> None:
    watch = FreeWatchdogs(default())
    assert watch.take(steps(0, [900.0] * 200, complete=True)) == []
    assert watch.take(Metrics(run="r", step=bytes(8), epoch=bytes(4), time=bytes(8), values={"lr": bytes(8)})) == []


@pytest.mark.parametrize(
    ("chosen", "remedy"),
    [
        ({"nonfinite-grad": {}}, "known: nonfinite-loss"), ({"loss": {}}, "known: nonfinite-loss"),
        ({"loss-spike": {"window": 1}}, "whole number"), ({"loss-spike": {"x": 1}}, "known: window"),
    ],
)  # fmt: skip
def test_a_choice_that_is_none(chosen: dict[str, Any], remedy: str) -> None:
    with pytest.raises(UsageError) as refused:
        FreeWatchdogs(chosen)
    assert remedy in refused.value.remedy


def test_those_that_are_on() -> None:
    assert set(default()) == {"nonfinite-loss", "loss-spike"}
