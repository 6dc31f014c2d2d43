"""Rows of a session's tables as JSON, CSV, Parquet or Feather: what ``onthefly samples`` and its like hand out."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.errors import UsageError
from onthefly.protocol import PHASES, RUN_PATTERN

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb

TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
}
"""Formats, and what they are called over HTTP; Parquet and CSV are written by DuckDB."""

MAX_NUMBER = 10**12 - 1
"""Of a limit, an epoch or a rank that is asked for."""

ORDERS = {"samples": "backward, rank, position", "backwards": "backward, rank", "metrics": "step, name, rank, time"}


class Selection(NamedTuple):
    """Part of a table: a WHERE clause with its values, an ORDER BY and a LIMIT."""

    table: str
    where: str
    values: list[Any]
    order: str
    limit: int | None
    timed: bool = True
    """Whether the table has the column ``time``."""

    def query(self) -> str:
        """The SELECT."""
        limit = "" if self.limit is None else f" LIMIT {self.limit}"
        return f"SELECT * FROM {self.table} WHERE {self.where} ORDER BY {self.order}{limit}"


def selection(table: str, asked: Mapping[str, str]) -> Selection:
    """Read the filters ``phase epoch run rank name limit order`` of a request; UsageError names what is wrong."""
    known = {"format", "epoch", "run", "rank", "limit", *({"name"} if table == "metrics" else {"phase"}),
             *({"order", "evaluation"} if table == "samples" else ())}  # fmt: skip
    unknown = sorted(set(asked) - known)
    if unknown:
        raise UsageError(f"unknown filter {unknown[0]!r}", f"known for {table}: {', '.join(sorted(known))}")
    where: list[str] = []
    values: list[Any] = []
    if table != "metrics":
        phase = asked.get("phase", "train")
        if phase not in PHASES:
            raise UsageError(f"unknown phase {phase!r}", f"one of {', '.join(PHASES)}")
        if "phase" in asked or "evaluation" not in asked:  # which has one phase itself
            where, values = ["phase = ?"], [phase]
    if "epoch" in asked:
        first, _, last = asked["epoch"].partition(":")
        where.append("epoch BETWEEN ? AND ?")
        open_end = str(2**31 - 1) if ":" in asked["epoch"] else first
        values += [_integer("epoch", first or "0"), _integer("epoch", last or open_end)]
    if "run" in asked:
        if not RUN_PATTERN.fullmatch(asked["run"]):
            raise UsageError(f"{asked['run']!r} is no name of a run")
        where.append("run = ?")
        values.append(asked["run"])
    if "rank" in asked:
        where.append("rank = ?")
        values.append(_integer("rank", asked["rank"]))
    for name in {"name", "evaluation"} & set(asked):
        where.append(f"{name} = ?")
        values.append(asked[name])
    order = ORDERS[table]
    if asked.get("order"):
        if asked["order"] != "worst":
            raise UsageError(f"unknown order {asked['order']!r}", "order=worst gives the highest losses first")
        order = "loss DESC, backward DESC, position"
    limit = _integer("limit", asked["limit"]) if "limit" in asked else None
    return Selection(table, " AND ".join(where) or "true", values, order, limit)


def _integer(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:20]) > MAX_NUMBER:
        raise UsageError(f"{name} must be a whole number, not {text!r}")
    return int(text)


def render(cursor: duckdb.DuckDBPyConnection, chosen: Selection, form: str) -> bytes:
    """The rows in that format."""
    if form == "json":
        return _json(cursor, chosen)
    if form == "arrow":
        return _arrow(cursor, chosen)
    options = "FORMAT parquet, COMPRESSION zstd" if form == "parquet" else "FORMAT csv, HEADER"
    with tempfile.TemporaryDirectory(prefix="onthefly-") as folder:
        path = Path(folder) / "table"
        cursor.execute("SET TimeZone = 'UTC'")
        cursor.execute(f"COPY ({chosen.query()}) TO '{path}' ({options})", chosen.values)
        return path.read_bytes()


def _json(cursor: duckdb.DuckDBPyConnection, chosen: Selection) -> bytes:
    cursor.execute("SET TimeZone = 'UTC'")
    readable = " REPLACE (strftime(time, '%Y-%m-%dT%H:%M:%S.%fZ') AS time)" if chosen.timed else ""
    cursor.execute(f"SELECT *{readable} FROM ({chosen.query()})", chosen.values)
    names = [column[0] for column in cursor.description or ()]
    rows = [dict(zip(names, [json_number(value) for value in row])) for row in cursor.fetchall()]
    return json.dumps(rows, allow_nan=False, separators=(",", ":")).encode()


def json_number(value: Any) -> Any:
    """JSON has no NaN: what is not finite is said in words."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if value != value else "inf" if value > 0 else "-inf"
    return value


def _arrow(cursor: duckdb.DuckDBPyConnection, chosen: Selection) -> bytes:
    try:
        import pyarrow.feather as feather  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError("Feather needs pyarrow", "pip install 'onthefly-ai[explorer]', or ask for Parquet") from error
    with tempfile.TemporaryDirectory(prefix="onthefly-") as folder:
        path = Path(folder) / "table.feather"
        cursor.execute("SET TimeZone = 'UTC'")
        feather.write_feather(cursor.sql(chosen.query(), params=chosen.values).to_arrow_table(), str(path))
        return path.read_bytes()


def listed(cursor: duckdb.DuckDBPyConnection, names: list[Any], form: str) -> bytes:
    """Indices (or keys) as a file: a plain list in JSON, else a table of one column ``sample`` (or ``key``)."""
    if form == "json":
        return json.dumps(names).encode()
    whole = all(isinstance(name, int) for name in names)
    cursor.execute("CREATE OR REPLACE TEMP TABLE listed AS SELECT unnest(?) AS " + ("sample" if whole else "key"),
                   [names if whole else list(map(str, names))])  # fmt: skip
    return render(cursor, Selection("temp.listed", "true", [], "rowid", None, timed=False), form)
