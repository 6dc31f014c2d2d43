"""Tests and scans in a session's store: what came of each, their samples, and embeddings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from onthefly.hub import schema
from onthefly.hub.columns import BadColumns, Words, codes_of, column_of, microseconds, stacked
from onthefly.protocol import (
    CERTIFICATES,
    IDENTITIES,
    PHASES,
    RUN_PATTERN,
    Evaluated,
    EvaluationInfo,
    Evaluations,
    Examined,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import duckdb

    from onthefly.hub.columns import Array
    from onthefly.hub.store import Source

MAX_ENTRY = 1024 * 1024
MAX_DIMENSIONS = 64
MAX_LABEL = 64

_infos = msgspec.json.Decoder(EvaluationInfo)


def info_rows(frames: Iterable[tuple[Source, Any]]) -> dict[str, list[Any]]:
    """Parameters of the INSERT for what is told of evaluations among these frames."""
    rows = [(source, message.evaluation) for source, message in frames if isinstance(message, Evaluated)]
    return {
        "ranks": [source.rank for source, _ in rows], "pids": [source.pid for source, _ in rows],
        "labels": [info.label for _, info in rows], "entries": [_text(info) for _, info in rows],
    }  # fmt: skip


def _text(info: EvaluationInfo) -> str:
    if not 0 < len(info.label) <= MAX_LABEL or not RUN_PATTERN.fullmatch(info.run):
        raise BadColumns("an evaluation without a name, or of a run that is none")
    if not (math.isfinite(info.began) and math.isfinite(info.seconds)):
        raise BadColumns("an evaluation without a time")
    try:
        text = msgspec.json.encode(info)
        _infos.decode(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadColumns(f"an evaluation that cannot be said in JSON: {error}") from error
    if len(text) > MAX_ENTRY:
        raise BadColumns(f"an evaluation of {len(text)} bytes is over the limit of {MAX_ENTRY}")
    return text.decode()


def sample_rows(
    message: Examined, rank: int, runs: Words, loaders: Words, labels: Words, keys: Words
) -> dict[str, Any]:
    """Columns for the table of samples; :class:`BadColumns` if they do not fit."""
    sample = column_of(message.sample, "i8", None, "sample")
    count = len(sample)
    places = 0 <= message.step < 1 << 62 and 0 <= message.backward < 1 << 62 and -1 <= message.epoch < 1 << 31
    if not places or not 0 <= message.first < (1 << 31) - count or not 0 < len(message.evaluation) <= MAX_LABEL:
        raise BadColumns("rows of no test and no scan")
    alike = {
        "run": (runs.place(message.run), np.int32), "rank": (rank, np.int16), "step": (message.step, np.int64),
        "epoch": (message.epoch, np.int32), "backward": (message.backward, np.int64),
        "phase": (PHASES.index(message.kind), np.uint8), "loader": (loaders.place(message.loader), np.int32),
        "evaluation": (labels.place(message.evaluation), np.int32),
    }  # fmt: skip
    columns: dict[str, Any] = {name: np.full(count, value, dtype=kind) for name, (value, kind) in alike.items()}
    columns["time"] = microseconds(np.full(count, message.time, dtype=np.float64))
    columns["position"] = np.arange(message.first, message.first + count, dtype=np.int64).astype(np.int32)
    columns["sample"] = sample
    columns["loss"] = column_of(message.loss, "f4", count, "loss")
    columns["valid"] = column_of(message.valid, "i4", count, "valid")
    columns["certificate"] = codes_of(message.certificate, len(CERTIFICATES), count, "certificate")
    columns["identity"] = codes_of(message.identity, len(IDENTITIES), count, "identity")
    for name, kind in (("target", "f8"), ("predicted", "f8"), ("confidence", "f4"), ("margin", "f4")):
        data = getattr(message, name)
        if data:
            columns[name] = column_of(data, kind, count, name)
    if message.keys:
        if len(message.keys) != count:
            raise BadColumns(f"{len(message.keys)} keys of {count} samples")
        columns["key"] = np.array([keys.place(key) if key else -1 for key in message.keys], dtype=np.int32)
    return columns


class Rows:
    """Rows of the evaluations among some frames."""

    def __init__(self, frames: Sequence[tuple[Source, Any]], runs: Words, loaders: Words, keys: Words) -> None:
        self._labels = labels = Words()
        self._told = info_rows(frames)
        self._samples: dict[tuple[str, ...], list[dict[str, Array]]] = {}
        self._embedded: dict[int, list[dict[str, Array]]] = {}
        self.count = 0
        for source, message in frames:
            if isinstance(message, Examined):
                rows = sample_rows(message, source.rank, runs, loaders, labels, keys)
                self._samples.setdefault(tuple(name for name in rows if name in schema.OPTIONAL), []).append(rows)
                self.count += len(rows["sample"])
                if message.dimensions:
                    self._embedded.setdefault(message.dimensions, []).append(_embedded(message, rows))

    def insert(self, cursor: duckdb.DuckDBPyConnection, words: dict[str, Any]) -> None:
        """Add them, within the transaction of the caller. ``words``: the session, and what codes stand for."""
        words = {**words, "evaluations": self._labels.words}
        for more, parts in self._samples.items():
            _insert(cursor, schema.insert_samples(more), stacked(parts), words)
        for width, parts in self._embedded.items():
            _insert(cursor, schema.insert_embeddings(width), stacked(parts), words)
        if self._told["labels"]:
            cursor.execute(schema.INSERT_EVALUATIONS, self._told)


def _insert(cursor: duckdb.DuckDBPyConnection, statement: str, columns: Array, words: dict[str, Any]) -> None:
    """DuckDB finds the columns by the name of the variable."""
    cursor.execute(statement, {name: value for name, value in words.items() if f"${name}" in statement})


def _embedded(message: Examined, rows: dict[str, Any]) -> dict[str, Array]:
    """A column for each number: DuckDB makes lists of them faster than it takes lists of Python's."""
    width, count = message.dimensions, len(rows["sample"])
    if not 0 < width <= MAX_DIMENSIONS:
        raise BadColumns(f"an embedding of {width} numbers")
    flat = column_of(message.vectors, "f4", count * width, "vectors").reshape(count, width)
    return {
        **{name: rows[name] for name in ("run", "evaluation", "rank", "position", "sample")},
        "key": rows.get("key", np.full(count, -1, dtype=np.int32)),
        **{f"v{place}": np.ascontiguousarray(flat[:, place]) for place in range(width)},
    }


def read(cursor: duckdb.DuckDBPyConnection, session: str) -> Evaluations:
    """Of each evaluation what was told last, in the order in which they were told first."""
    rows = cursor.execute(
        "SELECT last(entry ORDER BY rowid) FROM evaluations GROUP BY rank, pid, label ORDER BY min(rowid)"
    ).fetchall()
    return Evaluations(session=session, evaluations=[_infos.decode(text) for (text,) in rows])
