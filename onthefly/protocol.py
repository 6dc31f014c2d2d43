"""Every message between agent, hub and clients, typed: the one truth.

Three wires use these types. *Agent and hub* speak MessagePack frames, ``u32 length + [seq, kind, payload]``; columns
travel as raw little-endian bytes, so that neither side makes an object per record. *Hub and client* speak JSON (HTTP
and WebSocket) plus binary column messages. The dashboard's TypeScript types are generated from the structs listed in
``CLIENT_TYPES`` (``make types``); CI fails when they are stale.

Times are seconds since the epoch (UTC) as float64, unless a name says otherwise.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Literal, Optional, Union  # noqa: UP035 - msgspec evaluates these on Python 3.9

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

State = Literal[
    "starting", "running", "pausing", "paused", "ended", "stopped", "crashed", "lost", "imported",
]  # fmt: skip
LIVE_STATES = ("starting", "running", "pausing", "paused")

Certificate = Literal["exact", "approximate", "none"]
CERTIFICATES = ("exact", "approximate", "none")
"""By code, as in :class:`Records`."""

Identity = Literal["index", "stream", "key", "none"]
IDENTITIES = ("index", "stream", "key", "none")
"""By code, as in :class:`Records`."""

Phase = Literal["train", "valid", "test", "scan"]
PHASES = ("train", "valid", "test", "scan")
"""By code, as in :class:`Records`."""

# ---------------------------------------------------------------------------------------------- agent to hub


class Hello(msgspec.Struct, kw_only=True):
    """The first frame of an agent (``seq`` 0; not acknowledged, sent anew on each connection)."""

    protocol: int
    session: str
    rank: int
    pid: int
    node: str
    argv: List[str]
    cwd: str
    script: str
    """What the user would call it: ``train.py``, ``-m pkg.train``."""
    name: str
    project: str
    run: str
    world_size: int
    started: float
    versions: Dict[str, str]
    """``onthefly``, ``python``, ``torch``."""


class Records(msgspec.Struct, kw_only=True):
    """A block of backward calls with their per-sample losses.

    Columns of length *n* (one entry per backward call), then columns of length *m* = sum of ``count``. All bytes are
    little-endian arrays of the dtype given.
    """

    run: str
    backward: bytes
    """int64 [n]: number of the backward call, from 0."""
    step: bytes
    """int64 [n]"""
    epoch: bytes
    """int32 [n]"""
    time: bytes
    """float64 [n]"""
    loss: bytes
    """float64 [n]: the number that was back-propagated, GradScaler's factor divided out; NaN when unknown."""
    shared: bytes
    """float64 [n]: the part of it that has no sample axis."""
    certificate: bytes
    """uint8 [n]: place in ``CERTIFICATES``."""
    error: bytes
    """float64 [n]: difference between the total of the samples and the loss; 0 where exact."""
    reason: bytes
    """int16 [n]: place in ``reasons``, -1 for none."""
    phase: bytes
    """uint8 [n]: place in ``PHASES``."""
    loader: bytes
    """int16 [n]: place in ``loaders``, -1 for none."""
    identity: bytes
    """uint8 [n]: place in ``IDENTITIES``."""
    count: bytes
    """int32 [n]: how many samples of this backward call follow."""
    reasons: List[str]
    loaders: List[str]
    sample: bytes
    """int64 [m]: index in the root dataset, or -1 where ``identity`` is none."""
    sample_loss: bytes
    """float32 [m]"""
    valid: bytes
    """int32 [m]: elements averaged into the value."""


class Metrics(msgspec.Struct, kw_only=True):
    """A block of per-step values, all columns of one length."""

    run: str
    step: bytes
    """int64"""
    epoch: bytes
    """int32"""
    time: bytes
    """float64"""
    values: Dict[str, bytes]
    """float64 by metric name: ``lr``, ``step_ms``, ``data_ms``, ``onthefly_us``, ``throughput``, ..."""


class StateChanged(msgspec.Struct, kw_only=True):
    """The script entered a state; ``ended``, ``stopped`` and ``crashed`` are its last words."""

    state: State
    step: int
    epoch: int
    time: float
    by: str = ""
    """Who asked for it."""
    reason: str = ""


