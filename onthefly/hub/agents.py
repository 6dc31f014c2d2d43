"""The agents' port: proof, frames in, acknowledgements and commands out; and the spools that agents left behind."""

from __future__ import annotations

import asyncio
import logging
import platform
from typing import TYPE_CHECKING, Any, Optional

from onthefly.hub.keeper import Frame
from onthefly.hub.store import Source
from onthefly.link.discovery import alive
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
    Command,
    Denied,
    Hello,
    Noticed,
    StateChanged,
    Welcome,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onthefly.hub.folder import DataFolder
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession, Registry

log = logging.getLogger("onthefly.hub")

PROOF_SECONDS = 10.0


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

    async def start(self, host: str) -> int:
        """Listen; the port that the system chose."""
        self._server = await asyncio.start_server(self._serve, host, 0, limit=1 << 20)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
        for writer in list(self.connections):
            writer.close()

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
        seq, hello = decode(await _body(reader), AGENT_KINDS)
        if seq != 0 or not isinstance(hello, Hello):
            raise FrameError("it does not begin with a hello")
        denial = _denial(hello)
        if denial:
            writer.write(encode(0, Denied(reason=denial)))
            raise FrameError(denial)
        live = self._registry.open(hello)
        store = await self._keeper.store(live)
        saved = store.saved(hello.rank, hello.pid)
        writer.write(encode(0, Welcome(url=self._url(), saved=saved)))
        live.joined(hello, lambda command: _send(writer, command))
        try:
            await self._frames(reader, writer, live, hello, saved)
        finally:
            live.left(hello)

    async def _frames(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, live: LiveSession, hello: Hello, saved: int
    ) -> None:
        def acknowledge(seq: int) -> None:
            _send(writer, Ack(seq=seq))

        def fail(reason: str) -> None:
            _send(writer, Denied(reason=reason))
            writer.close()

        while True:
            seq, message = decode(await _body(reader), AGENT_KINDS)
            if seq <= saved:
                acknowledge(saved)
                continue  # sent again after a connection broke
            saved = seq
            _apply(live, hello.rank, message)
            frame = Frame(Source(hello.rank, hello.pid, seq), message, acknowledge, fail)
            self._keeper.take(live.info.id, frame, urgent=isinstance(message, (StateChanged, Answered)))


def _apply(live: LiveSession, rank: int, message: Any) -> None:
    """What is no record takes effect at once."""
    if isinstance(message, StateChanged):
        live.entered(message)
    elif isinstance(message, Answered):
        live.answered(message.answer)
    elif isinstance(message, Noticed):
        live.noticed(rank, message)


def _denial(hello: Hello) -> str:
    if hello.protocol != PROTOCOL:
        return f"protocol {hello.protocol} is not spoken here (this hub speaks {PROTOCOL})"
    if not SESSION_PATTERN.fullmatch(hello.session) or not RUN_PATTERN.fullmatch(hello.run):
        return "a session id or a name of a run that is none"
    if not 0 <= hello.rank < 1 << 15 or hello.pid < 1:
        return "a rank or a pid out of range"
    return ""


def _send(writer: asyncio.StreamWriter, message: Ack | Command | Denied) -> None:
    if not writer.is_closing():
        writer.write(encode(0, message))


async def _body(reader: asyncio.StreamReader) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > MAX_FRAME:
        raise FrameError(f"a frame of {length} bytes is over the limit of {MAX_FRAME}")
    return await reader.readexactly(length)


class SpoolReader:
    """Takes in what agents wrote to disk because no hub was there, once their process is gone."""

    def __init__(self, registry: Registry, keeper: Keeper, folder: DataFolder) -> None:
        self._registry = registry
        self._keeper = keeper
        self._folder = folder
        self._under_way: set[Path] = set()

    async def sweep(self) -> None:
        """Look through all sessions' spools once."""
        for path in self._folder.spools():
            if path not in self._under_way:
                await self._take(path)

    async def _take(self, path: Path) -> None:
        frames = _spooled(path)
        hello = frames[0][1] if frames else None
        if not isinstance(hello, Hello) or _denial(hello) or hello.session != path.parent.parent.name:
            log.warning("%s is no spool of ours: set aside", path)
            self._folder.set_aside(path)
            return
        if hello.node == platform.node() and alive(hello.pid):
            return  # its agent sends it when it finds us
        live = self._registry.open(hello)
        saved = (await self._keeper.store(live)).saved(hello.rank, hello.pid)
        fresh = [(seq, message) for seq, message in frames[1:] if seq > saved]
        if not fresh:
            self._folder.discard(path)
            return
        self._under_way.add(path)
        last = fresh[-1][0]

        def acknowledge(seq: int) -> None:
            if seq >= last:
                self._folder.discard(path)
                self._under_way.discard(path)

        for seq, message in fresh:
            _apply(live, hello.rank, message)
            self._keeper.take(live.info.id, Frame(Source(hello.rank, hello.pid, seq), message, acknowledge, log.error),
                              urgent=seq == last)  # fmt: skip


def _spooled(path: Path) -> list[tuple[int, Any]]:
    """The frames of a spool; a torn last one is left out."""
    data = path.read_bytes()
    frames: list[tuple[int, Any]] = []
    place = 0
    while place + LENGTH.size <= len(data):
        (length,) = LENGTH.unpack_from(data, place)
        end = place + LENGTH.size + length
        if length > MAX_FRAME or end > len(data):
            log.warning("%s ends in a torn frame", path)
            break
        try:
            frames.append(decode(data[place + LENGTH.size : end], AGENT_KINDS))
        except FrameError as error:
            log.warning("%s: %s", path, error)
            break
        place = end
    return frames
