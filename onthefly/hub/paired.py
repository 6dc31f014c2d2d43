"""Losses of several models on the same samples, paired: which samples are the same, differences, and their intervals.

NumPy alone, and no state: everything here can be done anew by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np

from onthefly.errors import Refused
from onthefly.protocol import Compared, ComparedPart
from onthefly.protocol.runs import MOST_DRAWN, RESAMPLES, Z95

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onthefly.hub.columns import Array

SEED = 0
AT_ONCE = 1 << 20
"""Numbers drawn at a time: 8 MiB."""


class Tested(NamedTuple):
    """The samples of one run's test: columns of one length."""

    run: str
    name: Array
    """int64: what tells a sample from all others, the same in each run."""
    loss: Array
    """float64; NaN and infinity are losses too."""
    target: Array
    """float64; NaN where there is none."""
    predicted: Array
    inside: Array
    """bool: of the slice."""


def aligned(tests: Sequence[Tested]) -> list[Tested]:
    """The samples that all have, in one order; of one that a test has several times, its newest row."""
    single = [_each_once(one) for one in tests]
    common = single[0].name
    for one in single[1:]:
        if not np.array_equal(common, one.name):
            common = np.intersect1d(common, one.name, assume_unique=True)
    if not len(common):
        raise Refused("these tests have no sample in common", "test the runs on the same loader")
    return [one if len(one.name) == len(common) else at(one, np.searchsorted(one.name, common)) for one in single]


def _each_once(one: Tested) -> Tested:
    """Ordered by name."""
    if len(one.name) < 2 or (one.name[1:] > one.name[:-1]).all():
        return one
    _, last = np.unique(one.name[::-1], return_index=True)
    return at(one, len(one.name) - 1 - last)


def at(one: Tested, places: Array | slice) -> Tested:
    """Those samples alone."""
    return Tested(one.run, *(column[places] for column in one[1:]))


def part(name: str, tests: Sequence[Tested], *, classes: bool, most: int = MOST_DRAWN) -> ComparedPart:
    """These samples (aligned) under all runs; ``most``: as in :func:`intervals`.

    ``classes``: targets are classes, and a prediction can be right.
    """
    first = tests[0]
    differences = [_difference(one.loss, first.loss) for one in tests[1:]]
    runs = [Compared(loss=_mean(first.loss), accuracy=_accuracy(first) if classes else None)]
    for one, difference, ends in zip(tests[1:], differences, intervals(differences, most)):
        mine, other = _ordered(one.loss), _ordered(first.loss)
        runs.append(Compared(
            loss=_mean(one.loss), accuracy=_accuracy(one) if classes else None, difference=_mean(difference),
            low=None if ends is None else ends[0], high=None if ends is None else ends[1],
            wins=int((mine < other).sum()), losses=int((mine > other).sum()),
        ))  # fmt: skip
    return ComparedPart(name=name, count=len(first.loss), runs=runs)


def _difference(mine: Array, first: Array) -> Array:
    """Of the samples for which both are finite."""
    finite = np.isfinite(mine) & np.isfinite(first)
    return mine[finite] - first[finite]


def _mean(values: Array) -> Optional[float]:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _ordered(loss: Array) -> Array:
    """A loss that is NaN is as bad as one without bounds."""
    return np.where(np.isnan(loss), np.inf, loss)


def _accuracy(one: Tested) -> Optional[float]:
    known = ~np.isnan(one.target) & ~np.isnan(one.predicted)
    return float((one.target[known] == one.predicted[known]).mean()) if known.any() else None


def intervals(columns: Sequence[Array], most: int = MOST_DRAWN) -> list[Optional[tuple[float, float]]]:
    """95 % intervals of the means of paired differences; None of fewer than two.

    Percentile bootstrap over the samples (Efron 1979), the same draws for all columns of one length. Of more samples
    than ``most`` it is the normal interval, which the bootstrap approaches: to draw a million samples two thousand
    times takes ten seconds, and gives the same.
    """
    found: list[Optional[tuple[float, float]]] = [None] * len(columns)
    for count in {len(column) for column in columns if len(column) > 1}:
        places = [place for place, column in enumerate(columns) if len(column) == count]
        ends = _normal if count > most else _drawn
        for place, (low, high) in zip(places, ends([columns[place] for place in places])):
            found[place] = float(low), float(high)
    return found


def _normal(columns: Sequence[Array]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for column in columns:
        mean, half = column.mean(), Z95 * column.std(ddof=1) / len(column) ** 0.5
        found.append((mean - half, mean + half))
    return found


def _drawn(columns: Sequence[Array]) -> list[Array]:
    chance = np.random.default_rng(SEED)
    count = len(columns[0])
    means = np.empty((len(columns), RESAMPLES))
    rows = max(1, AT_ONCE // count)
    for start in range(0, RESAMPLES, rows):
        drawn = chance.integers(0, count, (min(rows, RESAMPLES - start), count))
        for place, column in enumerate(columns):
            means[place, start : start + len(drawn)] = column[drawn].mean(1)
    return list(np.percentile(means, (2.5, 97.5), axis=1).T)
