"""What clients ask of a store: series for charts, histograms, runs. Read-only, each on a cursor of its own.

Shaped for tables of ten million rows on two cores: one pass over the rows and plain arithmetic on their numbers. A
window function over a million rows took half a second, ``median`` over ten million as long; and DuckDB skips blocks of
rows by their least and greatest values, so that to count what is rare costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onthefly.hub.spread import FINE, Look, Spread
from onthefly.protocol import CERTIFICATES, IDENTITIES, PHASES, Histogram, Lost, Run, Runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from onthefly.hub.columns import Array

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""That a histogram is handed out with."""

LAST = 2**62
"""A row number above all."""

_ROWS = {
    True: (
        "SELECT rowid AS place, step, epoch, time, loss AS value FROM backwards "
        "WHERE {of} AND phase = 'train' AND rowid >= $after AND rowid < $before"
    ),
    False: (
        "SELECT rowid AS place, step, epoch, time, value FROM metrics_stored "
        "WHERE {of} AND name = $name AND rowid >= $after AND rowid < $before"
    ),
}

_BOUNDS = "SELECT count(*), min(place), max(place) FROM ({rows})"

_RAW = "SELECT step, epoch, epoch_us(time) / 1e6 AS time, value FROM ({rows}) ORDER BY place"

_BUCKETS = """
SELECT min(step) AS step, min(epoch) AS epoch, epoch_us(min(time)) / 1e6 AS time,
    coalesce(avg(value) FILTER (isfinite(value)), max(value)) AS value, min(value) AS low, max(value) AS high
FROM ({rows}) GROUP BY (place - $first) * $points // $span ORDER BY min(place)"""
"""Spikes survive: each bucket keeps its lowest and highest value. DuckDB orders NaN above all numbers: `high` shows it
where there is one, `low` where there is nothing else."""


def series(
    cursor: duckdb.DuckDBPyConnection, run: str, name: str, after: int, points: int, before: int = LAST,
    line: Sequence[tuple[str, int]] = (),
) -> tuple[dict[str, Array], bool]:  # fmt: skip
    """One metric from row ``after`` to below row ``before``; of ``line``, runs before it, their steps below a number.

    Columns step, epoch, time (s), value and, where they are buckets, low and high; and whether they are. A bucket is a
    stretch of rows in the order in which they were saved: at most ``points`` of them.
    """
    given: dict[str, Any] = {"run": run, "after": after, "before": before}
    of = ["run = $run"]
    for place, (parent, step) in enumerate(line):
        of.append(f"(run = $run{place} AND step < $step{place})")
        given.update({f"run{place}": parent, f"step{place}": step})
    rows = _ROWS[name == "loss"].format(of=f"({' OR '.join(of)})")
    if name != "loss":
        given["name"] = name
    count, first, last = cursor.execute(_BOUNDS.format(rows=rows), given).fetchall()[0]
    if count <= points:
        return cursor.execute(_RAW.format(rows=rows), given).fetchnumpy(), False
    given.update(points=points, first=first, span=last - first + 1)
    return cursor.execute(_BUCKETS.format(rows=rows), given).fetchnumpy(), True


def histogram(
    cursor: duckdb.DuckDBPyConnection, session: str, run: str, phase: Any, epoch: int | None, bins: int
) -> Histogram:
    """The per-sample losses of one epoch; the newest if none is named.

    In one transaction: rows are committed meanwhile, and counts of different moments would not add up.
    """
    cursor.begin()
    try:
        return collect_histogram(cursor, session, run, phase, epoch, bins)
    finally:
        cursor.rollback()


def collect_histogram(
    cursor: duckdb.DuckDBPyConnection, session: str, run: str, phase: Any, epoch: int | None, bins: int
) -> Histogram:
    """The same within a transaction that is open already."""
    given: dict[str, Any] = {"run": run, "phase": phase}
    if epoch is None:
        row = cursor.execute("SELECT max(epoch) FROM backwards WHERE run = $run AND phase = $phase", given).fetchone()
        epoch = int(row[0]) if row and row[0] is not None else 0
    there = {word for (word,) in cursor.execute("SELECT DISTINCT phase FROM backwards WHERE run = ?", [run]).fetchall()}
    look = Look(cursor, "run = $run AND phase = $phase AND epoch = $epoch", {**given, "epoch": epoch})
    count = look.value("count(*)", "samples")
    parts = Spread(look, bins * FINE)
    width = (parts.high - parts.low) / bins
    finite = sum(parts.counts)
    values = parts.quantiles(QUANTILES)
    return Histogram(
        session=session, run=run, phase=phase, epoch=epoch, count=count, nonfinite=count - finite, low=parts.low,
        high=parts.high, edges=[parts.low + (width or 1.0) * place for place in range(bins + 1)],
        counts=[sum(parts.counts[place * FINE : (place + 1) * FINE]) for place in range(bins)],
        median=values[QUANTILES.index(0.5)] if finite else None,
        quantiles={str(at): value for at, value in zip(QUANTILES, values)},
        phases=[word for word in PHASES if word in there],
        certificates=look.words("certificate", CERTIFICATES, count),
        identities=look.words("identity", IDENTITIES, count),
        lost=[Lost(reason=reason, backwards=number) for reason, number in look.rows(
            "reason, count(*)", "backwards", "AND reason IS NOT NULL GROUP BY reason ORDER BY count(*) DESC")],
    )  # fmt: skip


def runs(cursor: duckdb.DuckDBPyConnection) -> Runs:
    """The runs of a session, in the order of their beginning."""
    found = cursor.execute(
        "SELECT run, epoch_us(min(time)) / 1e6, count(*) FILTER (phase = 'train'), min(step), max(step) FROM backwards "
        "GROUP BY run ORDER BY 2"
    ).fetchall()
    samples = dict(cursor.execute("SELECT run, count(*) FROM samples GROUP BY run").fetchall())
    return Runs(runs=[
        Run(name=name, parents=[], started=started, backwards=count, samples=samples.get(name, 0), first_step=first,
            last_step=last)
        for name, started, count, first, last in found
    ])  # fmt: skip
