"""The way into the stores: takes frames from agents, commits them in batches, and tells who is to know after that.

One thread writes all stores, a few read. A batch is what arrived within :data:`BATCH_SECONDS`; nothing is acknowledged
or shown before its transaction is committed. What cannot be committed (a full disk, a store that another process holds)
waits here, at most :data:`MAX_WAITING` bytes of it, and is tried again; beyond that agents are not read from, and keep
their frames themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypeVar

import duckdb

from onthefly.errors import OnTheFlyError, Refused, StoreUnavailable
from onthefly.hub import journal, resumes
from onthefly.hub.columns import BadColumns
from onthefly.hub.dispatch import REMEMBERED_ANSWERS
from onthefly.hub.store import STORE_NAME, Source, Store
from onthefly.protocol import Answered, Described, Noticed, Receipted, StateChanged

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.hub.folder import DataFolder
    from onthefly.hub.registry import LiveSession, Registry
    from onthefly.hub.store import Written
    from onthefly.protocol import Answer

log = logging.getLogger("onthefly.hub")

BATCH_SECONDS = 0.05
SAVE_SECONDS = 1.0
"""How often the counts in ``session.json`` are brought up to date."""

MAX_WAITING = 64 * 1024 * 1024
"""Bytes of frames that may wait for a store that takes none."""

FIRST_RETRY, LONGEST_RETRY = 0.5, 30.0
"""Seconds until a store that took nothing is tried again: doubled each time."""

SETTLE_SECONDS = 2.0
"""How long a question waits for what has arrived before it."""

SLOW_SECONDS = 5.0
"""After so long without an answer from the disk, the user is told that nothing is saved."""

MALFORMED = (BadColumns, duckdb.DataError)
"""What is wrong with a frame, not with the store."""

T = TypeVar("T")


class Frame(NamedTuple):
    """A frame that waits to be committed, and whom to tell."""

    source: Source
    message: Any
    size: int
    """Bytes, as it came."""
    acknowledge: Callable[[int], None]
    fail: Callable[[str], None]


class Queue:
    """What waits for one store."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.taken = self.through = 0
        """Frames that arrived, and those that are saved, refused, or sent again."""
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []
        """Whoever waits until so many are through."""
        self.retry_at = 0.0
        self.retry_after = FIRST_RETRY

    def passed(self, count: int) -> None:
        """So many more are through."""
        self.through += count
        for target, future in [one for one in self.waiting if one[0] <= self.through]:
            self.waiting.remove((target, future))
            if not future.done():
                future.set_result(None)


