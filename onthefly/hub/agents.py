"""The agents' port: proof, frames in, acknowledgements and commands out."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Optional

import msgspec

from onthefly.errors import OnTheFlyError
from onthefly.hub import branches, journal, repository, resumes
from onthefly.hub.columns import BadColumns
from onthefly.hub.controls import bounded
from onthefly.hub.keeper import Frame
from onthefly.hub.store import Source
from onthefly.link.frames import LENGTH, FrameError, decode, encode
from onthefly.link.proof import MAGIC, NONCE_BYTES, PROOF_BYTES, nonce, prove, same
from onthefly.protocol import (
    AGENT_KINDS,
    MAX_FRAME,
    PROTOCOL,
    RUN_PATTERN,
    SESSION_PATTERN,
    Ack,
    Answered,
    Asked,
    Checked,
    Controlled,
    Denied,
    Described,
    Evaluated,
    Hello,
    Journaled,
    Noticed,
    Proposed,
    Receipted,
    StateChanged,
    Welcome,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession, Registry
    from onthefly.protocol import Answer, Controls, HubMessage, ReceiptInfo

log = logging.getLogger("onthefly.hub")

PROOF_SECONDS = 10.0
URGENT = (StateChanged, Described, Answered, Journaled, Receipted, Checked, Evaluated)
"""What is committed as it comes: somebody waits for it."""

MAX_UNPROVEN = 64
"""Connections that have not proven yet whose they are: each holds a descriptor."""


class AgentServer:
    """Serves agents on a port of its own."""

    def __init__(self, token: str, url: Callable[[], str], registry: Registry, keeper: Keeper) -> None:
        self._token = token
        self._url = url
        self._registry = registry
        self._keeper = keeper
        self._server: Optional[asyncio.AbstractServer] = None
        self.connections: set[asyncio.StreamWriter] = set()
        """Proven agents."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._notes: set[asyncio.Future[None]] = set()

    async def start(self, host: str) -> int:
        """Listen; the port that the system chose."""
        self._server = await asyncio.start_server(self._connected, host, 0, limit=1 << 20)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
        tasks = [*self._tasks, *self._notes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) - len(self.connections) >= MAX_UNPROVEN:
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.wait_for(self._prove(reader, writer), PROOF_SECONDS)
            self.connections.add(writer)
            await self._talk(reader, writer)
        except (OSError, EOFError, FrameError, asyncio.TimeoutError) as error:
            if not isinstance(error, asyncio.IncompleteReadError):
                log.warning("an agent's connection was closed: %s", error or type(error).__name__)
        finally:
            self.connections.discard(writer)
            writer.close()

    async def _prove(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opening = await reader.readexactly(len(MAGIC) + NONCE_BYTES)
        if not opening.startswith(MAGIC):
            raise FrameError("it does not speak our protocol")
        theirs, ours = opening[len(MAGIC) :], nonce()
        writer.write(ours + prove(self._token, b"hub", theirs, ours))
        if not same(await reader.readexactly(PROOF_BYTES), prove(self._token, b"agent", theirs, ours)):
            raise FrameError("it does not know the token")

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (seq, hello), _ = await _frame(reader)
        if seq != 0 or not isinstance(hello, Hello):
            raise FrameError("it does not begin with a hello")
        refusal = denial(hello)
        if refusal:
            writer.write(encode(0, Denied(reason=refusal)))
            raise FrameError(refusal)
        fresh = hello.session not in self._registry.sessions
        live = self._registry.open(hello)
        rank = live.processes.number(hello)
        self._keeper.forget(live.info.id, rank, hello.pid)
        saved = await self._saved(live, rank, hello.pid)
        if fresh and live.store is not None:
            note = asyncio.ensure_future(repository.note(live.store.folder, hello.cwd))
            self._notes.add(note)
            note.add_done_callback(self._notes.discard)
        writer.write(encode(0, Welcome(url=self._url(), saved=saved)))
        live.joined(hello, lambda message: _send(writer, message))
        try:
            await self._frames(reader, writer, live, Source(rank, hello.pid, saved))
        finally:
            live.left(hello)

    async def _saved(self, live: LiveSession, rank: int, pid: int) -> int:
        """What is committed of that agent; 0 while the store cannot be opened: it leaves out what it has."""
        try:
            return (await self._keeper.store(live)).saved(rank, pid)
        except OnTheFlyError as error:
            log.error("%s", error)
            return 0

    async def _frames(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, live: LiveSession, agent: Source
    ) -> None:
        def acknowledge(seq: int) -> None:
            _send(writer, Ack(seq=seq))

        def fail(reason: str) -> None:
            _send(writer, Denied(reason=reason))
            writer.close()

        rank, pid, newest = agent
        while True:
            await self._keeper.room()
            (seq, message), size = await _frame(reader)
            if seq <= newest:
                continue  # sent again after a connection broke
            newest = seq
            source = Source(rank, pid, seq)
            apply(live, source, message)
            frame = Frame(source, message, size, acknowledge, fail)
            self._keeper.take(live.info.id, frame, urgent=isinstance(message, URGENT))


def apply(live: LiveSession, source: Source, message: Any) -> None:
    """What is no record takes effect at once; :class:`FrameError` where it cannot be told to clients."""
    rank, pid, seq = source
    if isinstance(message, StateChanged):
        live.entered(rank, pid, message)
    elif isinstance(message, Answered):
        live.commands.answered((rank, pid), _checked(message.answer))
    elif isinstance(message, Noticed):
        live.noticed(rank, message)
    elif isinstance(message, Described):
        live.described(_told(message))
    elif isinstance(message, Controlled):
        live.controlled((rank, pid), _bounded(message.controls))
    elif isinstance(message, Proposed):
        live.commands.agreement.proposed((rank, pid), message)
    elif isinstance(message, Asked):
        live.commands.asked((rank, pid), seq, message)
    elif isinstance(message, Receipted):
        live.receipted(_sound(message.receipt))


def _told(message: Described) -> Described:
    try:
        branch = None if message.branch is None else branches.checked(message.branch)
        return msgspec.structs.replace(message, branch=branch)
    except BadColumns as error:
        raise FrameError(str(error)) from error


def _checked(answer: Answer) -> Answer:
    try:
        journal.checked(answer)
    except BadColumns as error:
        raise FrameError(str(error)) from error
    return answer


def _sound(receipt: ReceiptInfo) -> ReceiptInfo:
    try:
        return resumes.checked(receipt)
    except BadColumns as error:
        raise FrameError(str(error)) from error


def _bounded(controls: Controls) -> Controls:
    try:
        return bounded(controls)
    except BadColumns as error:
        raise FrameError(str(error)) from error


def denial(hello: Hello) -> str:
    """Why this agent is not served; empty if it is."""
    if hello.protocol != PROTOCOL:
        return f"protocol {hello.protocol} is not spoken here (this hub speaks {PROTOCOL})"
    if not SESSION_PATTERN.fullmatch(hello.session) or not RUN_PATTERN.fullmatch(hello.run):
        return "a session id or a name of a run that is none"
    if not -1 <= hello.rank < 1 << 15 or not 1 <= hello.pid < 1 << 31:
        return "a rank or a pid out of range"
    return ""


def _send(writer: asyncio.StreamWriter, message: HubMessage) -> None:
    if not writer.is_closing():
        writer.write(encode(0, message))


async def _frame(reader: asyncio.StreamReader) -> tuple[tuple[int, Any], int]:
    """The next frame, decoded, and its size."""
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > MAX_FRAME:
        raise FrameError(f"a frame of {length} bytes is over the limit of {MAX_FRAME}")
    return decode(await reader.readexactly(length), AGENT_KINDS), length
