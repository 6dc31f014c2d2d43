"""Quantiles of stored losses are numpy's, however narrow their range and whatever else is among them."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest

from onthefly.hub.spread import Look, Spread

CHANCE = np.random.default_rng(5)
LOSSES = {
    "spread": CHANCE.exponential(size=5000),
    "far from zero": 1000 + CHANCE.random(5000) * 1e-3,
    "below zero": -(10.0 ** CHANCE.uniform(-30, 30, 5000)),
    "ties": CHANCE.integers(0, 4, 5000) / 3,
    "all the same": np.full(50, 0.1),
    "one": np.array([0.3]),
    "not finite": np.concatenate([CHANCE.random(999), [np.inf, -np.inf, np.nan]]),
}
AT = (0.0, 1e-4, 0.01, 0.25, 0.5, 0.777, 0.99, 0.9999, 1.0)


@pytest.mark.parametrize("kind", LOSSES)
def test_quantiles_are_numpys(kind: str) -> None:
    losses = LOSSES[kind].astype(np.float32)
    database = duckdb.connect()
    database.execute("CREATE TABLE samples (loss REAL)")
    frame = {"loss": losses}
    database.execute("INSERT INTO samples SELECT coalesce(loss, 'nan') FROM frame")
    assert frame
    spread = Spread(Look(database.cursor(), "true", {}), 64)
    finite = losses[np.isfinite(losses)].astype(np.float64)
    expected = np.quantile(finite, AT).tolist()
    assert spread.quantiles(AT) == pytest.approx(expected, rel=1e-12)
    assert [spread.quantiles([at])[0] for at in AT] == pytest.approx(expected, rel=1e-12)
    database.close()