class Keeper:
    """The one writer of all stores."""

    def __init__(self, registry: Registry, folder: DataFolder) -> None:
        self._registry = registry
        self._folder = folder
        self._writer = ThreadPoolExecutor(1, "onthefly-store")
        self._readers = ThreadPoolExecutor(2, "onthefly-query")
        self._queues: dict[str, Queue] = {}
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()
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
        queue = self._queues.setdefault(session, Queue())
        queue.frames.append(frame)
        queue.taken += 1
        self._count(frame.size)
        self._arrived.set()
        if urgent:
            self._urgent.set()

    async def room(self) -> None:
        """Wait until there is room for another frame."""
        await self._room.wait()

    def forget(self, session: str, rank: int, pid: int) -> None:
        """That agent connected anew and sends again what is not acknowledged: let go of what waits of it."""
        queue = self._queues.get(session)
        if queue is not None:
            gone = [frame for frame in queue.frames if frame.source[:2] == (rank, pid)]
            queue.frames = [frame for frame in queue.frames if frame.source[:2] != (rank, pid)]
            self._count(-sum(frame.size for frame in gone))
            queue.passed(len(gone))

    async def settled(self, live: LiveSession) -> None:
        """Wait until all that has arrived of it is saved, or a while: what is asked then is answered by all of it."""
        queue = self._queues.get(live.info.id)
        if queue is not None and queue.through < queue.taken:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            queue.waiting.append((queue.taken, future))
            self._urgent.set()
            self._arrived.set()
            await asyncio.wait([future], timeout=SETTLE_SECONDS)

    def _count(self, size: int) -> None:
        self._bytes += size
        (self._room.set if self._bytes < MAX_WAITING else self._room.clear)()

    async def store(self, live: LiveSession) -> Store:
        """The store of a session, opened when it is first needed; :class:`StoreUnavailable` if it cannot be."""
        if live.foreign:
            raise StoreUnavailable(f"the records of session {live.info.id} are kept by the hub on {live.foreign}",
                                   "look at them there, or here when it has ended")  # fmt: skip
        if live.store is None:
            try:
                store = await self._in(self._writer, lambda: self._open(live))
            except (duckdb.Error, OSError) as error:
                raise StoreUnavailable(f"the records of session {live.info.id} cannot be opened: {error}") from error
            if store.set_aside is not None:
                text = f"the records of this session were damaged; they are kept as {store.set_aside}"
                live.noticed(0, Noticed(text=text, remedy="what came after is here", time=time.time()))
            live.commands.recall(await self._in(self._readers, lambda: _answers(store)))
            return store
        return live.store

    def _open(self, live: LiveSession) -> Store:
        if live.store is None:
            live.store = Store(self._folder.of(live.info.id) / STORE_NAME, live.info.id)
            self._registry.write(live)  # without it, what is committed here would belong to no session
        return live.store

    async def read(self, live: LiveSession, query: Callable[[Any], T]) -> T:
        """Run ``query(cursor)`` on the session's store, in a reader's thread."""
        store = await self.store(live)

        def run() -> T:
            with store.reading() as cursor:
                return query(cursor)

        try:
            return await self._in(self._readers, run)
        except duckdb.Error as error:
            raise StoreUnavailable(f"the records of session {live.info.id} cannot be read: {error}") from error

    async def edit(self, live: LiveSession, work: Callable[[Any], T]) -> T:
        """Run ``work(connection)`` in the writer's thread, in one transaction: it is on disk when this returns."""
        store = await self.store(live)
        try:
            return await self._in(self._writer, lambda: store.edit(work))
        except duckdb.Error as error:
            raise StoreUnavailable(f"session {live.info.id} cannot be changed: {error}") from error

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, function)

    async def _commit_forever(self) -> None:
        while True:
            await self._arrived.wait()
            if not self._urgent.is_set():
                await asyncio.wait([asyncio.ensure_future(self._urgent.wait())], timeout=BATCH_SECONDS)
            self._arrived.clear()
            self._urgent.clear()
            await self._commit_all(time.monotonic())

    async def _commit_all(self, now: float) -> None:
        """One round over all sessions whose time has come."""
        for session, queue in list(self._queues.items()):
            live = self._registry.sessions.get(session)
            if live is None:
                self._count(-sum(frame.size for frame in queue.frames))
                del self._queues[session]
            elif queue.frames and now >= queue.retry_at:
                frames, queue.frames = queue.frames, []
                await self._commit(live, queue, frames)

    async def _commit(self, live: LiveSession, queue: Queue, frames: list[Frame]) -> bool:
        """Write these frames, in their order; False if the store took nothing and they wait again."""
        try:
            written = await self._write(live, frames)
        except MALFORMED as error:
            return await self._without_bad_ones(live, queue, frames, error)
        except (StoreUnavailable, Refused, duckdb.Error, OSError) as error:
            await self._keep(live, queue, frames, error)
            return False
        self._count(-sum(frame.size for frame in frames))
        queue.passed(len(frames))
        queue.retry_at, queue.retry_after = 0.0, FIRST_RETRY
        live.storing(None)
        live.wrote(written)
        for listener in self._listeners:  # by the loop, in this order: a fault of one must not end the commits
            asyncio.get_running_loop().call_soon(listener, live, written)
        if any(isinstance(frame.message, (StateChanged, Described)) for frame in frames):
            self._registry.write(live)  # what is acknowledged is not said again to the hub after this one
        for frame in frames:
            if isinstance(frame.message, Answered):
                live.commands.committed(frame.source[:2], frame.message.answer.id)
            elif isinstance(frame.message, Receipted):
                resumes.keep(self._folder.of(live.info.id), frame.message.receipt)
        newest = {frame.source[:2]: frame for frame in frames}
        for frame in newest.values():
            frame.acknowledge(frame.source.seq)
        return True

    async def _write(self, live: LiveSession, frames: list[Frame]) -> Written:
        store = await self.store(live)
        writing = asyncio.ensure_future(
            self._in(self._writer, lambda: store.write([(frame.source, frame.message) for frame in frames]))
        )
        done, _ = await asyncio.wait([writing], timeout=SLOW_SECONDS)
        if not done:
            live.storing("the disk does not answer")
        return await writing

    async def _keep(self, live: LiveSession, queue: Queue, frames: list[Frame], error: Exception) -> None:
        """The store took nothing: keep the frames, say so, and try again later with the store opened anew."""
        reason = error.message if isinstance(error, OnTheFlyError) else str(error)
        log.error("session %s: nothing is saved: %s", live.info.id, reason)
        reason = reason.rpartition("Original error: ")[2].partition("\n")[0]
        live.storing(reason[:300] or type(error).__name__)
        queue.frames = frames + queue.frames
        queue.retry_at = time.monotonic() + queue.retry_after
        asyncio.get_running_loop().call_later(queue.retry_after, self._arrived.set)
        queue.retry_after = min(2 * queue.retry_after, LONGEST_RETRY)
        store, live.store = live.store, None
        if store is not None:
            await self._in(self._writer, store.close)

    async def _without_bad_ones(self, live: LiveSession, queue: Queue, frames: list[Frame], error: Exception) -> bool:
        """A malformed frame costs its agent the connection, and the others nothing."""
        if len(frames) == 1:
            log.warning("session %s: a frame is refused: %s", live.info.id, error)
            self._count(-frames[0].size)
            queue.passed(1)
            frames[0].fail(str(error))
            return True
        for place, frame in enumerate(frames):
            if not await self._commit(live, queue, [frame]):
                queue.frames[1:1] = frames[place + 1 :]  # after the one that waits again: the order is the agent's
                return False
        return True

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
                self._registry.write(live)

    async def close(self) -> None:
        """Commit what waits, and close every store."""
        for task in (self._task, self._saver):
            if task is not None:
                task.cancel()
        await self._commit_all(float("inf"))
        self.save()
        limit = time.monotonic() + 5
        for live in self._registry.sessions.values():
            if live.store is not None and time.monotonic() < limit:
                await self._in(self._writer, live.store.close)
        self._writer.shutdown(wait=False)
        self._readers.shutdown(wait=False)


def _answers(store: Store) -> list[tuple[int, int, Answer]]:
    with store.reading() as cursor:
        return journal.newest_answers(cursor, REMEMBERED_ANSWERS)
