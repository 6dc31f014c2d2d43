"""Clients on WebSockets: each with a queue and a follower of its own, so that one costs the others nothing.

A producer never waits for a client. A queue that is full loses the client's waiting columns and descriptions, and the
client gets a fresh snapshot when it reads again; answers are never lost. One that takes nothing for ten seconds is cut
off by :class:`~onthefly.hub.connections.Connections`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Optional

import msgspec
from aiohttp import WSMsgType, web

from onthefly.errors import OnTheFlyError, UsageError
from onthefly.hub import commands, queries
from onthefly.hub.auth import SUBPROTOCOL
from onthefly.hub.client import Client
from onthefly.hub.columns import TRAIN, binary_message
from onthefly.protocol import (
    MAX_CLIENT_MESSAGE,
    Answer,
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
    from collections.abc import Coroutine

    from onthefly.hub.columns import Array
    from onthefly.hub.forks import Forks
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession, Registry
    from onthefly.hub.store import Store, Written

log = logging.getLogger("onthefly.hub")

MAX_CLIENTS = 32
MAX_PENDING = 64
"""Commands of one client that wait for the script."""

HEARTBEAT_SECONDS = 15.0
GOODBYE_SECONDS = 2.0
"""How long a client has to answer the close of its connection."""

TICK_SECONDS = 0.1
RETRY_SECONDS = 1.0
REFUSED_PAUSE = 0.002
"""After each message that came too fast: the flood waits in the sender's own network buffers."""

MAX_METRICS, MAX_POINTS, MAX_NAME = 16, 20_000, 200

_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)


class _Id(msgspec.Struct):
    """What can be read of a message that is none."""

    id: str = ""


