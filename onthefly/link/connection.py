"""One connection from an agent to the hub: found, proven by both sides, and read without waiting."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from onthefly.errors import HubUnavailable
from onthefly.link.descriptors import Own
from onthefly.link.frames import FrameReader, decode
from onthefly.link.proof import MAGIC, NONCE_BYTES, PROOF_BYTES, nonce, prove, same
from onthefly.protocol import HUB_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onthefly.protocol import HubFile

TIMEOUT = 5.0
"""Seconds that connecting, proving or one send may take before the hub counts as gone."""


class Connection:
    """A proven connection; raises OSError when it breaks."""

    def __init__(self, hub: HubFile) -> None:
        """Connect, and no more; :class:`HubUnavailable` if nothing answers there."""
        self._hub = hub
        self._reader = FrameReader()
        try:
            self._own = Own(socket.create_connection((hub.host, hub.agent_port), timeout=TIMEOUT))
        except OSError as error:
            raise HubUnavailable(f"the hub does not answer on port {hub.agent_port}: {error}") from error

    @property
    def socket(self) -> socket.socket:
        """To be read or written to; see :meth:`check`."""
        self.check()
        return self._own.socket

    def check(self) -> None:
        """OSError if the script has closed it."""
        if not self._own.intact():
            raise OSError("the script closed the connection to the hub")

    def fileno(self) -> int:
        """What is waited on; whether it is still ours is looked at before anything is read or sent."""
        return self._own.socket.fileno()

    def prove(self) -> None:
        """Both sides show that they know the token; :class:`HubUnavailable` if it is not the hub of that file."""
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._prove(self._hub.token)
        except (OSError, HubUnavailable) as error:
            self._own.close()
            raise HubUnavailable(f"port {self._hub.agent_port} is not the hub's: {error}") from error

    def _prove(self, token: str) -> None:
        ours = nonce()
        self.socket.sendall(MAGIC + ours)
        answer = self._exactly(NONCE_BYTES + PROOF_BYTES)
        theirs, proof = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
        if not same(proof, prove(token, b"hub", ours, theirs)):
            raise HubUnavailable("it cannot prove that it wrote hub.json")
        self.socket.sendall(prove(token, b"agent", ours, theirs))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = self.socket.recv(count - len(data))
            if not chunk:
                raise OSError("the connection was closed")
            data += chunk
        return data

    def send(self, frames: bytes) -> None:
        """Send whole frames; OSError if the hub takes nothing for :data:`TIMEOUT` seconds."""
        self.socket.sendall(frames)

    def receive(self) -> Iterator[Any]:
        """The hub's messages that have arrived (the socket was seen to be readable)."""
        data = self.socket.recv(65536)
        if not data:
            raise OSError("the hub closed the connection")
        for body in self._reader.feed(data):
            yield decode(body, HUB_KINDS)[1]

    def hang_up(self) -> None:
        """From another thread: whoever is sending or receiving here fails at once."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close our end (in a forked child: its copy of it, which tells the hub nothing)."""
        self._own.close()
