"""What a report is made of, read from a session's store in one transaction."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.hub import health, journal, queries
from onthefly.hub.report.charts import Curve
from onthefly.hub.staging import surroundings

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from onthefly.protocol import HealthResult, Histogram, JournalEntry, Run, Session

POINTS = 600
"""Of a curve."""

MAX_RUNS, MAX_METRICS, MAX_ENTRIES, MAX_EVALUATIONS = 6, 40, 300, 200
LOG_ENTRIES, LOG_CHARACTERS = 200, 6000
BINS = 48

_EVALUATIONS = """
SELECT last(entry ORDER BY rowid) FROM evaluations GROUP BY rank, pid, label ORDER BY min(rowid) LIMIT $limit"""


class Material(NamedTuple):
    """All of it."""

    session: Session
    runs: list[Run]
    curves: dict[str, list[Curve]]
    """By metric, one for each run that has it."""
    nonfinite: dict[str, int]
    """Points that no curve shows, by metric."""
    histogram: Histogram | None
    evaluations: list[dict[str, Any]]
    health: list[HealthResult]
    """The newest of each check."""
    journal: list[JournalEntry]
    environment: dict[str, Any]
    log: str
    """Its end."""
    worst: list[dict[str, Any]]
    """Samples with the highest mean loss, where there are records of samples."""


def gather(cursor: duckdb.DuckDBPyConnection, session: Session, folder: Path) -> Material:
    """Everything but ``worst``."""
    cursor.begin()  # rows are committed meanwhile
    try:
        runs = queries.runs(cursor).runs
        shown = [run.name for run in runs][:1] + [run.name for run in runs][1:][1 - MAX_RUNS :]
        curves, nonfinite = _curves(cursor, session, shown)
        counted = any(run.samples for run in runs)
        histogram = queries.collect_histogram(cursor, session.id, session.run, "train", None, BINS) if counted else None
        return Material(
            session, runs, curves, nonfinite, histogram if histogram is not None and any(histogram.counts) else None,
            _evaluations(cursor), _newest(health.read(cursor, session.id).results),
            journal.read(cursor, session.id, 0).entries[-MAX_ENTRIES:], surroundings(folder)[0], _log(cursor), [],
        )  # fmt: skip
    finally:
        cursor.rollback()


def _curves(
    cursor: duckdb.DuckDBPyConnection, session: Session, runs: list[str]
) -> tuple[dict[str, list[Curve]], dict[str, int]]:
    found: dict[str, list[Curve]] = {}
    nonfinite: dict[str, int] = {}
    for name in dict.fromkeys(["loss", *session.metrics[:MAX_METRICS]]):
        for run in runs:
            columns, bucketed = queries.series(cursor, run, name, 0, POINTS)
            values = columns["value"].tolist()
            low, high = (columns["low"].tolist(), columns["high"].tolist()) if bucketed else (values, values)
            rows = list(zip(columns["step"].tolist(), values, low, high))
            kept = [row for row in rows if all(map(math.isfinite, row))]
            nonfinite[name] = nonfinite.get(name, 0) + len(rows) - len(kept)
            if kept:
                found.setdefault(name, []).append(Curve(run, *([float(v) for v in part] for part in zip(*kept))))
    return found, {name: count for name, count in nonfinite.items() if count}


def _evaluations(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Tests and scans as they were told; a store of before there were any has no table of them."""
    there = cursor.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'evaluations'").fetchone()
    if there is None:
        return []
    rows = cursor.execute(_EVALUATIONS, {"limit": MAX_EVALUATIONS}).fetchall()
    found = [json.loads(text) for (text,) in rows]
    return [entry for entry in found if isinstance(entry, dict)]


def _newest(results: list[HealthResult]) -> list[HealthResult]:
    """Of each check and rank, in the order of checks as they came first."""
    newest: dict[tuple[str, int], HealthResult] = {}
    for result in results:
        newest[result.check, result.rank] = result
    return list(newest.values())


def _log(cursor: duckdb.DuckDBPyConnection) -> str:
    rows = cursor.execute(
        "SELECT text FROM (SELECT rowid AS row, text FROM logs ORDER BY rowid DESC LIMIT $limit) ORDER BY row",
        {"limit": LOG_ENTRIES},
    ).fetchall()
    text = "".join(text for (text,) in rows)
    if len(text) <= LOG_CHARACTERS:
        return text
    return "...\n" + text[-LOG_CHARACTERS:].partition("\n")[2]
