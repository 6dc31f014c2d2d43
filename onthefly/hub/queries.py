"""What clients ask of a store: series for charts, histograms, runs. Read-only, each on a cursor of its own.

Shaped for tables of ten million rows on two cores: one pass over the rows and plain arithmetic on their numbers. A
window function over a million rows took half a second, ``median`` over ten million as long; and DuckDB skips blocks of
rows by their least and greatest values, so that to count what is rare costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from onthefly.protocol import CERTIFICATES, IDENTITIES, PHASES, Histogram, Lost, Run, Runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from onthefly.hub.columns import Array

FINE = 64
"""Parts of a bin, to find the median in: the values of one part are few enough to be sorted."""

LAST = 2**62
"""A row number above all."""

_PART = "floor((loss - $low) * $scale)::INTEGER"

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
    look = _Look(cursor, "run = $run AND phase = $phase AND epoch = $epoch", {**given, "epoch": epoch})
    count = look.value("count(*)", "samples")
    parts = _Parts(look, bins * FINE)
    width = (parts.high - parts.low) / bins
    finite = sum(parts.counts)
    return Histogram(
        session=session, run=run, phase=phase, epoch=epoch, count=count, nonfinite=count - finite, low=parts.low,
        high=parts.high, edges=[parts.low + (width or 1.0) * place for place in range(bins + 1)],
        counts=[sum(parts.counts[place * FINE : (place + 1) * FINE]) for place in range(bins)],
        median=parts.median() if finite else None,
        phases=[word for word in PHASES if word in there],
        certificates=look.words("certificate", CERTIFICATES, count),
        identities=look.words("identity", IDENTITIES, count),
        lost=[Lost(reason=reason, backwards=number) for reason, number in look.rows(
            "reason, count(*)", "backwards", "AND reason IS NOT NULL GROUP BY reason ORDER BY count(*) DESC")],
    )  # fmt: skip


class _Look:
    """Queries about the rows of one epoch."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, where: str, given: dict[str, Any]) -> None:
        self._cursor = cursor
        self._where = where
        self._given = given

    def rows(self, what: str, table: str, more: str = "", **given: Any) -> list[Any]:
        """``SELECT what FROM table WHERE ... more``."""
        query = f"SELECT {what} FROM {table} WHERE {self._where} {more}"
        return self._cursor.execute(query, {**self._given, **given}).fetchall()

    def value(self, what: str, table: str, more: str = "") -> Any:
        """The one value of a query."""
        return self.rows(what, table, more)[0][0]

    def words(self, column: str, words: tuple[str, ...], count: int) -> dict[str, int]:
        """How many of ``count`` rows hold which word; the first is the usual one and gets what is left."""
        others = dict(self.rows(f"{column}, count(*)", "samples", f"AND {column} <> '{words[0]}' GROUP BY {column}"))
        usual = count - sum(others.values())
        return {words[0]: usual, **others} if usual else others


class _Parts:
    """The finite losses, counted in equal parts of their range."""

    def __init__(self, look: _Look, number: int) -> None:
        self._look = look
        low, high = look.rows("min(loss), max(loss)", "samples")[0]
        self._finite = ""
        if not (_is_finite(low) and _is_finite(high)):
            self._finite = "AND isfinite(loss)"
            low, high = look.rows("min(loss), max(loss)", "samples", self._finite)[0]
        self.low, self.high = float(low or 0.0), float(high or 0.0)
        self._scale = number / ((self.high - self.low) or 1.0)
        self.counts = [0] * number
        for place, count in look.rows(
            f"{_PART} AS part, count(*)", "samples", f"{self._finite} GROUP BY part",
            low=self.low, scale=self._scale,
        ):  # fmt: skip
            self.counts[min(place, number - 1)] += count  # the highest value opens a part of its own

    def median(self) -> float:
        """The middle value, or the mean of the two: only the parts that hold them are sorted."""
        count = sum(self.counts)
        low, high = (count - 1) // 2, count // 2
        (first, below), (last, _) = self._place(low), self._place(high)
        inside = sum(self.counts[first : last + 1])
        middle = self._look.rows(
            "quantile_disc(loss, [$middle, $other])", "samples",
            # The range says roughly the same, and costs a fraction of the exact condition.
            f"{self._finite} AND loss >= $least AND loss <= $most AND {_PART} BETWEEN $first AND $final",
            low=self.low, scale=self._scale, first=first, final=last + (last == len(self.counts) - 1),
            least=self.low + (first - 1) / self._scale, most=self.low + (last + 2) / self._scale,
            middle=(low - below + 0.5) / inside, other=(high - below + 0.5) / inside,
        )[0][0]  # fmt: skip
        return (float(middle[0]) + float(middle[1])) / 2

    def _place(self, rank: int) -> tuple[int, int]:
        """The part with the value that has ``rank`` below it, and how many are below that part."""
        part = below = 0
        while below + self.counts[part] <= rank:
            below += self.counts[part]
            part += 1
        return part, below


def _is_finite(value: Optional[float]) -> bool:
    return value is not None and abs(value) < float("inf")


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
