"""Frames that the hub has not acknowledged: in memory, then on disk.

Numbered from 1 and kept until the hub says that they are committed. Over 64 MiB in memory they move to the spool, a
file in the session's folder that the hub reads when it is back (``sessions/<id>/spool/<rank>-<pid>.frames``: frames as
on the wire, a ``hello`` first); over 1 GiB there, new ones are dropped and counted.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, BinaryIO

from onthefly.link.frames import LENGTH, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from onthefly.protocol import AgentMessage, Hello

MEMORY_BYTES = 64 * 1024 * 1024
SPOOL_BYTES = 1024 * 1024 * 1024


class Outbox:
    """What still has to reach the hub, in order; used by the link's thread only (and by :meth:`spill` at the end)."""

    def __init__(self, hello: Hello, spool: Path) -> None:
        self._hello = hello
        self._spool = spool
        self._frames: deque[tuple[int, bytes]] = deque()
        self._sent = 0
        self._seq = 0
        self._bytes = 0
        self._spooled_seq = 0
        """The newest frame that went to disk."""
        self._carried = 0
        """Bytes of the spool that this connection has carried."""
        self.dropped = 0
        """Frames that found no place any more: lost."""

    def __len__(self) -> int:
        return len(self._frames)

    def empty(self) -> bool:
        """Everything is committed."""
        return not self._frames and not self._spooled_seq

    def add(self, message: AgentMessage) -> None:
        """Number a message and keep it."""
        self._seq += 1
        frame = encode(self._seq, message)
        self._frames.append((self._seq, frame))
        self._bytes += len(frame)
        if self._bytes > MEMORY_BYTES:
            self.spill()

    def hello(self) -> bytes:
        """The frame that opens each connection."""
        return encode(0, self._hello)

    def rewind(self, saved: int) -> None:
        """A new connection: everything after ``saved`` is to be sent (again)."""
        self.acknowledged(saved)
        self._sent = self._carried = 0

    def unsent(self) -> Iterator[bytes]:
        """Frames that this connection has not carried yet; each counts as sent when it is taken.

        Those on disk come first, also where they went there while the hub was connected and slow: it would take none
        that comes after a newer one, and its word on that one would have the spool deleted.
        """
        if self._spooled_seq:
            yield from self._spooled()
        while self._sent < len(self._frames):
            frame = self._frames[self._sent][1]
            self._sent += 1
            yield frame

    def acknowledged(self, seq: int) -> None:
        """All up to ``seq`` are committed."""
        while self._frames and self._frames[0][0] <= seq:
            self._bytes -= len(self._frames.popleft()[1])
            self._sent = max(0, self._sent - 1)
        if self._spooled_seq and seq >= self._spooled_seq:
            self._spooled_seq = self._carried = 0
            self._spool.unlink(missing_ok=True)

    def _spooled(self) -> Iterator[bytes]:
        with self._spool.open("rb") as file:
            file.seek(self._carried)
            if not self._carried:
                _frame(file)  # the hello, which this connection has already had
            while frame := _frame(file):
                self._carried = file.tell()
                yield frame

    def spill(self) -> None:
        """Move all frames from memory to the spool; those that find no place are counted in :attr:`dropped`."""
        if not self._frames:
            return
        frames = [frame for _, frame in self._frames]
        last = self._frames[-1][0]
        self._frames.clear()
        self._bytes = self._sent = 0
        try:
            self._append(frames)
            self._spooled_seq = last
        except OSError:
            self.dropped += len(frames)

    def _append(self, frames: list[bytes]) -> None:
        self._spool.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self._spool, flags, 0o600)
        size = os.fstat(descriptor).st_size
        try:
            with os.fdopen(descriptor, "ab", closefd=False) as file:
                if size == 0:
                    file.write(self.hello())
                for place, frame in enumerate(frames):
                    if file.tell() + len(frame) > SPOOL_BYTES:
                        self.dropped += len(frames) - place
                        return
                    file.write(frame)
        except OSError:  # a full disk: what is there already stays whole
            os.ftruncate(descriptor, size)
            if not size:
                self._spool.unlink()
            raise
        finally:
            os.close(descriptor)


def _frame(file: BinaryIO) -> bytes:
    """The next frame of a spool, length included; empty at its end (a torn last frame is its end)."""
    prefix = file.read(LENGTH.size)
    if len(prefix) < LENGTH.size:
        return b""
    (length,) = LENGTH.unpack(prefix)
    body = file.read(length)
    return prefix + body if len(body) == length else b""
