"""Takes in what agents wrote to disk because no hub was there, once their process is gone."""

from __future__ import annotations

import logging
import platform
from typing import TYPE_CHECKING, Any

from onthefly.hub.agents import apply, denial
from onthefly.hub.keeper import Frame
from onthefly.hub.store import Source
from onthefly.link.discovery import alive
from onthefly.link.frames import LENGTH, FrameError, decode
from onthefly.protocol import AGENT_KINDS, MAX_FRAME, Hello

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from typing import BinaryIO

    from onthefly.hub.folder import DataFolder
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession, Registry

log = logging.getLogger("onthefly.hub")


class SpoolReader:
    """Looks through the sessions' spools now and then."""

    def __init__(self, registry: Registry, keeper: Keeper, folder: DataFolder) -> None:
        self._registry = registry
        self._keeper = keeper
        self._folder = folder
        self._under_way: set[Path] = set()

    async def sweep(self) -> None:
        """Look through all of them once."""
        for path in self._folder.spools():
            if path not in self._under_way:
                with path.open("rb") as file:
                    await self._take(path, file)

    async def _take(self, path: Path, file: BinaryIO) -> None:
        frames = _frames(path, file)
        _, hello, _ = next(frames, (0, None, 0))
        if not isinstance(hello, Hello) or denial(hello) or hello.session != path.parent.parent.name:
            log.warning("%s is no spool of ours: set aside", path)
            self._folder.set_aside(path)
            return
        if hello.node == platform.node() and alive(hello.pid):
            return  # its agent sends it when it finds us
        self._under_way.add(path)
        live = self._registry.open(hello)
        await _Reading(path, hello, live, self).run(frames)

    def done(self, path: Path) -> None:
        """All of it is committed."""
        self._folder.discard(path)
        self._under_way.discard(path)

    @property
    def keeper(self) -> Keeper:
        """Where the frames go."""
        return self._keeper


class _Reading:
    """One spool on its way into the store: it is deleted when its last frame is committed, and not before."""

    def __init__(self, path: Path, hello: Hello, live: LiveSession, reader: SpoolReader) -> None:
        self._path = path
        self._hello = hello
        self._live = live
        self._reader = reader
        self._committed = 0
        self._last: int | None = None
        """The number of the last frame, once it was read."""

    async def run(self, frames: Generator[tuple[int, Any, int], None, None]) -> None:
        keeper, live, last = self._reader.keeper, self._live, 0
        rank = live.processes.number(self._hello)
        for seq, message, size in frames:
            await keeper.room()
            source = Source(rank, self._hello.pid, seq)
            try:
                apply(live, source, message)
            except FrameError as error:  # the store refuses it too, and says so
                log.warning("%s: %s", self._path, error)
            frame = Frame(source, message, size, self._acknowledge, log.error)
            keeper.take(live.info.id, frame, urgent=False)
            last = seq
        self._last = last
        self._acknowledge(self._committed)

    def _acknowledge(self, seq: int) -> None:
        self._committed = max(self._committed, seq)
        if self._last is not None and self._committed >= self._last:
            self._reader.done(self._path)


def _frames(path: Path, file: BinaryIO) -> Generator[tuple[int, Any, int], None, None]:
    """Number, message and size of each frame of a spool; a torn last one is left out."""
    while len(prefix := file.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(prefix)
        body = file.read(length) if length <= MAX_FRAME else b""
        if len(body) < length:
            log.warning("%s ends in a torn frame", path)
            return
        try:
            seq, message = decode(body, AGENT_KINDS)
        except FrameError as error:
            log.warning("%s: %s", path, error)
            return
        yield seq, message, length