class Noticed(msgspec.Struct, kw_only=True):
    """Something that the user should know: what is lost or not captured, and how to mend it."""

    text: str
    remedy: str = ""
    time: float


class Answered(msgspec.Struct, kw_only=True):
    """The agent's answer to a command."""

    answer: Answer


AgentMessage = Union[Hello, Records, Metrics, StateChanged, Noticed, Answered]
AGENT_KINDS = {
    "hello": Hello, "records": Records, "metrics": Metrics, "state": StateChanged, "notice": Noticed,
    "answered": Answered,
}  # fmt: skip
"""The ``kind`` of a frame, and what its payload is."""

# ---------------------------------------------------------------------------------------------- hub to agent


class Welcome(msgspec.Struct, kw_only=True):
    """Follows a :class:`Hello` that was accepted."""

    url: str
    """The dashboard's address, without token."""
    saved: int
    """The highest ``seq`` of this agent that is committed already."""


class Ack(msgspec.Struct, kw_only=True):
    """All frames up to ``seq`` are committed: they survive ``kill -9``."""

    seq: int


class Command(msgspec.Struct, kw_only=True):
    """One command for the script, handed on by the hub in the order in which it accepted them."""

    n: int
    id: str
    name: str
    args: Dict[str, Any]
    by: str


class Denied(msgspec.Struct, kw_only=True):
    """The hub will not serve this agent; the connection closes."""

    reason: str


HubMessage = Union[Welcome, Ack, Command, Denied]
HUB_KINDS = {"welcome": Welcome, "ack": Ack, "command": Command, "denied": Denied}
"""The ``kind`` of a frame, and what its payload is; the hub's frames all have ``seq`` 0."""

# ---------------------------------------------------------------------------------------------- shared by all

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
    result: Dict[str, Any] = {}


# ---------------------------------------------------------------------------------------------- hub and client


class Fault(msgspec.Struct, kw_only=True):
    """Why a request was not served."""

    code: str
    message: str
    remedy: str = ""


class ErrorAnswer(msgspec.Struct, kw_only=True):
    """The body of every HTTP error."""

    error: Fault


class Notice(msgspec.Struct, kw_only=True):
    """A :class:`Noticed` as clients see it."""

    text: str
    remedy: str
    time: float
    rank: int


class Rank(msgspec.Struct, kw_only=True):
    """One process of a session."""

    rank: int
    pid: int
    node: str
    connected: bool
    step: int


class Session(msgspec.Struct, kw_only=True):
    """A session as clients see it."""

    id: str
    name: str
    project: str
    script: str
    argv: List[str]
    cwd: str
    run: str
    state: State
    since: float
    """When that state began."""
    by: str
    """Who asked for that state; empty: the script itself."""
    reason: str
    started: float
    ended: Optional[float]
    step: int
    """Finished optimizer steps, as far as reported."""
    epoch: int
    backwards: int
    """Backward calls saved."""
    samples: int
    """Per-sample records saved."""
    loss: Optional[float]
    """The newest back-propagated loss that is saved and finite."""
    step_ms: Optional[float]
    """Median duration of the newest steps."""
    onthefly_us: Optional[float]
    """Our own time in each of those steps (median), in microseconds."""
    world_size: int
    ranks: List[Rank]
    notices: List[Notice]
    versions: Dict[str, str]


class Sessions(msgspec.Struct, kw_only=True):
    """``GET /api/v1/sessions``: newest start first."""

    sessions: List[Session]


class Run(msgspec.Struct, kw_only=True):
    """A line of training within a session."""

    name: str
    parents: List[str]
    started: float
    backwards: int
    samples: int
    first_step: int
    last_step: int


class Runs(msgspec.Struct, kw_only=True):
    """``GET /api/v1/sessions/{id}/runs``."""

    runs: List[Run]


Number = Union[float, Literal["nan", "inf", "-inf"]]
"""JSON has no NaN; a loss may be one, and must be shown as what it is."""


