"""What the script wrote: a page of its log, from the end, from a cursor, or with a text in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onthefly.protocol import LogEntry, Logs

if TYPE_CHECKING:
    import duckdb

MAX_ENTRIES = 2000

_PAGE = """
SELECT rowid, epoch_us(time) / 1e6, rank, stream, text FROM logs
WHERE rowid >= $after AND rowid < $before AND ($search = '' OR contains(lower(text), lower($search)))
ORDER BY rowid {order} LIMIT $limit"""

NO_ROW = (1 << 63) - 1


def page(
    cursor: duckdb.DuckDBPyConnection, session: str, *, after: int | None, before: int | None, limit: int, search: str
) -> Logs:
    """Entries in the order of writing; see :class:`~onthefly.protocol.Logs`."""
    given: dict[str, Any] = {
        "after": after or 0, "before": NO_ROW if before is None else before, "limit": limit + 1, "search": search,
    }  # fmt: skip
    forward = after is not None
    cursor.begin()  # rows are committed meanwhile, and the cursor must stand where this look ended
    try:
        rows = cursor.execute(_PAGE.format(order="ASC" if forward else "DESC"), given).fetchall()
        found = cursor.execute("SELECT count(*) FROM logs").fetchone()
    finally:
        cursor.rollback()
    more, rows = len(rows) > limit, rows[:limit]
    if not forward:
        rows.reverse()
    entries = [LogEntry(row=row, time=time, rank=rank, stream=stream, text=text)
               for row, time, rank, stream, text in rows]  # fmt: skip
    newest = entries[-1].row + 1 if forward and more else int(found[0]) if found else 0
    return Logs(session=session, entries=entries, cursor=str(newest), earlier=more if not forward else (after or 0) > 0)
