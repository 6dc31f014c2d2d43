"""Keeps the records: takes frames from agents, commits them in batches, and tells who is to know after that.

One thread writes all stores, a few read. A batch is what arrived within :data:`BATCH_SECONDS`; nothing is acknowledged
or shown before its transaction is committed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypeVar

import duckdb

from onthefly.hub.columns import BadColumns
from onthefly.hub.folder import STORE_NAME
from onthefly.hub.store import Source, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.hub.folder import DataFolder
    from onthefly.hub.registry import LiveSession, Registry
    from onthefly.hub.store import Written

log = logging.getLogger("onthefly.hub")

BATCH_SECONDS = 0.05
SAVE_SECONDS = 1.0
"""How often the counts in ``session.json`` are brought up to date."""

T = TypeVar("T")


class Frame(NamedTuple):
    """A frame that waits to be committed, and whom to tell."""

    source: Source
    message: Any
    acknowledge: Callable[[int], None]
    fail: Callable[[str], None]


class Keeper:
    """The one writer of all stores."""

    def __init__(self, registry: Registry, folder: DataFolder) -> None:
        self._registry = registry
        self._folder = folder
        self._writer = ThreadPoolExecutor(1, "onthefly-store")
        self._readers = ThreadPoolExecutor(2, "onthefly-query")
        self._waiting: dict[str, list[Frame]] = {}
        self._arrived = asyncio.Event()
        self._urgent = asyncio.Event()
        self._unsaved: set[str] = set()
        self._listeners: list[Callable[[LiveSession, Written], None]] = []
        self._task: Optional[asyncio.Task[None]] = None
        self._saver: Optional[asyncio.Task[None]] = None
        registry.listen(lambda live: self._unsaved.add(live.info.id))

    def start(self) -> None:
        """Begin to commit what arrives."""
        self._task = asyncio.ensure_future(self._commit_forever())
        self._saver = asyncio.ensure_future(self._save_forever())

    def listen(self, listener: Callable[[LiveSession, Written], None]) -> None:
        """Call ``listener`` after each commit."""
        self._listeners.append(listener)

    def take(self, session: str, frame: Frame, *, urgent: bool) -> None:
        """A frame arrived; ``urgent`` ones do not wait for more."""
        self._waiting.setdefault(session, []).append(frame)
        self._arrived.set()
        if urgent:
            self._urgent.set()

    async def store(self, live: LiveSession) -> Store:
        """The store of a session, opened when it is first needed."""
        if live.store is None:
            live.store = await self._in(self._writer, lambda: self._open(live))
        return live.store

    def _open(self, live: LiveSession) -> Store:
        if live.store is None:
            live.store = Store(self._folder.of(live.info.id) / STORE_NAME, live.info.id)
        return live.store

    async def read(self, live: LiveSession, query: Callable[[Any], T]) -> T:
        """Run ``query(cursor)`` on the session's store, in a reader's thread."""
        store = await self.store(live)

        def run() -> T:
            with store.reading() as cursor:
                return query(cursor)

        return await self._in(self._readers, run)

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, function)

    async def _commit_forever(self) -> None:
        while True:
            await self._arrived.wait()
            if not self._urgent.is_set():
                await asyncio.wait([asyncio.ensure_future(self._urgent.wait())], timeout=BATCH_SECONDS)
            self._arrived.clear()
            self._urgent.clear()
            waiting, self._waiting = self._waiting, {}
            for session, frames in waiting.items():
                live = self._registry.sessions.get(session)
                if live is not None:
                    await self._commit(live, frames)

    async def _commit(self, live: LiveSession, frames: list[Frame]) -> None:
        try:
            store = await self.store(live)
            written = await self._in(
                self._writer, lambda: store.write([(frame.source, frame.message) for frame in frames])
            )
        except BadColumns as error:
            await self._without_bad_ones(live, frames, error)
            return
        except (duckdb.Error, OSError) as error:
            log.error("session %s: nothing is saved: %s", live.info.id, error)
            for frame in frames:
                frame.fail("the records could not be saved")
            return
        live.wrote(written)
        for listener in self._listeners:
            listener(live, written)
        newest = {frame.source[:2]: frame for frame in frames}
        for frame in newest.values():
            frame.acknowledge(frame.source.seq)

    async def _without_bad_ones(self, live: LiveSession, frames: list[Frame], error: BadColumns) -> None:
        """A malformed frame costs its agent the connection, and the others nothing."""
        if len(frames) == 1:
            log.warning("session %s: a frame is refused: %s", live.info.id, error)
            frames[0].fail(str(error))
            return
        for frame in frames:
            await self._commit(live, [frame])

    async def _save_forever(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            self.save()

    def save(self) -> None:
        """Bring ``session.json`` of what changed up to date."""
        unsaved, self._unsaved = self._unsaved, set()
        for identifier in unsaved:
            live = self._registry.sessions.get(identifier)
            if live is not None:
                self._folder.write(live.info)

    async def close(self) -> None:
        """Commit what waits, and close every store."""
        for task in (self._task, self._saver):
            if task is not None:
                task.cancel()
        waiting, self._waiting = self._waiting, {}
        for session, frames in waiting.items():
            await self._commit(self._registry.sessions[session], frames)
        self.save()
        limit = time.monotonic() + 5
        for live in self._registry.sessions.values():
            if live.store is not None and time.monotonic() < limit:
                await self._in(self._writer, live.store.close)
        self._writer.shutdown(wait=False)
        self._readers.shutdown(wait=False)
