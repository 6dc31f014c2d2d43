"""What sessions take on the disk, and the oldest making room where all of them take more than they may.

Never taken: one that runs, or whose process may still write (``lost``); one that is pinned, was imported, or belongs to
another host's hub; and the newest of those that ended, however large it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from typing import TYPE_CHECKING

from onthefly.bundle.source import FOLDER
from onthefly.errors import OnTheFlyError
from onthefly.protocol import FINAL_STATES, SessionStorage, Storage

if TYPE_CHECKING:
    from pathlib import Path

    from onthefly.hub.folder import DataFolder
    from onthefly.hub.registry import LiveSession, Registry

log = logging.getLogger("onthefly.hub")

LOOK_SECONDS = 600.0
FIRST_LOOK_SECONDS = 5.0
"""After the start: what is needed now comes first."""


class Storekeeper:
    """Measures, and makes room."""

    def __init__(self, registry: Registry, folder: DataFolder, budget: int) -> None:
        """``budget``: bytes; 0: no limit."""
        self._registry = registry
        self._folder = folder
        self._budget = budget

    async def run(self) -> None:
        """Look every ten minutes, for ever."""
        await asyncio.sleep(FIRST_LOOK_SECONDS)
        while True:
            try:
                await self.make_room()
            except OSError as error:
                log.warning("what the sessions take on the disk could not be found out: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def measured(self) -> Storage:
        """What there is now."""
        sessions = self._registry.newest_first()
        place = self._folder.sessions
        places = {info.id: self._folder.of(info.id) for info in sessions}
        sizes = await asyncio.get_running_loop().run_in_executor(None, lambda: {
            identifier: (_size(path), _size(path / FOLDER)) for identifier, path in places.items()
        })  # fmt: skip
        newest = next((info.id for info in sessions if info.state in FINAL_STATES), "")
        rows = [
            SessionStorage(id=info.id, bytes=sizes[info.id][0], checkpoints=sizes[info.id][1], pinned=info.pinned,
                           kept=self._kept(info.id, newest))
            for info in sessions
        ]  # fmt: skip
        free = shutil.disk_usage(place).free
        return Storage(sessions=rows, bytes=sum(row.bytes for row in rows), budget=self._budget, free=free,
                       place=str(place))  # fmt: skip

    def _kept(self, identifier: str, newest: str) -> str:
        """Why the budget never takes that session; empty: it may."""
        live = self._registry.sessions.get(identifier)
        if live is None or live.info.state not in (*FINAL_STATES, "imported") or live.foreign:
            return "running"
        if live.info.pinned:
            return "pinned"
        return "imported" if live.info.state == "imported" else "newest" if identifier == newest else ""

    async def make_room(self) -> list[str]:
        """Remove the oldest sessions until the others fit; which ones."""
        found = await self.measured()
        total, removed = found.bytes, list[str]()
        for row in reversed(found.sessions):
            live = self._registry.sessions.get(row.id)
            if not self._budget or total <= self._budget:
                break
            if not row.kept and live is not None and not live.live:
                with contextlib.suppress(OnTheFlyError):
                    self._registry.remove(live)
                    removed.append(row.id)
                    total -= row.bytes
        if removed:
            self._tell(removed, found)
        return removed

    def _tell(self, removed: list[str], found: Storage) -> None:
        text = f"removed to make room (sessions took {found.bytes >> 20} MiB, {self._budget >> 20} are allowed): "
        text += ", ".join(removed)
        log.warning("%s", text)
        newest: LiveSession | None = next(iter(
            self._registry.sessions[info.id] for info in self._registry.newest_first()
        ), None)  # fmt: skip
        if newest is not None:
            newest.notice(text, "ONTHEFLY_DATA_BUDGET says how much they may take; onthefly pin keeps one", 0)


def _size(folder: Path) -> int:
    """Bytes of the files below; no link is followed."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # removed meanwhile
                if entry.is_dir(follow_symlinks=False):
                    total += _size(folder / entry.name)
                elif entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
    return total
