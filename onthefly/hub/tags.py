"""Tags of samples: put on and taken off by people, through the hub; no process of the script is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onthefly.errors import Refused, UsageError
from onthefly.protocol import VERDICTS, Tag, Tags

if TYPE_CHECKING:
    import duckdb

    from onthefly.protocol import TagRequest

_TRAINED = (
    "SELECT coalesce(loader, '') FROM samples WHERE phase = 'train' GROUP BY ALL ORDER BY max(rowid) DESC LIMIT 1"
)

_SAME = "tags.loader = wanted.loader AND tags.sample IS NOT DISTINCT FROM wanted.sample AND " \
    "tags.key IS NOT DISTINCT FROM wanted.key"  # fmt: skip

_WANTED = (
    "(SELECT $loader AS loader, unnest($samples::BIGINT[]) AS sample, NULL::VARCHAR AS key UNION "
    "SELECT $loader, NULL, unnest($keys::VARCHAR[])) wanted"
)


def read(cursor: duckdb.DuckDBPyConnection, session: str, limit: int | None = None, tag: str = "") -> Tags:
    """All of a session, or the samples with one tag."""
    where, given = ("WHERE tag = $tag", {"tag": tag}) if tag else ("", {})
    rows = cursor.execute(
        f"SELECT loader, sample, key, tag, \"by\", epoch_us(time) / 1e6 FROM tags {where} ORDER BY time, rowid "
        f"{'' if limit is None else f'LIMIT {limit}'}", given,
    ).fetchall()  # fmt: skip
    names = ("loader", "sample", "key", "tag", "by", "time")
    return Tags(session=session, tags=[Tag(**dict(zip(names, row))) for row in rows], counts=_counts(cursor))


def _counts(cursor: duckdb.DuckDBPyConnection) -> dict[str, int]:
    return dict(cursor.execute("SELECT tag, count(*) FROM tags GROUP BY tag ORDER BY tag").fetchall())


def put(connection: duckdb.DuckDBPyConnection, session: str, wanted: TagRequest) -> Tags:
    """Put a tag on; it takes the place of another one of its group (``label:fine`` that of ``label:wrong``)."""
    given = _given(connection, wanted)
    _check(connection, given)
    tag = {**given, "tag": wanted.tag}
    new = _count(connection, f"{_WANTED} WHERE NOT EXISTS (SELECT 1 FROM tags WHERE {_SAME} AND tag = $tag)", tag)
    group, colon, _ = wanted.tag.partition(":")
    same = "starts_with(tag, $group)" if colon else "tag = $group"
    connection.execute(f"DELETE FROM tags WHERE {same} AND EXISTS (SELECT 1 FROM {_WANTED} WHERE {_SAME})",
                       {**given, "group": group + colon})  # fmt: skip
    connection.execute(
        f"INSERT INTO tags SELECT loader, sample, key, $tag, $by, now() FROM {_WANTED}", {**tag, "by": wanted.by}
    )
    return Tags(session=session, tags=[], counts=_counts(connection), changed=new)


def take_off(connection: duckdb.DuckDBPyConnection, session: str, wanted: TagRequest) -> Tags:
    """Take a tag off these samples."""
    given = {**_given(connection, wanted), "tag": wanted.tag}
    there = _count(connection, f"{_WANTED} WHERE EXISTS (SELECT 1 FROM tags WHERE {_SAME} AND tag = $tag)", given)
    connection.execute(f"DELETE FROM tags WHERE tag = $tag AND EXISTS (SELECT 1 FROM {_WANTED} WHERE {_SAME})", given)
    return Tags(session=session, tags=[], counts=_counts(connection), changed=there)


def _given(connection: duckdb.DuckDBPyConnection, wanted: TagRequest) -> dict[str, Any]:
    if not wanted.samples and not wanted.keys:
        raise UsageError("no sample is named", "samples by their index, or keys")
    loader = wanted.loader
    if not loader:
        row = connection.execute(_TRAINED).fetchone()
        loader = row[0] if row else ""
    return {"loader": loader, "samples": list(dict.fromkeys(wanted.samples)), "keys": list(dict.fromkeys(wanted.keys))}


def _check(connection: duckdb.DuckDBPyConnection, given: dict[str, Any]) -> None:
    """Only samples of which there are records: a tag on an index that is none would mislead whoever reads it."""
    known = connection.execute(
        "SELECT list(DISTINCT sample), list(DISTINCT key), bool_or(identity = 'stream') FROM samples WHERE "
        "coalesce(loader, '') = $loader AND (sample IN (SELECT unnest($samples::BIGINT[])) OR "
        "(sample IS NULL AND key IN (SELECT unnest($keys::VARCHAR[]))))", given,
    ).fetchall()[0]  # fmt: skip
    unknown = [*sorted(set(given["samples"]) - set(known[0] or ())), *sorted(set(given["keys"]) - set(known[1] or ()))]
    where = given["loader"] or "a script without a DataLoader"
    if unknown:
        raise Refused(f"there is no record of {len(unknown)} of these samples in {where}: {str(unknown[0])[:40]}, ...",
                      "an index in the data set of that loader, or a key that the sample carries")  # fmt: skip
    if known[2]:
        raise Refused(f"samples of {where} are known by their place in a stream: it is another sample the next time",
                      "let the samples carry a key: a field __key__, id or idx")  # fmt: skip


def _count(connection: duckdb.DuckDBPyConnection, what: str, given: dict[str, Any]) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {what}", given).fetchall()[0][0])


def verdicts(cursor: duckdb.DuckDBPyConnection) -> dict[tuple[str, Any], str]:
    """By loader and name (index or key), what a review has said of a label: ``wrong fine unsure``."""
    rows = cursor.execute("SELECT loader, sample, key, tag FROM tags").fetchall()
    return {(row[0], row[1] if row[1] is not None else row[2]): row[3].partition(":")[2] for row in rows
            if row[3] in VERDICTS}  # fmt: skip