class Series(msgspec.Struct, kw_only=True):
    """``GET .../metrics?name&run&after&points``: one metric, at most ``points`` buckets (min and max kept).

    A bucket that holds a single value has ``low == value == high``.
    """

    session: str
    run: str
    name: str
    cursor: str
    """Hand it back as ``after`` to get only what is newer."""
    bucketed: bool
    step: List[int]
    epoch: List[int]
    time: List[float]
    value: List[Number]
    """Mean of the bucket's finite values."""
    low: List[Number]
    high: List[Number]


class Lost(msgspec.Struct, kw_only=True):
    """Backward calls whose samples were not captured, by reason."""

    reason: str
    backwards: int


class Histogram(msgspec.Struct, kw_only=True):
    """``GET .../histogram?run&epoch&phase&bins``: the per-sample losses of one epoch (default: the newest)."""

    session: str
    run: str
    phase: Phase
    epoch: int
    count: int
    """Samples counted, non-finite ones included."""
    nonfinite: int
    low: float
    high: float
    edges: List[float]
    """One more than ``counts``."""
    counts: List[int]
    median: Optional[float]
    certificates: Dict[str, int]
    """Samples by certificate."""
    identities: Dict[str, int]
    """Samples by identity."""
    lost: List[Lost]
    """Backward calls of this epoch without samples."""


class CommandRequest(msgspec.Struct, kw_only=True):
    """``POST /api/v1/sessions/{id}/commands``."""

    id: str
    """Chosen by the client (a uuid); sending it again is harmless."""
    name: str
    args: Dict[str, Any] = {}
    by: str = ""


# WebSocket, client to hub: JSON text.


class Subscribe(msgspec.Struct, kw_only=True, tag="subscribe"):
    """Follow one session; answered with a :class:`Snapshot` and its columns. Replaces the one before."""

    session: str
    """An id, a unique prefix, or ``last``, which follows newer sessions as they start."""
    metrics: List[str] = []
    points: int = 2000


class SendCommand(msgspec.Struct, kw_only=True, tag="command"):
    """The same as :class:`CommandRequest`, over the socket; answered with :class:`CommandAnswered`."""

    session: str
    id: str
    name: str
    args: Dict[str, Any] = {}
    by: str = ""


class Ping(msgspec.Struct, kw_only=True, tag="ping"):
    """Answered with :class:`Pong`."""


ClientMessage = Union[Subscribe, SendCommand, Ping]

# WebSocket, hub to client: JSON text, and binary columns.


class Snapshot(msgspec.Struct, kw_only=True, tag="snapshot"):
    """The state of the world; sent first, after each subscription, and after a client fell behind."""

    session: Optional[Session]
    sessions: List[Session]
    cursor: str


class SessionChanged(msgspec.Struct, kw_only=True, tag="session"):
    """A session is new or changed; sent for every session, at most some ten times a second each."""

    session: Session


class CommandAnswered(msgspec.Struct, kw_only=True, tag="answer"):
    """What became of a command; sent first as accepted, then once with its end."""

    session: str
    answer: Answer


class Failed(msgspec.Struct, kw_only=True, tag="error"):
    """A message of the client that was not understood."""

    error: Fault


class Pong(msgspec.Struct, kw_only=True, tag="pong"):
    """Answer to :class:`Ping`."""


HubEvent = Union[Snapshot, SessionChanged, CommandAnswered, Failed, Pong]


class Column(msgspec.Struct, kw_only=True):
    """One array of a binary message."""

    name: str
    dtype: Literal["f8", "f4", "i8", "i4", "u1"]
    count: int


class ColumnsHeader(msgspec.Struct, kw_only=True):
    """The JSON header of a binary message: u32 header length, header, padding to 8, then each array padded to 8.

    ``step``, ``epoch``, ``time``, ``value`` always; ``low`` and ``high`` in a history of buckets.
    """

    session: str
    run: str
    metric: str
    reset: bool
    """True: replaces all that the client holds of this metric; false: comes after it."""
    cursor: str
    columns: List[Column]


CLIENT_TYPES = (
    Answer, CommandRequest, ErrorAnswer, Histogram, Runs, Series, Sessions, ClientMessage, HubEvent, ColumnsHeader,
)  # fmt: skip
"""What the dashboard's types are generated from."""


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
