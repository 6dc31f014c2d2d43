"""Where we listen, how many connections browsers and commands may hold, and how long one may keep us waiting.

aiohttp bounds neither: a thousand connections that say nothing stay for ever, and so does one whose peer has stopped
reading (a WebSocket's ``heartbeat`` ends the session and leaves its sender blocked: only ``transport.abort()`` frees
it). One sweep over all connections ends both.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import platform
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from aiohttp.http_exceptions import HttpProcessingError

from onthefly.errors import HubUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator

    from aiohttp import web

log = logging.getLogger("onthefly.hub")

LOOPBACK = "127.0.0.1"
PORTS_TRIED = 20
BACKLOG = 128
SEND_BUFFER = 256 * 1024
"""Of the system, for each connection. By default it takes megabytes before a peer that stopped reading is noticed."""

MAX_CONNECTIONS = 128
STALLED_SECONDS = 10.0
"""How long a peer may take nothing of what waits for it, or say nothing while nothing is done for it."""

SWEEP_SECONDS = 0.5


class OneLine(logging.Filter):
    """What is no HTTP costs the log a line: aiohttp would write a traceback for every stranger who says hello."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten it; everything else stays as it is."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg, record.args = "a request was not understood: %s", (type(error).__name__,)
            record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
        return True


class _Look(NamedTuple):
    """A connection when it last moved."""

    moved: float
    unsent: int


class Connections:
    """Makes aiohttp's protocol for each connection, and ends those that keep us waiting."""

    def __init__(self) -> None:
        self._server: Any = None
        self._seen: dict[Any, _Look] = {}
        self._working: dict[Any, int] = {}

    def protocol(self, server: web.Server) -> asyncio.BaseProtocol:
        """The protocol of a new connection; when there are too many, those silent longest are ended."""
        self._server = server
        return server() if self._make_room(1) else _Refused()

    def _make_room(self, coming: int) -> bool:
        """End those silent longest where there are too many; False if all are at work."""
        held = [handler for handler in self._server.connections if _is_open(handler)]
        surplus = len(held) + coming - MAX_CONNECTIONS
        if surplus > 0:
            idle = sorted((handler for handler in held if handler not in self._working), key=self._look)
            for handler in idle[:surplus]:
                _end(handler, "too many connections")
            return bool(idle)
        return True

    def _look(self, handler: Any) -> _Look:
        return self._seen.get(handler, _Look(time.monotonic(), 0))

    @contextlib.contextmanager
    def at_work(self, handler: Any) -> Generator[None, None, None]:
        """A request was let in: its peer may wait in silence while we work for it."""
        self._working[handler] = self._working.get(handler, 0) + 1
        try:
            yield
        finally:
            self._working[handler] -= 1
            if not self._working[handler]:
                del self._working[handler]
            self._seen[handler] = _Look(time.monotonic(), 0)

    async def sweep_forever(self) -> None:
        """Look at every connection, twice a second."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._sweep()

    def _sweep(self) -> None:
        if self._server is None:
            return
        self._make_room(0)  # many may have come at one moment
        now, held = time.monotonic(), self._server.connections
        connections = {handler: handler.transport for handler in held if _is_open(handler)}
        self._seen = {handler: look for handler, look in self._seen.items() if handler in connections}
        for handler, transport in connections.items():
            unsent = transport.get_write_buffer_size()
            then = self._seen.setdefault(handler, _Look(now, unsent))
            if (unsent < then.unsent) or (not unsent and handler in self._working):
                self._seen[handler] = _Look(now, unsent)
            elif now - then.moved >= STALLED_SECONDS:
                _end(handler, "it does not read" if unsent else "it says nothing")
            elif unsent > then.unsent:
                self._seen[handler] = _Look(then.moved, unsent)


def _is_open(handler: Any) -> bool:
    return handler.transport is not None and not handler.transport.is_closing()


class _Refused(asyncio.Protocol):
    """Of a connection that is not served."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        log.warning("a connection was refused: there are %d at work", MAX_CONNECTIONS)
        reset(transport)


def _end(handler: Any, why: str) -> None:
    log.info("a connection was ended: %s", why)
    reset(handler.transport)


def reset(transport: Optional[asyncio.BaseTransport]) -> None:
    """End a connection at once. Without the linger option the system would keep what is unsent for many minutes."""
    if isinstance(transport, asyncio.Transport):
        connection: Any = transport.get_extra_info("socket")
        if connection is not None and not transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def listen(host: str, preferred: int) -> socket.socket:
    """A listening socket on the preferred port, one of the next, or any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (*range(preferred, min(preferred + PORTS_TRIED, 65536)), 0):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            continue
        return listener
    raise HubUnavailable(f"no port can be had on {host}", "is that an address of this machine?")


def reached_at(host: str) -> str:
    """The address at which this machine reaches a hub that listens on ``host``."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)


def names(host: str) -> list[str]:
    """What browsers of other machines may call us: exactly that address, and this machine's name."""
    if ipaddress.ip_address(host).is_loopback:
        return []
    return [f"[{host}]" if ":" in host else host, platform.node()]
