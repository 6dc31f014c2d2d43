"""A bundle's tables and lines, put into a new store: what they are is asked of the files, never believed.

Columns are compared by name and type with those of the store, values with what a hub would have written. DuckDB reads
below the one folder only, loads no extension, and is told how many rows may come of how many bytes.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

import duckdb
import msgspec

from onthefly.bundle import checks
from onthefly.bundle.refusals import Damaged, TooLarge
from onthefly.hub import schema, told
from onthefly.hub.columns import BadColumns
from onthefly.hub.store import STORE_NAME, Store
from onthefly.protocol import (
    CERTIFICATES,
    COMPONENT_PATTERN,
    IDENTITIES,
    MAX_COMPONENTS,
    PHASES,
    RUN_PATTERN,
    JournalEntry,
    Stream,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_TEXT = 1000
MAX_WORDS = 10_000
"""Different combinations of words (runs, loaders, reasons, names) that a table may have."""

FREE_ROWS, ROWS_A_BYTE = 1_000_000, 20
MAX_LINE, MAX_LINES, LINES = 16 << 20, 1_000_000, 2_000
_MEMORY = "512MB"

_TABLES = {"samples": "samples", "backwards": "backwards", "metrics": "metrics_stored"}
_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "samples": {
        "run": (),
        "loader": (),
        "evaluation": (),
        "phase": PHASES,
        "certificate": CERTIFICATES,
        "identity": IDENTITIES,
    },
    "backwards": {"run": (), "loader": (), "reason": (), "phase": PHASES, "certificate": CERTIFICATES},
    "metrics": {"run": (), "name": ()},
}
_MAY_LACK = {
    "sample",
    "key",
    "confidence",
    "margin",
    "evaluation",
    "target",
    "predicted",
    "reason",
    "loader",
    "error",
    "shared",
}
_WHOLE = {"rank", "step", "epoch", "backward", "position", "valid"}


class LogLine(msgspec.Struct, kw_only=True):
    """A line of ``logs.jsonl``."""

    time: float
    rank: int
    stream: Stream
    text: str


class Counts(msgspec.Struct):
    """What was put in."""

    samples: int = 0
    backwards: int = 0
    logs: int = 0
    journal: int = 0
    health: int = 0
    metrics: list[str] = []


def load(folder: Path, session: str) -> Counts:
    """Make the store in ``folder`` from ``folder/tables``, and its lines.

    Raises :class:`~onthefly.bundle.refusals.Damaged`, :class:`~onthefly.bundle.refusals.TooLarge`.
    """
    Store(folder / STORE_NAME, session).close()
    database = _confined(folder)
    try:
        database.begin()
        for name, table in _TABLES.items():
            path = folder / "tables" / f"{name}.parquet"
            if path.exists():
                _table(database, path, name, table, session)
        journal = _lines(folder / "journal.jsonl", msgspec.json.Decoder(JournalEntry),
                         lambda entries: _insert_journal(database, entries))  # fmt: skip
        logs = _lines(folder / "logs.jsonl", msgspec.json.Decoder(LogLine),
                      lambda lines: _insert_logs(database, lines))  # fmt: skip
        for name, kind in told.KINDS.items():
            _lines(folder / f"{name}.jsonl", msgspec.json.Decoder(kind), partial(_insert_told, database, name))
        counts = Counts(_count(database, "samples WHERE phase = 'train'"),
                        _count(database, "backwards WHERE phase = 'train'"), logs, journal,
                        _count(database, "health"))  # fmt: skip
        counts.metrics = [name for (name,) in database.execute(
            "SELECT name FROM metrics_stored GROUP BY name ORDER BY min(rowid)").fetchall()]  # fmt: skip
        database.commit()
    except duckdb.Error as error:
        raise Damaged(f"its records cannot be read: {str(error)[:300]}", "nothing was taken from it") from error
    finally:
        database.close()
    return counts


def _confined(folder: Path) -> Any:
    database = duckdb.connect(":memory:", config={
        "autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "threads": "2",
        "memory_limit": _MEMORY,
    })  # fmt: skip
    quoted = str(folder).replace("'", "''")
    database.execute(f"SET allowed_directories = ['{quoted}']")
    database.execute(
        f"ATTACH '{quoted}/{STORE_NAME}' AS store (TYPE duckdb, STORAGE_VERSION '{schema.STORAGE_VERSION}')"
    )
    database.execute("USE store")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    return database


def _count(database: Any, what: str, given: Optional[dict[str, Any]] = None) -> int:
    return int(database.execute(f"SELECT count(*) FROM {what}", given or {}).fetchall()[0][0])


def _table(database: Any, path: Path, name: str, table: str, session: str) -> None:
    given = {"path": str(path)}
    file = "read_parquet($path, hive_partitioning = false, union_by_name = false, filename = false)"
    rows = int(database.execute("SELECT sum(num_rows) FROM parquet_file_metadata($path)", given).fetchall()[0][0])
    most = FREE_ROWS + ROWS_A_BYTE * path.stat().st_size
    if rows > most:
        raise TooLarge(f"{path.name} has {rows} rows in {path.stat().st_size} bytes, where {most} are allowed", "")
    wanted = _columns(database, f"SELECT * FROM {table}")
    found = _columns(database, f"SELECT * FROM {file}", given)
    more = {column: kind for column, kind in found.items() if column not in wanted}
    later = schema.LATER_COLUMNS.get(table, {})
    first = [column for column in wanted if column not in later]
    there = {column: kind for column, kind in wanted.items() if column in found or column not in later}
    if list(found)[: len(first)] != first or any(found.get(column) != kind for column, kind in there.items()):
        raise Damaged(f"{path.name} has other columns than it must have", "nothing was taken from it")
    _check_components(path, name, more)
    for column in more:
        database.execute(f'ALTER TABLE {table} ADD COLUMN "{column}" REAL')
    _check_words(database, path, name, file, found)
    bad = [f"{column} IS NULL" for column in there if column not in _MAY_LACK]
    bad += [f"{column} < {-1 if column == 'position' else 0}" for column in there if column in _WHOLE]
    bad += [f"length(key) > {MAX_TEXT}"] if "key" in there else []
    if _count(database, f"{file} WHERE {' OR '.join(bad)}", given):
        raise Damaged(f"{path.name} holds values that no hub has written", "nothing was taken from it")
    names = ", ".join(f'"{column}"' for column in found)
    database.execute(f"INSERT INTO {table} ({names}) SELECT * REPLACE ($session AS session) FROM {file}",
                     {**given, "session": session})  # fmt: skip


def _columns(database: Any, query: str, given: Optional[dict[str, Any]] = None) -> dict[str, str]:
    return {row[0]: row[1] for row in database.execute(f"DESCRIBE {query}", given or {}).fetchall()}


def _check_components(path: Path, name: str, more: dict[str, str]) -> None:
    parts = [column[len(schema.COMPONENT) :] for column in more]
    good = all(
        column.startswith(schema.COMPONENT) and COMPONENT_PATTERN.fullmatch(part) and kind == "FLOAT"
        for part, (column, kind) in zip(parts, more.items())
    )
    if (more and name != "samples") or not good or len({part.lower() for part in parts}) != len(more):
        raise Damaged(f"{path.name} has columns that no hub has written", "nothing was taken from it")
    if len(more) > MAX_COMPONENTS:
        raise TooLarge(f"{path.name} has {len(more)} components, where {MAX_COMPONENTS} are allowed", "")


def _check_words(database: Any, path: Path, name: str, file: str, found: dict[str, str]) -> None:
    words = {column: known for column, known in _WORDS[name].items() if column in found}
    rows = database.execute(
        f"SELECT DISTINCT {', '.join(words)} FROM {file} LIMIT {MAX_WORDS + 1}", {"path": str(path)}
    ).fetchall()
    good = len(rows) <= MAX_WORDS
    for row in rows:
        for (column, known), word in zip(words.items(), row):
            if word is None:
                good = good and column in _MAY_LACK
            elif known:
                good = good and word in known
            else:
                good = good and len(word) <= MAX_TEXT and (column != "run" or bool(RUN_PATTERN.fullmatch(word)))
    if not good:
        raise Damaged(f"{path.name} holds words that no hub has written", "nothing was taken from it")


def _lines(path: Path, decoder: msgspec.json.Decoder[Any], insert: Callable[[list[Any]], object]) -> int:
    """Put the lines of a file in, some at a time; how many they were."""
    if not path.exists():
        return 0
    total = 0
    for batch in _batches(path):
        try:
            found = [decoder.decode(line) for line in batch]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Damaged(f"{path.name} is not what was written: {error}", "nothing was taken from it") from error
        if any(not math.isfinite(one.time) or not 0 <= one.rank < 1 << 15 for one in found):
            raise Damaged(f"{path.name} holds values that no hub has written", "nothing was taken from it")
        total += len(found)
        if total > MAX_LINES:
            raise TooLarge(f"{path.name} has more than {MAX_LINES} lines", "")
        insert(found)
    return total


def _batches(path: Path) -> Iterator[list[bytes]]:
    with path.open("rb") as file:
        batch: list[bytes] = []
        size = 0
        while line := file.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise TooLarge(f"{path.name} has a line of more than {MAX_LINE} bytes", "")
            checks.scan(line, path.name)
            batch.append(line)
            size += len(line)
            if len(batch) == LINES or size > MAX_LINE:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def _insert_journal(database: Any, entries: list[JournalEntry]) -> None:
    if any(not RUN_PATTERN.fullmatch(entry.run) for entry in entries):
        raise Damaged("the journal names a run that is none", "nothing was taken from it")
    texts = [msgspec.json.encode(entry).decode() for entry in entries]
    database.execute(schema.INSERT_JOURNAL, {
        "ranks": [entry.rank for entry in entries], "pids": [0] * len(entries), "entries": texts,
    })  # fmt: skip


def _insert_told(database: Any, name: str, found: list[Any]) -> None:
    try:
        told.insert(database, name, found)
    except BadColumns as error:
        raise Damaged(f"{name}.jsonl: {error}", "nothing was taken from it") from error


def _insert_logs(database: Any, lines: list[LogLine]) -> None:
    database.execute(schema.INSERT_LOGS, {
        "ranks": [line.rank for line in lines], "pids": [0] * len(lines), "times": [line.time for line in lines],
        "streams": [line.stream for line in lines], "texts": [line.text for line in lines],
    })  # fmt: skip
