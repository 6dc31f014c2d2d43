"""Frames between agent and hub."""

from __future__ import annotations

from typing import Any, Optional, Union  # msgspec evaluates these, on Python 3.9 too

import msgspec

from onthefly.protocol.control import Controls, JournalEntry, ReceiptInfo
from onthefly.protocol.health import Checked
from onthefly.protocol.insight import Evaluated, Examined
from onthefly.protocol.runs import Branch
from onthefly.protocol.words import Answer, State, Stream

# Agent to hub.


class Hello(msgspec.Struct, kw_only=True):
    """The first frame of an agent (``seq`` 0; not acknowledged, sent anew on each connection)."""

    protocol: int
    session: str
    rank: int
    """As torchrun numbers it; -1 for another process that trains (a child), which the hub numbers."""
    pid: int
    process: str
    """What the process is called: ``rank 1``, ``SpawnProcess-2``; empty for the script itself."""
    node: str
    argv: list[str]
    cwd: str
    script: str
    """What the user would call it: ``train.py``, ``-m pkg.train``."""
    name: str
    project: str
    run: str
    world_size: int
    started: float
    versions: dict[str, str]
    """``onthefly``, ``python``, ``torch``."""
    resumes: bool = False
    """It takes up a session that was there before."""


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
    reasons: list[str]
    loaders: list[str]
    sample: bytes
    """int64 [m]: index in the root dataset, or -1 where ``identity`` is none."""
    sample_loss: bytes
    """float32 [m]"""
    valid: bytes
    """int32 [m]: elements averaged into the value."""
    components: dict[str, bytes] = {}
    """float32 [m] by component: where the loss has several terms, each one's part of the sample's value (its factors
    included, so that they add up to it); empty where it has one."""
    confidence: bytes = b""
    """float32 [m] or empty: the probability that the model gave the target's class; NaN where that says nothing."""
    margin: bytes = b""
    """float32 [m] or empty: the logit of the target's class minus the highest of the others; NaN as above."""
    key: bytes = b""
    """int32 [m] or empty: place in ``keys``, -1 for none."""
    keys: list[str] = []
    """What samples of a stream are called, by a field that they carry."""


class Metrics(msgspec.Struct, kw_only=True):
    """A block of per-step values, all columns of one length."""

    run: str
    step: bytes
    """int64"""
    epoch: bytes
    """int32"""
    time: bytes
    """float64"""
    values: dict[str, bytes]
    """float64 by metric name: ``lr``, ``step_ms``, ``data_ms``, ``onthefly_us``, ``throughput``, ..."""
    complete: bool = False
    """NaN is a value here (one that the script logged); else it means that this step has none."""


class StateChanged(msgspec.Struct, kw_only=True):
    """The script entered a state; ``ended``, ``stopped`` and ``crashed`` are its last words."""

    state: State
    step: int
    epoch: int
    time: float
    by: str = ""
    """Who asked for it."""
    reason: str = ""


class Described(msgspec.Struct, kw_only=True):
    """What the session and its run are called from now on, where the script says so after its :class:`Hello`."""

    name: str
    project: str
    run: str
    parent: str = ""
    """The run that this one goes on from, as far as ``step``; empty: it begins anew."""
    step: int = 0
    branch: Optional[Branch] = None
    """What more there is to say of it; told again when there is more."""


class Noticed(msgspec.Struct, kw_only=True):
    """Something that the user should know: what is lost or not captured, and how to mend it."""

    text: str
    remedy: str = ""
    time: float


class Logged(msgspec.Struct, kw_only=True):
    """What the script wrote, in whole lines where it wrote lines; a progress bar comes as it was drawn."""

    stream: Stream
    time: float
    """When the last of it was written."""
    text: str


class Answered(msgspec.Struct, kw_only=True):
    """The agent's answer to a command."""

    answer: Answer


class Controlled(msgspec.Struct, kw_only=True):
    """What is under control now; replaces what was said before."""

    controls: Controls


class Journaled(msgspec.Struct, kw_only=True):
    """A change was made."""

    entry: JournalEntry


class Proposed(msgspec.Struct, kw_only=True):
    """A rank's answer to :class:`Propose`: it will hold there until the decision, or it is past it already."""

    n: int
    accepted: bool
    step: int
    """Steps that it has finished."""


class Asked(msgspec.Struct, kw_only=True):
    """A rank asks for a command to all ranks: a moment has come that only it may have seen (a metric of its own)."""

    name: str
    args: dict[str, Any] = {}
    by: str
    reason: str


class Receipted(msgspec.Struct, kw_only=True):
    """What the first steps after a resume have proven; replaces what was said of that run before."""

    receipt: ReceiptInfo


AgentMessage = Union[
    Hello, Records, Metrics, StateChanged, Described, Noticed, Logged, Answered, Controlled, Journaled, Proposed, Asked,
    Receipted, Checked, Evaluated, Examined,
]  # fmt: skip
AGENT_KINDS = {
    "hello": Hello, "records": Records, "metrics": Metrics, "state": StateChanged,
    "described": Described, "notice": Noticed, "logged": Logged, "answered": Answered,
    "controls": Controlled, "journaled": Journaled, "proposed": Proposed, "asked": Asked,
    "receipted": Receipted, "checked": Checked, "evaluated": Evaluated, "examined": Examined,
}  # fmt: skip
"""The ``kind`` of a frame, and what its payload is."""

# Hub to agent.


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
    args: dict[str, Any]
    by: str
    at: int = -1
    """To be done when so many steps are finished, by all ranks alike; -1: at the next pause point."""


class Propose(msgspec.Struct, kw_only=True):
    """To each of several ranks: hold when so many steps are finished, until the :class:`Decision` of that number."""

    n: int
    step: int


class Decision(msgspec.Struct, kw_only=True):
    """All ranks hold there, or will: what was sent with ``at`` is done; or they do not: go on, it is proposed again."""

    n: int
    go: bool


class Denied(msgspec.Struct, kw_only=True):
    """The hub will not serve this agent; the connection closes."""

    reason: str


HubMessage = Union[Welcome, Ack, Command, Propose, Decision, Denied]
HUB_KINDS = {
    "welcome": Welcome, "ack": Ack, "command": Command, "propose": Propose, "decision": Decision, "denied": Denied,
}  # fmt: skip
"""The ``kind`` of a frame, and what its payload is; the hub's frames all have ``seq`` 0."""
