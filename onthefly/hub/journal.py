"""What was changed, and what commands were answered: as rows of a session's store, and read back in order.

Both are kept as JSON, checked when they come: what cannot be handed out again is refused, and costs its agent the
connection, as columns do that fit no table.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Optional

import msgspec

from onthefly.hub.columns import BadColumns
from onthefly.protocol import Answer, Answered, Journal, Journaled, JournalEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb

    from onthefly.hub.store import Source

MAX_ENTRY = 1024 * 1024
"""Bytes of one entry, or of one answer."""

_entries = msgspec.json.Decoder(JournalEntry)
_answers = msgspec.json.Decoder(Answer)


def entry_rows(frames: Iterable[tuple[Source, Any]]) -> dict[str, list[Any]]:
    """Parameters of the INSERT for the entries among these frames."""
    rows = [(source, _text(message.entry)) for source, message in frames if isinstance(message, Journaled)]
    for _, text in rows:
        if not math.isfinite(_read(_entries, text).time):
            raise BadColumns("a journal entry without a time")
    return {
        "ranks": [source.rank for source, _ in rows], "pids": [source.pid for source, _ in rows],
        "entries": [text for _, text in rows],
    }  # fmt: skip


def answer_rows(frames: Iterable[tuple[Source, Any]]) -> dict[str, list[Any]]:
    """Parameters of the INSERT for the answers among these frames."""
    rows = [(source, message.answer) for source, message in frames if isinstance(message, Answered)]
    return {
        "ranks": [source.rank for source, _ in rows], "pids": [source.pid for source, _ in rows],
        "numbers": [answer.n for _, answer in rows], "ids": [answer.id for _, answer in rows],
        "answers": [_text(answer) for _, answer in rows],
    }  # fmt: skip


def checked(answer: Answer) -> None:
    """``BadColumns`` if it cannot be told to clients, or be read again."""
    _read(_answers, _text(answer))


def _text(message: Any) -> str:
    try:
        text = msgspec.json.encode(message)
    except (TypeError, ValueError, RecursionError) as error:  # MessagePack knows things that JSON does not
        raise BadColumns(f"what cannot be said in JSON: {error}") from error
    if len(text) > MAX_ENTRY:
        raise BadColumns(f"an entry of {len(text)} bytes is over the limit of {MAX_ENTRY}")
    return text.decode()


def _read(decoder: msgspec.json.Decoder[Any], text: str) -> Any:
    try:
        return decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise BadColumns(f"what cannot be read again: {error}") from error


def read(cursor: duckdb.DuckDBPyConnection, session: str, rank: Optional[int]) -> Journal:
    """The entries in the order in which they were committed (each process's in its own order); of one rank, or all."""
    where = "" if rank is None else "WHERE rank = $rank"
    given = {} if rank is None else {"rank": rank}
    rows = cursor.execute(f"SELECT rank, entry FROM journal {where} ORDER BY rowid", given).fetchall()
    entries: list[JournalEntry] = []
    for number, text in rows:
        entry = _entries.decode(text)
        entry.rank = number
        entries.append(entry)
    return Journal(session=session, entries=entries)


def newest_answers(cursor: duckdb.DuckDBPyConnection, limit: int) -> list[tuple[int, int, Answer]]:
    """Rank, pid and answer of the newest that are kept, oldest first."""
    rows = cursor.execute(
        "SELECT rank, pid, answer FROM (SELECT rowid AS row, * FROM answers ORDER BY rowid DESC LIMIT $limit) "
        "ORDER BY row", {"limit": limit}
    ).fetchall()  # fmt: skip
    return [(rank, pid, _answers.decode(text)) for rank, pid, text in rows]
