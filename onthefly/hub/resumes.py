"""What a process that takes up a session must give again, and the receipt that it gave: queries, and its file."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import msgspec

from onthefly.core.expected import FOLDER
from onthefly.hub import journal
from onthefly.hub.columns import BadColumns
from onthefly.protocol import CHANGES, Losses, ReceiptInfo

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from onthefly.protocol import Session

log = logging.getLogger("onthefly.hub")

MAX_RECEIPTS = 50
"""Of a session that are shown: the newest. The files of all stay."""

MAX_TEXT = 500

_receipts = msgspec.json.Decoder(ReceiptInfo)


def losses(cursor: duckdb.DuckDBPyConnection, session: str, run: str, first: int, limit: int) -> Losses:
    """The losses of the run's training from that backward call on, of the script itself, up to the first change.

    A change at the very place of ``first`` ends them too: it may have been made before or after what is gone on from.
    """
    entries = journal.read(cursor, session, 0).entries
    changed = [entry.backward for entry in entries if entry.run == run and entry.name in CHANGES - {"rewind"}]
    end = min((call for call in changed if call >= first), default=1 << 62)
    rows = cursor.execute(
        "SELECT backward, step, loss FROM backwards WHERE run = $run AND rank = 0 AND phase = 'train' "
        "AND backward >= $first AND backward < $end ORDER BY backward LIMIT $limit",
        {"run": run, "first": first, "end": end, "limit": limit},
    ).fetchall()
    return Losses(
        session=session, run=run, backward=[row[0] for row in rows], step=[row[1] for row in rows],
        loss=[row[2].hex() for row in rows],
    )  # fmt: skip


def checked(receipt: ReceiptInfo) -> ReceiptInfo:
    """Its texts cut to what is shown; ``BadColumns`` if it cannot be told to clients."""
    receipt.text, receipt.first_difference = receipt.text[:MAX_TEXT], receipt.first_difference[:MAX_TEXT]
    try:
        return _receipts.decode(msgspec.json.encode(receipt))
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadColumns(f"a receipt that cannot be read again: {error}") from error


def show(info: Session, receipt: ReceiptInfo) -> None:
    """Put it among the session's, in the place of what was said of that run before."""
    places = [place for place, one in enumerate(info.receipts) if one.run == receipt.run]
    if places:
        info.receipts[places[0]] = receipt
    else:
        info.receipts = [*info.receipts, receipt][-MAX_RECEIPTS:]


def keep(folder: Path, receipt: ReceiptInfo) -> None:
    """Write it into the file that says what the process had to give again; a fault is logged.

    The newest of that run: a process that was refused before it began leaves a file too, and its name free.
    """
    files = [path for path in (folder / FOLDER).glob("*.json") if path.stem.isdecimal()]
    for path in sorted(files, key=lambda path: -int(path.stem)):
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
            if content.get("run") != receipt.run:
                continue
            content["receipt"] = msgspec.to_builtins(receipt)
            temporary = path.with_suffix(".new")
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(content, file)
            temporary.replace(path)
            return
        except (OSError, ValueError, AttributeError) as error:
            log.warning("%s: the receipt is not written: %s", path, error)
