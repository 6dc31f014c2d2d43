"""What is told of a session beside its records, as lines of a bundle: evaluations, results of health checks, tags."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

from onthefly.hub import evaluations, health, schema
from onthefly.hub.columns import BadColumns
from onthefly.hub.store import Source
from onthefly.protocol import RUN_PATTERN, Checked, Evaluated, EvaluationInfo, HealthResult, Tag
from onthefly.protocol.explore import TAG_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

MAX_WORD, MAX_KEY, MAX_INDEX = 200, 1000, 1 << 53


class EvaluationLine(msgspec.Struct, kw_only=True):
    """A line of ``evaluations.jsonl``: what one process said of a test or a scan; the last of a label counts."""

    rank: int
    pid: int
    evaluation: EvaluationInfo

    @property
    def time(self) -> float:
        """When it began."""
        return self.evaluation.began


class HealthLine(msgspec.Struct, kw_only=True):
    """A line of ``health.jsonl``."""

    rank: int
    pid: int
    result: HealthResult

    @property
    def time(self) -> float:
        """When the check was through."""
        return self.result.time


class TagLine(Tag, kw_only=True):
    """A line of ``tags.jsonl``; of no process."""

    rank: int = 0


KINDS: dict[str, type[Any]] = {"evaluations": EvaluationLine, "health": HealthLine, "tags": TagLine}
"""Files by their names, without the ending; a session that has none of it has no such file."""


def lines(cursor: duckdb.DuckDBPyConnection, name: str, runs: Sequence[str]) -> Iterator[bytes]:
    """Those of a store; of some runs alone, where they are named (a tag is of no run)."""
    if name == "tags":
        columns = ("loader", "sample", "key", "tag", "by", "time")
        query = 'SELECT loader, sample, key, tag, "by", epoch_us(time) / 1e6 FROM tags ORDER BY time, rowid'
        for row in cursor.execute(query).fetchall():
            yield json.dumps(dict(zip(columns, row))).encode("ascii") + b"\n"
        return
    column, field = ("entry", "evaluation") if name == "evaluations" else ("result", "result")
    for rank, pid, text in cursor.execute(f"SELECT rank, pid, {column} FROM {name} ORDER BY rowid").fetchall():
        found = json.loads(text)
        if not runs or found.get("run") in runs:
            yield json.dumps({"rank": rank, "pid": pid, field: found}).encode("ascii") + b"\n"


def insert(database: Any, name: str, found: Sequence[Any]) -> None:
    """Put them into a store, as strictly as if an agent had said them; ``BadColumns``."""
    if name == "tags":
        _insert_tags(database, found)
        return
    if any(not 0 <= one.pid < 1 << 31 for one in found):
        raise BadColumns("a process that is none")
    if name == "evaluations":
        for one in found:
            if not all(len(text) <= MAX_WORD for text in (one.evaluation.loader, one.evaluation.checkpoint)):
                raise BadColumns("an evaluation with names without end")
        told = [(Source(one.rank, one.pid, 0), Evaluated(evaluation=one.evaluation)) for one in found]
        database.execute(schema.INSERT_EVALUATIONS, evaluations.info_rows(told))
    else:
        if any(one.result.run and not RUN_PATTERN.fullmatch(one.result.run) for one in found):
            raise BadColumns("a result of a run that is none")
        database.execute(schema.INSERT_HEALTH, health.rows(
            (Source(one.rank, one.pid, 0), Checked(result=one.result)) for one in found
        ))  # fmt: skip


def _insert_tags(database: Any, found: Sequence[TagLine]) -> None:
    for one in found:
        named = (one.sample is None) != (one.key is None) and 0 <= (one.sample or 0) <= MAX_INDEX
        short = len(one.loader) <= MAX_WORD and len(one.by) <= MAX_WORD and len(one.key or "") <= MAX_KEY
        if not re.fullmatch(TAG_PATTERN, one.tag) or not named or not short or not 0 <= one.time < 1e11:
            raise BadColumns("a tag that nobody can have put on")
    database.execute(schema.INSERT_TAGS, {
        "loaders": [one.loader for one in found], "samples": [one.sample for one in found],
        "keys": [one.key for one in found], "tags": [one.tag for one in found], "who": [one.by for one in found],
        "times": [one.time for one in found],
    })  # fmt: skip
