"""What clients ask of a store: series for charts, histograms, runs. Read-only, each on a cursor of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from onthefly.protocol import Histogram, Lost, Run, Runs

if TYPE_CHECKING:
    import duckdb

    from onthefly.hub.columns import Array

_ROWS = {
    True: "SELECT rowid AS place, step, epoch, epoch_us(time) AS time, loss AS value FROM backwards WHERE run = $run",
    False: (
        "SELECT rowid AS place, step, epoch, epoch_us(time) AS time, value FROM metrics_stored "
        "WHERE run = $run AND name = $name"
    ),
}

_RAW = "SELECT step, epoch, time / 1e6 AS time, value FROM ({rows}) WHERE place >= $after ORDER BY place"

_BUCKETS = """
WITH numbered AS (
    SELECT *, (row_number() OVER (ORDER BY place) - 1) * $points // $count AS bucket
    FROM ({rows}) WHERE place >= $after
)
SELECT first(step ORDER BY place) AS step, first(epoch ORDER BY place) AS epoch,
    first(time ORDER BY place) / 1e6 AS time,
    coalesce(avg(value) FILTER (isfinite(value)), max(value)) AS value,
    coalesce(min(value) FILTER (NOT isnan(value)), 'nan'::DOUBLE) AS low, max(value) AS high
FROM numbered GROUP BY bucket ORDER BY bucket"""
"""Spikes survive: each bucket keeps its lowest and highest value (DuckDB orders NaN above all, so `high` shows it)."""


def series(
    cursor: duckdb.DuckDBPyConnection, run: str, name: str, after: int, points: int
) -> tuple[dict[str, Array], bool]:
    """Columns step, epoch, time (s), value and, where they are buckets, low and high; and whether they are."""
    rows = _ROWS[name == "loss"]
    given: dict[str, Any] = {"run": run, "after": after}
    if name != "loss":
        given["name"] = name
    found = cursor.execute(f"SELECT count(*) FROM ({rows}) WHERE place >= $after", given).fetchone()
    count = int(found[0]) if found else 0
    if count <= points:
        return cursor.execute(_RAW.format(rows=rows), given).fetchnumpy(), False
    return cursor.execute(_BUCKETS.format(rows=rows), {**given, "points": points, "count": count}).fetchnumpy(), True


def histogram(
    cursor: duckdb.DuckDBPyConnection, session: str, run: str, phase: Any, epoch: int | None, bins: int
) -> Histogram:
    """The per-sample losses of one epoch; the newest if none is named.

    In one transaction: rows are committed meanwhile, and counts of different moments would not add up.
    """
    cursor.begin()
    try:
        return _histogram(cursor, session, run, phase, epoch, bins)
    finally:
        cursor.rollback()


def _histogram(
    cursor: duckdb.DuckDBPyConnection, session: str, run: str, phase: Any, epoch: int | None, bins: int
) -> Histogram:
    given: dict[str, Any] = {"run": run, "phase": phase}
    if epoch is None:
        row = cursor.execute("SELECT max(epoch) FROM backwards WHERE run = $run AND phase = $phase", given).fetchone()
        epoch = int(row[0]) if row and row[0] is not None else 0
    given["epoch"] = epoch
    where = "FROM samples WHERE run = $run AND phase = $phase AND epoch = $epoch"
    row = cursor.execute(
        f"SELECT count(*), count(*) FILTER (NOT isfinite(loss)), min(loss) FILTER (isfinite(loss)), "
        f"max(loss) FILTER (isfinite(loss)), median(loss) FILTER (isfinite(loss)) {where}", given,
    ).fetchone()  # fmt: skip
    count, nonfinite, low, high, median = row if row else (0, 0, None, None, None)
    low, high = float(low or 0.0), float(high or 0.0)
    width = (high - low) / bins or 1.0
    counts = [0] * bins
    for place, number in cursor.execute(
        f"SELECT least(floor((loss - $low) / $width), $last)::INTEGER AS bin, count(*) {where} "
        "AND isfinite(loss) GROUP BY bin",
        {**given, "low": low, "width": width, "last": bins - 1},
    ).fetchall():  # fmt: skip
        counts[max(0, place)] += number
    return Histogram(
        session=session, run=run, phase=phase, epoch=epoch, count=count, nonfinite=nonfinite, low=low, high=high,
        edges=[low + width * place for place in range(bins + 1)], counts=counts,
        median=None if median is None or math.isnan(median) else float(median),
        certificates=_by(cursor, "certificate", where, given), identities=_by(cursor, "identity", where, given),
        lost=[Lost(reason=reason, backwards=number) for reason, number in cursor.execute(
            "SELECT reason, count(*) FROM backwards WHERE run = $run AND phase = $phase AND epoch = $epoch "
            "AND reason IS NOT NULL GROUP BY reason ORDER BY count(*) DESC", given).fetchall()],
    )  # fmt: skip


def _by(cursor: duckdb.DuckDBPyConnection, column: str, where: str, given: dict[str, Any]) -> dict[str, int]:
    return dict(cursor.execute(f"SELECT {column}, count(*) {where} GROUP BY {column}", given).fetchall())


def runs(cursor: duckdb.DuckDBPyConnection) -> Runs:
    """The runs of a session, in the order of their beginning."""
    found = cursor.execute(
        "SELECT run, epoch_us(min(time)) / 1e6, count(*), min(step), max(step) FROM backwards GROUP BY run ORDER BY 2"
    ).fetchall()
    samples = dict(cursor.execute("SELECT run, count(*) FROM samples GROUP BY run").fetchall())
    return Runs(runs=[
        Run(name=name, parents=[], started=started, backwards=count, samples=samples.get(name, 0), first_step=first,
            last_step=last)
        for name, started, count, first, last in found
    ])  # fmt: skip
