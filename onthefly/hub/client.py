"""One client on a WebSocket: what it follows, what waits for it, and how fast it may ask."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

import msgspec

from onthefly.hub.connections import reset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

MAX_MESSAGES, MAX_BYTES = 1024, 4 * 1024 * 1024

RATE, BURST = 20.0, 60
"""Messages a second that a client may send in the long run, and at once."""


class Bucket:
    """A token bucket: ``burst`` at once, ``rate`` a second in the long run."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._then = time.monotonic()

    def take(self) -> bool:
        """Whether there is one more now."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._then) * self._rate)
        self._then = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Waiting(NamedTuple):
    """A message in the queue."""

    message: Union[str, bytes]
    size: int
    droppable: bool


class Client:
    """One WebSocket, what it follows, and its queue."""

    def __init__(self, socket: web.WebSocketResponse, transport: Optional[asyncio.Transport]) -> None:
        self.socket = socket
        self._transport = transport
        self.bucket = Bucket(RATE, BURST)
        self.pending = 0
        """Commands that wait for the script."""
        self.session: Optional[str] = None
        self.follows_last = False
        self.points = 2000
        self.cursors: dict[str, Optional[int]] = {}
        """By metric: the row from which the client has nothing yet; None while its history is being read. A new
        subscription is a new object."""
        self.changed: set[str] = set()
        """Sessions whose newest description it has not been sent."""
        self.behind = False
        """It needs a snapshot: it lost columns, or follows something else now."""
        self._queue: deque[_Waiting] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._news = asyncio.Event()

    def subscribe(self, session: Optional[str], metrics: Sequence[str], points: int, *, follows_last: bool) -> None:
        """Follow something else from now on; a snapshot is to come."""
        self.session, self.points, self.follows_last = session, points, follows_last
        self.cursors = dict.fromkeys(metrics)
        self.fall_behind()

    def fall_behind(self) -> None:
        """Note that it needs a snapshot."""
        self.behind = True
        self._news.set()

    def change(self, session: str) -> None:
        """Note that a session is described anew."""
        self.changed.add(session)
        self._news.set()

    def put(self, message: Union[str, bytes], *, droppable: bool = False) -> None:
        """Queue a message. Too much: what is droppable goes, with a snapshot to come; too much of the rest: it is cut.

        A message that is too big for the queue is still taken when nothing else waits. What is droppable is not taken
        before the snapshot that is to come: columns would stand after a gap.
        """
        if droppable and self.behind:
            return
        waiting = _Waiting(message, len(message if isinstance(message, bytes) else message.encode()), droppable)
        if self._queue and (len(self._queue) >= MAX_MESSAGES or self._bytes + waiting.size > MAX_BYTES):
            self._drop()
            if droppable:
                return
            if len(self._queue) >= MAX_MESSAGES or self._bytes + waiting.size > MAX_BYTES:
                self.cut()
                return
        self._queue.append(waiting)
        self._bytes += waiting.size
        self._drained.clear()
        self._filled.set()

    def _drop(self) -> None:
        """Keep the answers alone."""
        self._queue = deque(waiting for waiting in self._queue if not waiting.droppable)
        self._bytes = sum(waiting.size for waiting in self._queue)
        self.fall_behind()

    def event(self, event: Any, *, droppable: bool = False) -> None:
        """Queue a JSON message."""
        self.put(msgspec.json.encode(event).decode(), droppable=droppable)

    async def wanted(self) -> None:
        """Wait until there is news for it and it has taken all that went before."""
        while True:
            await self._news.wait()
            await self._drained.wait()
            if self._news.is_set():
                self._news.clear()
                return

    async def drained(self) -> None:
        """Wait until everything queued was handed to the network."""
        await self._drained.wait()

    async def send_forever(self) -> None:
        """Send what is queued, until the connection ends."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                message, size, _ = self._queue.popleft()
                self._bytes -= size
                try:
                    if isinstance(message, str):
                        await self.socket.send_str(message)
                    else:
                        await self.socket.send_bytes(message)
                except ConnectionError:
                    return
            self._drained.set()

    def leave(self) -> None:
        """The connection is over: what waits in our buffers for one that does not read would never leave them."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            self.cut()

    def cut(self) -> None:
        """End the connection at once: nothing that waits is sent."""
        reset(self._transport)
