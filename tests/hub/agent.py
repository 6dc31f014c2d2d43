"""A tiny agent that speaks the real wire, and says what a test tells it to."""

from __future__ import annotations

import os
import platform
import time
from array import array
from typing import TYPE_CHECKING, Any

from onthefly.link.connection import Connection
from onthefly.link.frames import encode
from onthefly.protocol import PROTOCOL, Ack, Hello, Records, StateChanged, Welcome

if TYPE_CHECKING:
    from onthefly.protocol import HubFile


def hello(session: str = "abcdefgh", **changes: Any) -> Hello:
    """A first frame."""
    given: dict[str, Any] = {
        "protocol": PROTOCOL, "session": session, "rank": 0, "pid": os.getpid(), "process": "", "node": platform.node(),
        "argv": [],
        "cwd": "/", "script": "s.py", "name": "s.py", "project": "", "run": "baseline", "world_size": 1,
        "started": time.time(), "versions": {},
    }  # fmt: skip
    return Hello(**{**given, **changes})


def records(first: int, calls: int, rows: int, **changes: Any) -> Records:
    """Backward calls ``first`` to ``first + calls - 1`` of ``rows`` samples each; sample i has loss i."""
    given: dict[str, Any] = {
        "run": "baseline",
        "backward": array("q", range(first, first + calls)).tobytes(),
        "step": array("q", range(first, first + calls)).tobytes(),
        "epoch": array("i", [0] * calls).tobytes(),
        "time": array("d", [time.time()] * calls).tobytes(),
        "loss": array("d", [float(number) for number in range(first, first + calls)]).tobytes(),
        "shared": bytes(8 * calls),
        "certificate": bytes(calls),
        "error": bytes(8 * calls),
        "reason": array("h", [-1] * calls).tobytes(),
        "phase": bytes(calls),
        "loader": array("h", [0] * calls).tobytes(),
        "identity": bytes(calls),
        "count": array("i", [rows] * calls).tobytes(),
        "reasons": [],
        "loaders": ["loader0"],
        "sample": array("q", list(range(rows)) * calls).tobytes(),
        "sample_loss": array("f", [float(row) for row in range(rows)] * calls).tobytes(),
        "valid": array("i", [1] * rows * calls).tobytes(),
    }
    return Records(**{**given, **changes})


class Agent:
    """One connection; use as a context."""

    def __init__(self, hub: HubFile, first: Hello | None = None) -> None:
        self.connection = Connection(hub)
        self.connection.prove()
        self.hello = hello() if first is None else first
        self.connection.send(encode(0, self.hello))
        self.seq = 0
        self.inbox: list[Any] = []

    def __enter__(self) -> Agent:
        assert isinstance(self.wait(Welcome), Welcome)
        return self

    def patient(self) -> None:
        """Wait for the hub's word as long as it takes: a thread that listens is ended by hanging up."""
        self.connection.socket.settimeout(None)

    def __exit__(self, *reason: object) -> None:
        self.connection.close()

    def wait(self, kind: type[Any]) -> Any:
        """The next message of that kind."""
        while True:
            for place, message in enumerate(self.inbox):
                if isinstance(message, kind):
                    return self.inbox.pop(place)
            self.inbox += list(self.connection.receive())

    def say(self, message: Any, seq: int | None = None) -> int:
        """Send a message; its number."""
        self.seq = self.seq + 1 if seq is None else seq
        self.connection.send(encode(self.seq, message))
        return self.seq

    def saved(self, seq: int) -> None:
        """Wait until that number is committed."""
        while self.wait(Ack).seq < seq:
            pass

    def state(self, state: Any) -> None:
        """Announce a state."""
        self.say(StateChanged(state=state, step=0, epoch=0, time=time.time()))
