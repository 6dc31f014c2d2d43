"""Descriptors in a process that is not ours: kept off the standard streams, and looked at before each use.

A script that turns itself into a daemon closes every descriptor that it does not know, and opens files of its own,
which get the same numbers: what we wrote then would be written into them.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def above_streams(given: socket.socket) -> socket.socket:
    """The same socket, with a descriptor numbered above the three standard streams.

    Where one of those is closed, its number is the next to be given out; what is printed there, by a C library for
    instance, would go to the hub.
    """
    if given.fileno() > 2 or os.name == "nt":
        return given
    import fcntl

    moved = socket.socket(fileno=fcntl.fcntl(given.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))
    moved.settimeout(given.gettimeout())
    given.close()
    return moved


class Own:
    """A socket of ours, and whether its descriptor is still its own."""

    def __init__(self, given: socket.socket) -> None:
        self.socket = above_streams(given)
        self._identity = _identity(self.socket.fileno())

    def intact(self) -> bool:
        """Whether nobody closed it behind our back."""
        return _identity(self.socket.fileno()) == self._identity

    def close(self) -> None:
        """Close it, unless its number is somebody else's by now."""
        if self.intact():
            self.socket.close()
        else:
            self.socket.detach()


class Bell:
    """Wakes a thread that waits for descriptors."""

    def __init__(self) -> None:
        self._ours, self._theirs = self._pair()

    @staticmethod
    def _pair() -> tuple[Own, Own]:
        ours, theirs = map(Own, socket.socketpair())
        for end in (ours, theirs):
            end.socket.setblocking(False)
        return ours, theirs

    def fileno(self) -> int:
        """What the thread waits for."""
        return self._ours.socket.fileno()

    def ring(self) -> None:
        """Wake the thread; from any thread, never blocks."""
        if self._theirs.intact():
            with contextlib.suppress(BlockingIOError):  # it rings already
                self._theirs.socket.send(b"!")

    def silence(self) -> None:
        """The thread is awake."""
        with contextlib.suppress(BlockingIOError):
            self._ours.socket.recv(4096)

    def mend(self) -> bool:
        """Hang another one if somebody closed this one; whether that was so."""
        if self._ours.intact() and self._theirs.intact():
            return False
        self.close()
        self._ours, self._theirs = self._pair()
        return True

    def close(self) -> None:
        """Take it down."""
        self._ours.close()
        self._theirs.close()


def readable(descriptors: Iterable[int], seconds: float) -> set[int]:
    """Those on which something has arrived, waited for; by ``poll``, since ``select`` knows no number over 1,023."""
    if not hasattr(select, "poll"):  # Windows
        return set(select.select(list(descriptors), [], [], seconds)[0])
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(seconds * 1000)}


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino
