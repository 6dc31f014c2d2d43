"""A bundle's documents and tables, written from a session's store: all of it as it was at one moment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from onthefly.bundle import checks, discretion, files, names
from onthefly.bundle.refusals import BundleError
from onthefly.hub import journal, queries, told
from onthefly.protocol import Runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import duckdb

    from onthefly.protocol import ExportRequest, Session

SURROUNDINGS, REPOSITORY, ENVIRONMENT = "surroundings.json", "repository.json", "environment.json"
"""In a session's folder: what its script's process told of itself, the state of its git tree, and, of one that was
imported, both."""

SCRIPT = "script"
MAX_SURROUNDINGS = 64 << 20
_ROWS = 10_000
_STORED = {"samples": "samples", "backwards": "backwards", "metrics": "metrics_stored"}
"""Tables of a bundle, and of the store. The losses of backward calls are in one of them only, as in the store."""


def write(
    cursor: duckdb.DuckDBPyConnection, stage: Path, folder: Path, session: Session, parents: Mapping[str, list[str]],
    wanted: ExportRequest,
) -> None:  # fmt: skip
    """Fill the folder ``stage``. ``parents``: of each run those that it goes on from."""
    cursor.begin()  # rows are committed meanwhile
    try:
        _documents(cursor, stage, session, parents, wanted)
        _tables(cursor, stage / "tables", wanted)
    finally:
        cursor.rollback()
    environment, texts = surroundings(folder)
    _json(stage / ENVIRONMENT, environment)
    for name, text in texts.items() if wanted.script else ():
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        files.write_file(stage / name, [text])


def _documents(
    cursor: duckdb.DuckDBPyConnection,
    stage: Path,
    session: Session,
    parents: Mapping[str, list[str]],
    wanted: ExportRequest,
) -> None:
    runs = queries.runs(cursor).runs
    for run in runs:
        run.parents = parents.get(run.name, [])
    chosen = [run for run in runs if not wanted.runs or run.name in wanted.runs]
    files.write_file(stage / "session.json", [msgspec.json.encode(_discreet(session))])
    files.write_file(stage / "runs.json", [msgspec.json.encode(Runs(runs=chosen))])
    # As `onthefly journal -o` writes it: --replay takes both.
    entries = (json.loads(msgspec.json.encode(entry)) for entry in journal.read(cursor, session.id, None).entries)
    files.write_file(stage / "journal.jsonl", (_line(entry, keys=True) for entry in entries))
    for name in told.KINDS:
        found = b"".join(told.lines(cursor, name, wanted.runs)) if name != "tags" or wanted.samples else b""
        if found:
            files.write_file(stage / f"{name}.jsonl", [found])
    if wanted.logs:
        files.write_file(stage / "logs.jsonl", _logs(cursor))


def _discreet(session: Session) -> Session:
    found = msgspec.json.decode(msgspec.json.encode(session), type=type(session))
    found.argv = discretion.arguments(found.argv)
    found.cwd = found.cwd.replace("\\", "/").rstrip("/").rpartition("/")[2]
    for rank in found.ranks:
        rank.node, rank.connected = "", False
    return found


def _logs(cursor: duckdb.DuckDBPyConnection) -> Iterator[bytes]:
    cursor.execute("SELECT epoch_us(time) / 1e6, rank, stream, text FROM logs ORDER BY rowid")
    while rows := cursor.fetchmany(_ROWS):
        yield b"".join(_line(dict(zip(("time", "rank", "stream", "text"), row))) for row in rows)


def _line(found: dict[str, Any], *, keys: bool = False) -> bytes:
    return json.dumps(found, sort_keys=keys).encode("ascii") + b"\n"


def _tables(cursor: duckdb.DuckDBPyConnection, folder: Path, wanted: ExportRequest) -> None:
    folder.mkdir(mode=0o700)
    cursor.execute("SET TimeZone = 'UTC'")
    where = "WHERE run IN (SELECT unnest($runs))" if wanted.runs else ""
    for name in names.TABLES:
        if name != "samples" or wanted.samples:
            path = str(folder / f"{name}.parquet").replace("'", "''")
            cursor.execute(
                f"COPY (SELECT * FROM {_STORED[name]} {where}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)",
                {"runs": wanted.runs} if wanted.runs else {},
            )


def surroundings(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What a bundle says of where its script ran, and the script's own files by their names there."""
    told, tree = _read(folder / SURROUNDINGS), _read(folder / REPOSITORY)
    texts = told.pop("texts", {}) if told else {}
    found = {name: text.encode("utf-8") for name, text in texts.items() if names.fits(name)}
    if told:
        return {**told, "repository": tree or None}, found
    there = sorted(path for path in (folder / SCRIPT).rglob("*") if path.is_file() and not path.is_symlink())
    placed = {path.relative_to(folder).as_posix(): path for path in there}
    found = {name: bytes(files.read_file(path, checks.MAX_BYTES)) for name, path in placed.items() if names.fits(name)}
    return _read(folder / ENVIRONMENT) or {"repository": tree or None}, found


def _read(path: Path) -> dict[str, Any]:
    """A document of our own; empty where there is none."""
    try:
        found = json.loads(files.read_file(path, MAX_SURROUNDINGS))
    except (BundleError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _json(path: Path, found: Any) -> None:
    files.write_file(path, [json.dumps(found, indent=1).encode("ascii")])
