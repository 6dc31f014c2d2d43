"""The words and numbers that all messages share: states, certificates, limits, and the answer to a command."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

PROTOCOL = 1
"""Raised when an older peer could misread a newer one; hubs of two protocols live side by side."""

MAX_FRAME = 8 * 1024 * 1024
"""Bytes of one agent frame, length prefix not counted."""

MAX_CLIENT_MESSAGE = 64 * 1024
"""Bytes of one message that a client may send over the WebSocket."""

SESSION_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
SESSION_PATTERN = re.compile(rf"[{SESSION_ALPHABET}]{{8}}")
RUN_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
COMPONENT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .:+*/()\[\]#@<>=-]{0,63}")
"""What a component of a loss may be called: its column is ``loss.<component>``."""

MAX_COMPONENTS = 32
"""That get a column in a session's table of samples; further ones are not stored, and a notice says so."""

State = Literal[
    "starting", "running", "pausing", "paused", "ended", "stopped", "crashed", "lost", "imported",
]  # fmt: skip
LIVE_STATES = ("starting", "running", "pausing", "paused")
FINAL_STATES = ("ended", "stopped", "crashed")

Certificate = Literal["exact", "approximate", "none"]
CERTIFICATES = ("exact", "approximate", "none")
"""By code, as in :class:`Records`."""

Identity = Literal["index", "stream", "key", "none"]
IDENTITIES = ("index", "stream", "key", "none")
"""By code, as in :class:`Records`."""

Phase = Literal["train", "valid", "test", "scan"]
PHASES = ("train", "valid", "test", "scan")
"""By code, as in :class:`Records`."""

Stream = Literal["stdout", "stderr"]

Whole = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]

Status = Literal["accepted", "applied", "refused", "failed", "busy"]
Durability = Literal["accepted", "saved", "durable"]


class Answer(msgspec.Struct, kw_only=True):
    """What became of a command. The same ``id`` always gets the same answer."""

    id: str
    n: int
    status: Status
    step: int = -1
    durability: Durability = "accepted"
    reason: str = ""
    remedy: str = ""
    result: dict[str, Any] = {}


class HubFile(msgspec.Struct, kw_only=True):
    """``hub.json`` in the runtime folder: how a hub is found (0600, written whole by rename)."""

    pid: int
    node: str
    host: str
    port: int
    agent_port: int
    token: str
    version: str
    protocol: int
    python: str
    started: float