class Clients:
    """All WebSockets, and what they are told."""

    def __init__(self, registry: Registry, keeper: Keeper, forks: Forks) -> None:
        self._registry = registry
        self._keeper = keeper
        self._forks = forks
        self.clients: set[Client] = set()
        self._runs: dict[str, str] = {}
        """The run that clients of each session were last shown."""
        self._tasks: set[asyncio.Task[Any]] = set()
        registry.listen(self._session_changed)
        keeper.listen(self._committed)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One connection, from the upgrade (which the guardian has allowed) to its end."""
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,), max_msg_size=MAX_CLIENT_MESSAGE, compress=False, heartbeat=HEARTBEAT_SECONDS,
            timeout=GOODBYE_SECONDS,
        )  # fmt: skip
        await socket.prepare(request)
        if len(self.clients) >= MAX_CLIENTS:
            log.warning("a dashboard is turned away: %d are connected", len(self.clients))
            await socket.close(code=1013, message=f"{MAX_CLIENTS} dashboards are connected already".encode())
            return socket
        client = Client(socket, request.transport)
        client.event(Snapshot(session=None, sessions=self._registry.newest_first(), cursor="0"))
        self.clients.add(client)
        own = [self._spawn(client.send_forever()), self._spawn(self._follow(client))]
        for task in own:
            task.add_done_callback(lambda task: _failed(task) and client.cut())
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._receive(client, message.data)
                else:
                    await socket.close(code=1003, message=b"text only")
        finally:
            self.clients.discard(client)
            client.leave()
            for task in own:
                task.cancel()
            await asyncio.wait(own)
        return socket

    async def _receive(self, client: Client, text: str) -> None:
        in_time = client.bucket.take()
        try:
            message = _decoder.decode(text)
            if not in_time:
                client.event(_too_fast(message))
                await asyncio.sleep(REFUSED_PAUSE)
            elif isinstance(message, Subscribe):
                self._subscribe(client, message)
            elif isinstance(message, SendCommand):
                self._command(client, message)
            else:
                client.event(Pong())
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            client.event(Failed(id=_id(text), error=Fault(code="bad_message", message=str(error)[:300])))
            await asyncio.sleep(0 if in_time else REFUSED_PAUSE)
        except OnTheFlyError as error:
            fault = Fault(code=error.code, message=error.message, remedy=error.remedy)
            client.event(Failed(id=_id(text), error=fault))

    def _command(self, client: Client, message: SendCommand) -> None:
        request = CommandRequest(id=message.id, name=message.name, args=message.args, by=message.by)
        commands.check(request)
        live = self._registry.find(message.session)
        if client.pending >= MAX_PENDING:
            client.event(CommandAnswered(session=live.info.id, answer=_busy(message.id)))
            return
        client.pending += 1
        self._spawn(self._answer(client, live, request))

    async def _answer(self, client: Client, live: LiveSession, request: CommandRequest) -> None:
        """What became of a command, now and when it is settled."""
        try:
            answer = await commands.submit(self._keeper, live, request, self._forks)
            client.event(CommandAnswered(session=live.info.id, answer=answer))
            while answer.status == "accepted" and client in self.clients:
                await asyncio.sleep(TICK_SECONDS)
                answer = await live.commands.command(request)  # the same id: waits for the same answer
                if answer.status != "accepted":
                    client.event(CommandAnswered(session=live.info.id, answer=answer))
        finally:
            client.pending -= 1

    def _subscribe(self, client: Client, message: Subscribe) -> None:
        if len(message.metrics) > MAX_METRICS or not 1 <= message.points <= MAX_POINTS:
            raise UsageError(f"at most {MAX_METRICS} metrics, 1 to {MAX_POINTS} points")
        if any(len(name) > MAX_NAME for name in message.metrics):
            raise UsageError(f"the name of a metric has at most {MAX_NAME} characters")
        last = message.session == "last"
        session = None if last and not self._registry.sessions else self._registry.find(message.session).info.id
        client.subscribe(session, message.metrics, message.points, follows_last=last)

    async def _follow(self, client: Client) -> None:
        """Tell the client what is new whenever it has read what came before, at most ten times a second."""
        while True:
            await client.wanted()
            self._follow_last(client)
            if client.behind:
                await self._catch_up(client)
            changed, client.changed = client.changed, set()
            for identifier in changed:
                live = self._registry.sessions.get(identifier)
                if live is not None:
                    client.event(SessionChanged(session=live.info), droppable=True)
            await asyncio.sleep(TICK_SECONDS)

    def _follow_last(self, client: Client) -> None:
        if client.follows_last and self._registry.sessions:
            newest = self._registry.find("last").info.id
            if newest != client.session:
                client.subscribe(newest, list(client.cursors), client.points, follows_last=True)

    async def _catch_up(self, client: Client) -> None:
        try:
            await self._snapshot(client)
        except OnTheFlyError as error:  # the store is away (a full disk, a folder that moved): say so, and try again
            client.event(Failed(error=Fault(code=error.code, message=error.message, remedy=error.remedy)))
            await asyncio.sleep(RETRY_SECONDS)
            client.fall_behind()

    async def _snapshot(self, client: Client) -> None:
        """The state of the world and the history of what the client follows, from scratch."""
        client.behind = False
        live = self._registry.sessions.get(client.session or "")
        info = None if live is None else live.info
        cursor = "0" if live is None or live.store is None else str(live.store.backward_rows)
        snapshot = Snapshot(session=info, sessions=self._registry.newest_first(), cursor=cursor)
        client.event(snapshot, droppable=True)
        subscription = client.cursors
        for metric in subscription:
            if live is not None and client.cursors is subscription and not client.behind:
                await self._history(client, live, metric)

    async def _history(self, client: Client, live: LiveSession, metric: str) -> None:
        """One metric up to now, then what was saved while it was read; deltas join where that ends."""
        store = await self._keeper.store(live)
        run, points, cursors = live.info.run, client.points, client.cursors
        cursors[metric] = None
        after, reset = 0, True
        while client.cursors is cursors and (reset or after != _rows(store, metric)):
            await client.drained()
            before = _rows(store, metric)
            columns, _ = await self._keeper.read(
                live, _part(live, run, metric, after, before, points if reset else before)
            )
            if client.cursors is not cursors:
                return  # it has subscribed to something else meanwhile
            client.put(_columns(live, metric, columns, reset=reset, cursor=before), droppable=True)
            after, reset = before, False
        cursors[metric] = after

    def _session_changed(self, live: LiveSession) -> None:
        before, self._runs[live.info.id] = self._runs.get(live.info.id, live.info.run), live.info.run
        for client in self.clients:
            client.change(live.info.id)
            if before != live.info.run and client.session == live.info.id:
                client.fall_behind()  # another run's history takes the place of what it has

    def _committed(self, live: LiveSession, written: Written) -> None:
        messages: dict[str, Optional[bytes]] = {}
        for client in list(self.clients):
            if client.session == live.info.id:
                for metric, cursor in client.cursors.items():
                    if cursor is not None:
                        self._delta(client, live, written, metric, cursor, messages)

    def _delta(
        self, client: Client, live: LiveSession, written: Written, metric: str, cursor: int,
        messages: dict[str, Optional[bytes]],
    ) -> None:  # fmt: skip
        first = written.first_backward_row if metric == "loss" else written.first_metric_row
        end = first + len((written.backwards if metric == "loss" else written.metrics).get("step", ()))
        if end <= cursor <= _rows(live.store, metric):
            return  # it came with the history
        if cursor != first:
            client.fall_behind()
            return
        client.cursors[metric] = end
        if metric not in messages:
            columns = _delta(live.info.run, metric, written)
            messages[metric] = None if columns is None else _columns(live, metric, columns, reset=False, cursor=end)
        message = messages[metric]
        if message is not None:
            client.put(message, droppable=True)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if _failed(task):
            log.error("a client's task failed", exc_info=task.exception())

    async def close(self) -> None:
        """Say goodbye to every client."""
        goodbyes = [self._spawn(_goodbye(client)) for client in self.clients]
        if goodbyes:
            await asyncio.wait(goodbyes, timeout=GOODBYE_SECONDS)
        for client in list(self.clients):
            client.cut()
        for task in list(self._tasks):
            task.cancel()


def _failed(task: asyncio.Task[Any]) -> bool:
    """A failure of ours: it costs this client its connection, and it comes back; the others nothing."""
    return not task.cancelled() and task.exception() is not None


async def _goodbye(client: Client) -> None:
    await client.socket.close(code=1001, message=b"the hub ends")


def _too_fast(message: ClientMessage) -> Any:
    if isinstance(message, SendCommand):
        return CommandAnswered(session=message.session, answer=_busy(message.id))
    return Failed(error=Fault(code="busy", message="too many messages", remedy="wait a second, then send it again"))


def _busy(identifier: str) -> Answer:
    return Answer(id=identifier, n=-1, status="busy", reason="too many commands",
                  remedy="wait a second, then send it again")  # fmt: skip


def _id(text: str) -> str:
    """The id of a message that is wrong in another way, so that its sender knows which."""
    try:
        return msgspec.json.decode(text, type=_Id).id[:100]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return ""


def _rows(store: Optional[Store], metric: str) -> int:
    if store is None:
        return 0
    return store.backward_rows if metric == "loss" else store.metric_rows


def _part(live: LiveSession, run: str, metric: str, after: int, before: int, points: int) -> Any:
    line = live.line(run)
    return lambda cursor: queries.series(cursor, run, metric, after, points, before, line)


def _delta(run: str, metric: str, written: Written) -> Optional[dict[str, Array]]:
    """The new rows of that run and metric; None if there are none."""
    table = written.backwards if metric == "loss" else written.metrics
    if run not in written.runs or (metric != "loss" and metric not in written.metric_names):
        return None
    mine = table["run"] == written.runs.index(run)
    mine &= table["phase"] == TRAIN if metric == "loss" else table["name"] == written.metric_names.index(metric)
    if not mine.any():
        return None
    value = table["loss" if metric == "loss" else "value"]
    return {"step": table["step"][mine], "epoch": table["epoch"][mine], "time": table["time"][mine] / 1e6,
            "value": value[mine]}  # fmt: skip


def _columns(live: LiveSession, metric: str, columns: dict[str, Array], *, reset: bool, cursor: int) -> bytes:
    header = ColumnsHeader(
        session=live.info.id, run=live.info.run, metric=metric, reset=reset, cursor=str(cursor), columns=[]
    )
    return binary_message(header, columns)
