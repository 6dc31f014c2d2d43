"""What was changed, by whom, at which step; and the same changes made again in a fresh run (``--replay``)."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from onthefly.core.gate import PATIENCE, Plan
from onthefly.errors import Refused
from onthefly.protocol import CHANGES, JournalEntry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onthefly.core.gate import Gate, Place

UNDOING = ("rewind", "choose", "switch")
"""Changes that take back others: what they leave is replayed, not they themselves."""


class Journaling:
    """Writes an entry for each change."""

    def __init__(self, send: Callable[[JournalEntry], None], run: Callable[[], str]) -> None:
        """``send`` takes each entry; ``run()`` is the name of the run that it belongs to."""
        self._send = send
        self._run = run
        self.length = 0
        """Entries that were written."""
        self.held: list[int] = []
        """Numbers of those that hold: a checkpoint remembers them, and a rewind takes back the others."""

    def write(self, name: str, args: dict[str, Any], place: Place, by: str, result: dict[str, Any]) -> None:
        """That change was made; ``result`` may say ``before`` and ``after``."""
        self.held += [] if name in UNDOING else [self.length]
        self.length += 1
        after = dict(result.get("after", {}))
        if name in UNDOING:
            after["entries"] = list(self.held)
        self._send(JournalEntry(
            time=time.time(), run=self._run(), step=place.step, epoch=place.epoch, backward=place.backward,
            point=place.point, name=name, args=args, before=dict(result.get("before", {})), after=after, by=by,
        ))  # fmt: skip


def read(path: Path) -> list[dict[str, Any]]:
    """The entries of a journal (one JSON object a line) that hold at its end, in their order.

    What a rewind took back is left out, and so is the rewind. :class:`Refused` where the file is none.
    """
    entries: list[dict[str, Any]] = []
    held: list[int] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"the journal {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        entry = _entry(line)
        if entry is None:
            raise Refused(f"line {number} of {path} is no entry of a journal", "onthefly journal SESSION -o FILE")
        if entry["name"] in UNDOING:
            wanted: Any = entry["after"].get("entries")
            held = [each for each in wanted if each in range(len(entries))] if isinstance(wanted, list) else held  # pyright: ignore[reportUnknownVariableType]
        elif entry["name"] in CHANGES:
            held.append(len(entries))
        entries.append(entry)
    return [entries[each] for each in held]


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    wanted = {"name": str, "args": dict, "after": dict, "point": int, "backward": int, "step": int}
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), kind) for key, kind in wanted.items()):  # pyright: ignore[reportUnknownMemberType]
        return None
    return entry  # pyright: ignore[reportUnknownVariableType]


def plan(gate: Gate, entries: list[dict[str, Any]], do: Callable[[dict[str, Any], Place], None]) -> None:
    """Have the gate do each at its moment: at the same pause point, or the same backward call where there are none."""
    for entry in entries:
        count = "point" if entry["point"] else "backward"

        def reached(place: Place, wanted: int = entry[count], count: str = count) -> bool:
            return getattr(place, count) >= wanted

        def act(place: Place, entry: dict[str, Any] = entry) -> None:
            do(entry, place)

        gate.plans.append(Plan(f"replay of {entry['name']}", "replay", reached, same=True, act=act))
        if count == "backward":
            gate.missed = PATIENCE  # no optimizer's step came by there
    gate.waiting = bool(gate.plans)
