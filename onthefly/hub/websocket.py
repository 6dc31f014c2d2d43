"""Clients on WebSockets: each with a queue of its own, so that one that does not read costs the others nothing.

A producer never waits for a client. A queue that is full loses the client's waiting deltas, and the client gets a fresh
snapshot when it reads again; one that takes nothing for ten seconds is cut off (``heartbeat`` does not free a sender
that is blocked on a client which stopped reading: only ``transport.abort()`` does).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Optional, Union

import msgspec
from aiohttp import WSMsgType, web

from onthefly.errors import OnTheFlyError, UsageError
from onthefly.hub import queries
from onthefly.hub.auth import SUBPROTOCOL
from onthefly.hub.columns import binary_message
from onthefly.protocol import (
    MAX_CLIENT_MESSAGE,
    ClientMessage,
    ColumnsHeader,
    CommandAnswered,
    CommandRequest,
    Failed,
    Fault,
    Pong,
    SendCommand,
    SessionChanged,
    Snapshot,
    Subscribe,
)  # fmt: skip

if TYPE_CHECKING:
    from onthefly.hub.columns import Array
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession, Registry
    from onthefly.hub.store import Written

log = logging.getLogger("onthefly.hub")

MAX_MESSAGES, MAX_BYTES = 1024, 4 * 1024 * 1024
STALLED_SECONDS = 10.0
HEARTBEAT_SECONDS = 15.0
TICK_SECONDS = 0.1
MAX_METRICS = 16

_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)

Message = Union[str, bytes]


class Client:
    """One WebSocket and what it follows."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.session: Optional[str] = None
        self.follows_last = False
        self.points = 2000
        self.cursors: dict[str, Optional[int]] = {}
        """By metric: the row from which the client has nothing yet; None while its history is being read."""
        self.changed: set[str] = set()
        """Sessions whose newest description it has not been sent."""
        self.behind = False
        """It lost deltas and needs a snapshot."""
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()

    def put(self, message: Message) -> None:
        """Queue a message; the oldest are dropped, with a resync to come, when there are too many."""
        if len(self._queue) >= MAX_MESSAGES or self._bytes + len(message) > MAX_BYTES:
            self._queue.clear()
            self._bytes = 0
            self.behind = True
            return
        self._queue.append(message)
        self._bytes += len(message)
        self._filled.set()

    def event(self, event: Any) -> None:
        """Queue a JSON message."""
        self.put(msgspec.json.encode(event).decode())

    def idle(self) -> bool:
        """Everything queued was handed to the network."""
        return not self._queue

    async def send_forever(self) -> None:
        """Send what is queued; a client that takes nothing for long is cut off."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                message = self._queue.popleft()
                self._bytes -= len(message)
                sending = self.socket.send_str(message) if isinstance(message, str) else self.socket.send_bytes(message)
                await asyncio.wait_for(sending, STALLED_SECONDS)


class Clients:
    """All WebSockets, and what they are told."""

    def __init__(self, registry: Registry, keeper: Keeper) -> None:
        self._registry = registry
        self._keeper = keeper
        self.clients: set[Client] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        registry.listen(self._session_changed)
        keeper.listen(self._committed)

    def start(self) -> None:
        """Begin to send changed descriptions, some ten times a second."""
        self._spawn(self._tick_forever())

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One connection, from the upgrade (which the guardian has allowed) to its end."""
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,), max_msg_size=MAX_CLIENT_MESSAGE, compress=False, heartbeat=HEARTBEAT_SECONDS
        )
        await socket.prepare(request)
        client = Client(socket)
        client.event(Snapshot(session=None, sessions=self._registry.newest_first(), cursor="0"))
        self.clients.add(client)
        sender = asyncio.ensure_future(self._send(client, request))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._receive(client, message.data)
                else:
                    await socket.close(code=1003, message=b"text only")
        finally:
            self.clients.discard(client)
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender
        return socket

    async def _send(self, client: Client, request: web.Request) -> None:
        try:
            await client.send_forever()
        except (asyncio.TimeoutError, ConnectionError):
            log.warning("a client that does not read was cut off")
            if request.transport is not None:
                request.transport.abort()

    async def _receive(self, client: Client, text: str) -> None:
        try:
            message = _decoder.decode(text)
            if isinstance(message, Subscribe):
                await self._subscribe(client, message)
            elif isinstance(message, SendCommand):
                live = self._registry.find(message.session)
                request = CommandRequest(id=message.id, name=message.name, args=message.args, by=message.by)
                self._spawn(self._command(client, live, request))
            else:
                client.event(Pong())
        except (msgspec.MsgspecError, RecursionError) as error:
            client.event(Failed(error=Fault(code="bad_message", message=str(error)[:300])))
        except OnTheFlyError as error:
            client.event(Failed(error=Fault(code=error.code, message=error.message, remedy=error.remedy)))

    async def _command(self, client: Client, live: LiveSession, request: CommandRequest) -> None:
        answer = await live.command(request)
        client.event(CommandAnswered(session=live.info.id, answer=answer))
        while answer.status == "accepted" and client in self.clients:
            answer = await live.command(request)  # the same id: waits for the same answer
            if answer.status != "accepted":
                client.event(CommandAnswered(session=live.info.id, answer=answer))

    async def _subscribe(self, client: Client, message: Subscribe) -> None:
        if len(message.metrics) > MAX_METRICS or not 1 <= message.points <= 20_000:
            raise UsageError(f"at most {MAX_METRICS} metrics, 1 to 20000 points")
        client.follows_last = message.session == "last"
        client.points = message.points
        client.cursors = dict.fromkeys(message.metrics)
        client.session = None
        if client.follows_last and not self._registry.sessions:
            client.event(Snapshot(session=None, sessions=[], cursor="0"))
            return
        client.session = self._registry.find(message.session).info.id
        await self._snapshot(client)

    async def _snapshot(self, client: Client) -> None:
        """The state of the world and the history of what the client follows, from scratch."""
        client.behind = False
        live = self._registry.sessions.get(client.session or "")
        info = None if live is None else live.info
        cursor = "0" if live is None or live.store is None else str(live.store.backward_rows)
        client.event(Snapshot(session=info, sessions=self._registry.newest_first(), cursor=cursor))
        if live is not None:
            for metric in list(client.cursors):
                await self._history(client, live, metric)

    async def _history(self, client: Client, live: LiveSession, metric: str) -> None:
        client.cursors[metric] = None
        run, points = live.info.run, client.points
        store = await self._keeper.store(live)
        cursor = store.backward_rows if metric == "loss" else store.metric_rows
        columns, _ = await self._keeper.read(live, lambda reader: queries.series(reader, run, metric, 0, points))
        if client.session != live.info.id or metric not in client.cursors:
            return  # it has subscribed to something else meanwhile
        client.put(_columns(live, run, metric, columns, reset=True, cursor=cursor))
        # Rows committed since `cursor` was read are in the history or come as the gap below: never twice, never lost.
        now = store.backward_rows if metric == "loss" else store.metric_rows
        if now != cursor:
            await self._history(client, live, metric)
            return
        client.cursors[metric] = cursor

    def _session_changed(self, live: LiveSession) -> None:
        for client in self.clients:
            client.changed.add(live.info.id)

    def _committed(self, live: LiveSession, written: Written) -> None:
        for client in self.clients:
            if client.session == live.info.id:
                self._deltas(client, live, written)

    def _deltas(self, client: Client, live: LiveSession, written: Written) -> None:
        for metric, cursor in client.cursors.items():
            first = written.first_backward_row if metric == "loss" else written.first_metric_row
            table = written.backwards if metric == "loss" else written.metrics
            rows = len(table.get("step", ()))
            if cursor is None or not rows:
                continue
            if cursor != first:
                client.behind = True
                continue
            client.cursors[metric] = first + rows
            columns = _delta(table, metric, written)
            if columns is not None:
                client.put(_columns(live, live.info.run, metric, columns, reset=False, cursor=first + rows))

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for client in list(self.clients):
                if not client.idle():
                    continue
                await self._follow_last(client)
                if client.behind:
                    await self._snapshot(client)
                changed, client.changed = client.changed, set()
                for identifier in changed:
                    live = self._registry.sessions.get(identifier)
                    if live is not None:
                        client.event(SessionChanged(session=live.info))

    async def _follow_last(self, client: Client) -> None:
        if not client.follows_last or not client.changed:
            return
        newest = self._registry.find("last").info.id
        if newest != client.session:
            client.session = newest
            await self._snapshot(client)

    def _spawn(self, coroutine: Any) -> None:
        task: asyncio.Task[Any] = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task failed", exc_info=task.exception())

    async def close(self) -> None:
        """Say goodbye to every client."""
        for task in list(self._tasks):
            task.cancel()
        for client in list(self.clients):
            await client.socket.close(code=1001, message=b"the hub ends")


def _delta(table: dict[str, Array], metric: str, written: Written) -> Optional[dict[str, Array]]:
    if metric == "loss":
        return {"step": table["step"], "epoch": table["epoch"], "time": table["time"] / 1e6, "value": table["loss"]}
    if metric not in written.metric_names:
        return None
    mine = table["name"] == written.metric_names.index(metric)
    return {"step": table["step"][mine], "epoch": table["epoch"][mine], "time": table["time"][mine] / 1e6,
            "value": table["value"][mine]}  # fmt: skip


def _columns(live: LiveSession, run: str, metric: str, columns: dict[str, Array], *, reset: bool, cursor: int) -> bytes:
    header = ColumnsHeader(session=live.info.id, run=run, metric=metric, reset=reset, cursor=str(cursor), columns=[])
    return binary_message(header, columns)
