"""Spikes in losses and explosions of gradients: those that were planted, and no others."""

from __future__ import annotations

import math
import random
import statistics
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onthefly.alarms.spikes import GradientExplosion, LossSpike
from onthefly.alarms.window import TO_DEVIATIONS, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onthefly.alarms.finding import Finding


def found(watch: LossSpike | GradientExplosion, values: Sequence[float]) -> list[Finding]:
    return [finding for step, value in enumerate(values) if (finding := watch.take(step, value)) is not None]


def curve(kind: str, steps: int, seed: int) -> list[float]:
    draw = random.Random(seed)
    if kind == "falling":
        return [2.3 * math.exp(-step / 300) + 0.1 + draw.gauss(0, 0.03) for step in range(steps)]
    if kind == "lognormal":  # small batches, near the end
        return [math.exp(draw.gauss(-4, 1)) for _ in range(steps)]
    if kind == "negative":
        return [draw.gauss(-50, 2) for _ in range(steps)]
    if kind == "steps":
        return [2.0 * 0.5 ** (step // 200) * math.exp(draw.gauss(0, 0.05)) for step in range(steps)]
    return [1.7] * steps  # constant


@pytest.mark.parametrize("kind", ["falling", "lognormal", "negative", "steps", "constant"])
def test_ordinary_curves_do_not_fire(kind: str) -> None:
    for seed in range(8):
        assert found(LossSpike(), curve(kind, 1500, seed)) == []


@pytest.mark.parametrize(("kind", "spike"), [("falling", 9.0), ("lognormal", 1e3), ("negative", 30.0), ("steps", 60.0)])
def test_a_planted_spike_is_found_where_it_is(kind: str, spike: float) -> None:
    for seed in range(8):
        values = curve(kind, 600, seed)
        at = random.Random(seed).randrange(30, 600)
        values[at] = spike
        (finding,) = found(LossSpike(), values)
        assert finding.step == at
        assert finding.numbers["loss"] == spike
        assert finding.numbers["deviations"] > 8
        assert f"step {at}" in finding.text


def test_a_spike_is_told_once_until_it_has_calmed_down() -> None:
    values = curve("falling", 300, 1)
    values[100:120] = [50.0 + step for step in range(20)]
    values[125] = 50.0  # not calm yet
    values[150] = 50.0
    assert [finding.step for finding in found(LossSpike(), values)] == [100, 150]


def test_the_first_losses_are_only_looked_at() -> None:
    values = curve("falling", 100, 2)
    values[29] = 1e6
    assert found(LossSpike(), values) == []
    values[30] = 1e6
    assert [finding.step for finding in found(LossSpike(), values)] == [30]


def test_a_loss_without_spread_and_one_that_is_not_finite() -> None:
    assert found(LossSpike(), [*[1.0] * 100, 5.0]) == []
    values = curve("falling", 100, 3)
    values[40], values[50] = math.nan, math.inf
    assert found(LossSpike(), values) == []


def test_a_rise_that_is_small_is_no_spike() -> None:
    draw = random.Random(0)
    values = [1.0 + draw.gauss(0, 1e-6) for _ in range(100)]
    values[70] = 1.05
    assert found(LossSpike(), values) == []
    assert [finding.step for finding in found(LossSpike(rise=0.01), values)] == [70]


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3) | st.floats(1e-6, 10), min_size=1, max_size=40), st.floats(-1e4, 1e4))
def test_beyond_is_the_robust_score(values: list[float], value: float) -> None:
    window = Window(30)
    for one in values:
        window.add(one)
    kept = values[-30:]
    logs = min(kept) > 0 and value > 0
    plain = (lambda one: math.log(one)) if logs else float
    middle = plain(statistics.median_high(kept))
    spread = TO_DEVIATIONS * statistics.median_high([abs(plain(one) - middle) for one in kept])
    score = (plain(value) - middle) / spread if spread else 0.0
    assert len(window) == len(kept)
    assert window.median() == statistics.median_high(kept)
    assert window.flat() is (spread == 0)
    for limit in (0.5, 2.0, 8.0):
        assert window.beyond(value, limit) == pytest.approx(score if score > limit else 0.0)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.5])
def test_gradients(sigma: float) -> None:
    for seed in range(8):
        draw = random.Random(seed)
        norms = [math.exp(draw.gauss(0, sigma)) for _ in range(400)]
        assert found(GradientExplosion(), norms) == []
        at = draw.randrange(30, 400)
        norms[at] = 200.0
        (finding,) = found(GradientExplosion(), norms)
        assert finding.step == at
        assert finding.numbers["ratio"] > 10
    assert found(GradientExplosion(), [0.0, math.nan, math.inf] * 50) == []


def test_wild_norms_need_more_than_the_factor() -> None:
    draw = random.Random(5)
    norms = [math.exp(draw.gauss(0, 1.5)) for _ in range(1000)]
    assert max(norms) > 10 * statistics.median(norms)
    assert found(GradientExplosion(deviations=6.0), norms) == []
