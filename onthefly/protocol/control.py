"""What is under control in a session, as agents tell it and clients show it."""

from __future__ import annotations

from typing import Any, Literal, Optional, Union  # msgspec evaluates these, on Python 3.9 too

import msgspec

from onthefly.protocol.given import AlarmAction
from onthefly.protocol.insight import ProgressInfo
from onthefly.protocol.runs import RunState


class PlannedPause(msgspec.Struct, kw_only=True):
    """A pause at a later moment."""

    text: str
    """``step 500``, ``epoch 3``, ``loss < 0.1``."""
    by: str


class ParameterGroup(msgspec.Struct, kw_only=True):
    """One parameter group of an optimizer, as it was when the script was last held or a command was done."""

    optimizer: int
    kind: str
    """``AdamW``."""
    group: int
    parameters: int
    """Numbers that it trains."""
    values: dict[str, Union[float, list[float]]]
    """What ``set`` can change; numbers that are not finite, and those on an accelerator, are left out."""


class CheckpointInfo(msgspec.Struct, kw_only=True):
    """A checkpoint that is kept."""

    name: str
    run: str
    step: int
    epoch: int
    time: float
    why: Literal["asked", "every", "pause", "signal", "trial", "end", "run"]
    memory: int
    """Bytes in memory."""
    disk: int
    """Bytes on disk; 0 while it is being written, or where that failed."""
    state: Literal["writing", "durable", "failed", "memory"]
    """Of its file; ``memory``: it has none."""
    fault: str = ""
    """Why it could not be written."""
    back: bool = False
    """The script can go back to it now, in place."""
    reason: str = ""
    """Why not."""
    resume: str = "it was not said whether one can"
    """Why no other process can go on from it; empty: one can, once it is durable."""


class SubsetInfo(msgspec.Struct, kw_only=True):
    """Which samples are drawn."""

    mode: Literal["exclude", "include", "weights"]
    count: int
    loader: str
    since: int
    """Batches of before may have been under way in the workers: the backward call of the first that is drawn so."""


class WatchInfo(msgspec.Struct, kw_only=True):
    """A watchdog, and what it does."""

    alarm: str
    text: str
    """What it watches."""
    cost: str
    """``free``, ``per step``, ``on demand``."""
    action: AlarmAction
    parameters: dict[str, float] = {}
    found: int = 0
    """How often it found something."""


class Finding(msgspec.Struct, kw_only=True):
    """Something that a watchdog found, newest last."""

    alarm: str
    step: int
    time: float
    text: str
    flight: str = ""
    """The name of its flight record, if there is one."""


class TrialInfo(msgspec.Struct, kw_only=True):
    """A trial: the same steps without and with a change."""

    steps: int
    change: str
    """In words: ``lr 0.1 -> 0.01``."""
    phase: Literal["without", "with", "choose", "over"]
    start: int
    """The step from which both began."""
    without: list[Optional[float]] = []
    """Loss of each step, the mean of its backward calls; None where it is not finite (JSON has no such number)."""
    changed: list[Optional[float]] = []
    """The same, with the change."""
    effect: Optional[float] = None
    """Mean of the paired differences (with minus without)."""
    low: Optional[float] = None
    high: Optional[float] = None
    """95 % interval of that mean, from the spread of the paired differences."""
    verdict: str = ""


class ReceiptInfo(msgspec.Struct, kw_only=True):
    """The proof of a resume: its first steps, compared bit by bit with those that were recorded before."""

    session: str
    run: str
    """Of the process that went on."""
    from_run: str
    from_step: int
    compared: int
    """Steps that were taken again so far."""
    equal: int
    """Those whose losses are the same, bit for bit."""
    expected: int = 0
    """Steps that were recorded before."""
    first_difference: str = ""
    """The first thing that differs, in words; empty: nothing does."""
    text: str
    """All of it, in words: ``20 of 20 steps bit-identical``."""
    time: float


class Controls(msgspec.Struct, kw_only=True):
    """All of it; sent whole whenever something changed."""

    pauses: list[PlannedPause] = []
    groups: list[ParameterGroup] = []
    clip: str = ""
    """``norm 1``, ``value 0.5``; empty: gradients are as the script has them."""
    frozen: list[str] = []
    """Patterns."""
    frozen_parameters: int = 0
    subset: Optional[SubsetInfo] = None
    checkpoints: list[CheckpointInfo] = []
    keep: dict[str, Any] = {}
    """As the command ``keep`` left it."""
    watches: list[WatchInfo] = []
    findings: list[Finding] = []
    trial: Optional[TrialInfo] = None
    progress: Optional[ProgressInfo] = None
    """Of the test, scan or health check that runs, or waits for steps."""
    evaluations: int = 0
    """Tests and scans that are over, and changes to them: clients ask for them again when it grows."""
    runs: list[RunState] = []
    """That this process holds: the current one, and those that can be switched to, compared and merged."""


class JournalEntry(msgspec.Struct, kw_only=True):
    """One change, after it was made. ``point`` counts the pause points passed: it tells apart two optimizers' steps."""

    time: float
    run: str
    step: int
    epoch: int
    backward: int
    point: int
    name: str
    args: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]
    by: str
    rank: int = 0
    """Whose change it is, as the hub numbers processes: it fills this in. Ranks of a job make the same ones."""


class Journal(msgspec.Struct, kw_only=True):
    """``GET /api/v1/sessions/{id}/journal``: in the order in which things were done."""

    session: str
    entries: list[JournalEntry]
