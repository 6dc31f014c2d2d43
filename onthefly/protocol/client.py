"""What the hub and its clients say to each other, over HTTP and WebSocket."""

from __future__ import annotations

from typing import Any, Literal, Optional, Union  # msgspec evaluates these, on Python 3.9 too

import msgspec

from onthefly.protocol.control import Controls, ReceiptInfo
from onthefly.protocol.runs import Branch
from onthefly.protocol.words import Answer, State, Stream


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
    name: str = ""
    """``rank 1``, ``SpawnProcess-2``; empty for the script itself."""
    state: State = "ended"
    trains: bool = True
    """It has recorded steps or backward calls; a launcher (torchrun) has none."""
    start: int = 0
    """Which start of the session it belongs to: 0, then one more for each time that it was taken up again."""


class Session(msgspec.Struct, kw_only=True):
    """A session as clients see it."""

    id: str
    name: str
    project: str
    script: str
    argv: list[str]
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
    ranks: list[Rank]
    notices: list[Notice]
    versions: dict[str, str]
    metrics: list[str] = []
    """Names of the metrics that have values, in the order in which they came; ``loss`` is always there."""
    logs: int = 0
    """Entries of the log saved."""
    journal: int = 0
    """Entries of the journal saved."""
    health: int = 0
    """Results of health checks saved."""
    unsaved_since: Optional[float] = None
    """Since when arriving records could not be saved (they wait in memory); None: all is saved."""
    unsaved_reason: str = ""
    branches: list[Branch] = []
    """Runs that go on from another, in the order in which they began."""
    pinned: bool = False
    """It stays whatever the budget."""
    controls: Controls = msgspec.field(default_factory=Controls)
    """Pauses that are planned, parameter groups, checkpoints, watchdogs, and what was changed."""
    resumed: Optional[float] = None
    """When a process took it up again; None: it has only been run once."""
    receipts: list[ReceiptInfo] = []
    """Of its resumes, in the order in which they began."""


class Sessions(msgspec.Struct, kw_only=True):
    """``GET /api/v1/sessions``: newest start first."""

    sessions: list[Session]


class Run(msgspec.Struct, kw_only=True):
    """A line of training within a session."""

    name: str
    parents: list[str]
    started: float
    backwards: int
    samples: int
    first_step: int
    last_step: int


class Runs(msgspec.Struct, kw_only=True):
    """``GET /api/v1/sessions/{id}/runs``."""

    runs: list[Run]


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
    step: list[int]
    epoch: list[int]
    time: list[float]
    value: list[Number]
    """Mean of the bucket's finite values."""
    low: list[Number]
    high: list[Number]


class Losses(msgspec.Struct, kw_only=True):
    """``GET .../losses?run&first&limit``: what backward calls of the script itself propagated, bit for bit, in order.

    Up to the first change that somebody made (a rate that was set, a clipped gradient, a subset): a process that goes
    on from before it does not repeat that.
    """

    session: str
    run: str
    backward: list[int]
    step: list[int]
    loss: list[str]
    """As Python's ``float.hex`` writes it; ``nan``, ``inf``, ``-inf``."""


class LogEntry(msgspec.Struct, kw_only=True):
    """Something that the script wrote: one or more lines, or a state of a progress bar."""

    row: int
    time: float
    rank: int
    stream: Stream
    text: str
    """As it was written, ends of lines and carriage returns included."""


class Logs(msgspec.Struct, kw_only=True):
    """``GET .../logs?after&before&limit&search``: entries in the order of writing.

    Without ``after`` and ``before`` the newest; ``after`` (a cursor) what came since; ``before`` (a row) what stands
    before it. With ``search``, only entries that contain the text (letter case ignored).
    """

    session: str
    entries: list[LogEntry]
    cursor: str
    """Hand it back as ``after``."""
    earlier: bool
    """There are entries before the first of these."""


class HubStatus(msgspec.Struct, kw_only=True):
    """``GET /api/v1/hub``: the hub itself, and what watching costs this machine outside of the script."""

    version: str
    protocol: int
    python: str
    duckdb: str
    pid: int
    node: str
    port: int
    started: float
    cpu: float
    """Percent of one core, over the last seconds."""
    rss: float
    """Resident memory, MB."""
    clients: int
    agents: int
    sessions: int
    data_dir: str
    free: float
    """Free space where the records are kept, MB."""


class PassRequest(msgspec.Struct, kw_only=True):
    """``POST /api/v1/passes``: for a frame in which the page shows what this process trains."""

    pid: int


class Pass(msgspec.Struct, kw_only=True):
    """Opens the page once, in a frame at ``/?pass=<text>``; ``POST /api/v1/token`` takes it for the token."""

    text: str
    seconds: float = 60.0
    """How long it is good."""


class Admitted(msgspec.Struct, kw_only=True):
    """``POST /api/v1/token``, with a :class:`Pass`: what the page needs in the place of a login."""

    token: str
    pid: int
    """Of the notebook's kernel."""


class CommandRequest(msgspec.Struct, kw_only=True):
    """``POST /api/v1/sessions/{id}/commands``."""

    id: str
    """Chosen by the client (a uuid); sending it again is harmless."""
    name: str
    args: dict[str, Any] = {}
    by: str = ""


class OriginRequest(msgspec.Struct, kw_only=True):
    """``POST /api/v1/origins``: answer to that origin as well, until the hub ends; a proxy stands in front of it."""

    origin: str
    """As browsers write it: ``https://editor.example``."""


# WebSocket, client to hub: JSON text.


class Subscribe(msgspec.Struct, kw_only=True, tag="subscribe"):
    """Follow one session; answered with a :class:`Snapshot` and its columns. Replaces the one before."""

    session: str
    """An id, a unique prefix, or ``last``, which follows newer sessions as they start."""
    metrics: list[str] = []
    points: int = 2000


class SendCommand(msgspec.Struct, kw_only=True, tag="command"):
    """The same as :class:`CommandRequest`, over the socket; answered with :class:`CommandAnswered`."""

    session: str
    id: str
    name: str
    args: dict[str, Any] = {}
    by: str = ""


class Ping(msgspec.Struct, kw_only=True, tag="ping"):
    """Answered with :class:`Pong`."""


ClientMessage = Union[Subscribe, SendCommand, Ping]

# WebSocket, hub to client: JSON text, and binary columns.


class Snapshot(msgspec.Struct, kw_only=True, tag="snapshot"):
    """The state of the world; sent first, after each subscription, and after a client fell behind."""

    session: Optional[Session]
    sessions: list[Session]
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
    id: str = ""
    """Of the command that it was, where that could be read."""


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
    columns: list[Column]
