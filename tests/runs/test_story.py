"""The story of docs/runs-story.md: in each seed the gate says what the table says, and the baseline is unharmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import FULL
from tests.runs import story

if TYPE_CHECKING:
    from tests.conftest import Home

pytestmark = pytest.mark.dear

NEAR = 0.1
"""Of the width of an interval: where 0 lies so near its end, another draw of the bootstrap may see it otherwise."""


def resampled(differences: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap of a mean, by other draws than ours."""
    drawn = np.random.default_rng(7).integers(0, len(differences), (4000, len(differences)))
    low, high = np.percentile(differences[drawn].mean(1), [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [
    pytest.param(seed, marks=[FULL] if seed else []) for seed in story.SEEDS
])  # fmt: skip
def test_the_gate_agrees_with_the_table(home: Home, seed: int) -> None:
    told = story.play(home, seed)
    assert told.baseline == told.plain, "the baseline is the run that was never forked"
    losses = {run: np.array(found) for run, found in told.tested.items()}
    assert {len(found) for found in losses.values()} == {600}
    best = min(("baseline", "fork1"), key=lambda run: losses[run].mean())
    for run, answer in told.answers.items():
        low, high = resampled(losses[run] - losses[best])
        if abs(low) > NEAR * (high - low):
            assert answer["status"] == ("refused" if low > 0 else "applied"), (run, low, high, answer)
        said = answer["result"]["verdict"] if answer["status"] == "applied" else answer["reason"]
        assert f"against {best}" in said
    (everything,) = [part for part in told.comparison["parts"] if part["name"] == "all"]
    for run, one in zip(("baseline", "fork1", "merge1"), everything["runs"]):
        assert one["loss"] == pytest.approx(losses[run].mean(), rel=1e-6)
    low, high = resampled(losses["merge1"] - losses["baseline"])
    found = everything["runs"][2]
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.15 * (high - low))
    sizes = {part["name"]: part["count"] for part in told.comparison["parts"]}
    assert sizes["slice"] + sizes["rest"] == sizes["all"] == 600
