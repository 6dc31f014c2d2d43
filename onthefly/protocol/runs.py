"""Runs of a session: trained on from a moment in a way of their own, compared, and made into one."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional, Union  # msgspec evaluates these, on Python 3.9 too

import msgspec

from onthefly.protocol.given import CommandArguments, Count, Index, Name, Place, Positive
from onthefly.protocol.words import RUN_PATTERN

MAX_CHOSEN = 1_000_000
"""Samples of a fork: those that a selection means are put in by the hub, past the limit of a client's message."""

RESAMPLES, MOST_DRAWN, Z95 = 2000, 50_000, 1.959963984540054
"""Of intervals, in the script's process and in the hub: draws of a bootstrap; samples up to which it is one; and the
normal interval's factor, which takes its place beyond."""

MAX_RUNS = 16
"""Of one comparison, or one merge."""

RunKind = Literal["", "rewind", "reset", "resume", "fork", "merge"]
RunName = Annotated[str, msgspec.Meta(pattern=f"^(?:{RUN_PATTERN.pattern})$(?!\\n)")]
Loader = Annotated[str, msgspec.Meta(max_length=200)]
Selection = Annotated[str, msgspec.Meta(max_length=60_000)]


class Fork(CommandArguments):
    """At a pause: train a run of its own, by the script's own step; the script's loop stands still meanwhile."""

    name: Name = ""
    """Empty: ``fork1``, ``fork2``, ..."""
    checkpoint: Name = ""
    """Where it begins; empty: here."""
    select: Selection = ""
    """On which samples, as ``onthefly select`` takes them: ``worst=100``, ``loss=2: !tag=label:wrong``."""
    samples: Annotated[list[Index], msgspec.Meta(max_length=MAX_CHOSEN)] = []
    """On these, by their index; with ``select`` the hub puts them in. Neither: on all."""
    loader: Loader = ""
    """From which loader's data set; empty: the one that is trained on."""
    steps: Union[Count, None] = None
    """How long: so many steps,"""
    epochs: Union[Positive, None] = None
    """or so often through the samples (1 where nothing is said),"""
    minutes: Union[Positive, None] = None
    """or so many minutes; the first that is over ends it."""
    settings: dict[str, Union[float, list[float]]] = {}
    """Numbers of the optimizer that are others in it: ``{"lr": 0.01}``."""
    optimizer: Place = -1
    """Which optimizer steps, where several train what the loss is made of."""
    seed: Index = 0
    """Of the order of its samples."""
    parallel: bool = False
    """In a process of its own: not in this version, and refused."""


class Switch(CommandArguments):
    """At a pause: go on with another run, from its own state, where it was left."""

    run: RunName


class Compare(CommandArguments):
    """At a pause: test several runs on the same samples; ``GET .../comparison`` puts them side by side."""

    runs: Annotated[list[RunName], msgspec.Meta(min_length=2, max_length=MAX_RUNS)]
    """The first is the one that the others are compared with."""
    loader: Loader = ""
    """As in ``test``: empty: one that is not trained on."""


class Merge(CommandArguments):
    """At a pause: make one model of several runs; it is taken where it is not worse than its parents."""

    strategy: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    """``uniform``, ``weighted``, ``greedy``, ``fisher``, ``regmean``, ``ties``, ``dare``, ``slerp``, ``adapters``,
    ``distill``."""
    runs: Annotated[list[RunName], msgspec.Meta(min_length=2, max_length=MAX_RUNS)]
    name: Name = ""
    """Empty: ``merge1``, ``merge2``, ..."""
    weights: Annotated[list[float], msgspec.Meta(max_length=MAX_RUNS)] = []
    """One for each run; empty: all alike."""
    loader: Loader = ""
    """On which it is tested before it is taken: as in ``test``, one that is not trained on."""
    parameters: dict[str, float] = {}
    """Of the strategy: ``density``, ``scale``, ``drop``, ``t``, ``alpha``, ``steps``, ``lr``, ``samples``."""
    optimizer: Literal["reset", "keep", "mean"] = "reset"
    """Its optimizer's state: none, that of the run which is current, or the mean of the parents'."""
    seed: Index = 0
    """Of what is drawn."""
    force: bool = False
    """Take it even where it is worse."""


class RunState(msgspec.Struct, kw_only=True):
    """A run that this process holds."""

    run: str
    current: bool
    step: int
    checkpoint: str = ""
    """Where it was left; empty: it is the current one."""
    back: bool = False
    """It can be switched to now."""
    reason: str = ""
    """Why not."""


class Branch(msgspec.Struct, kw_only=True):
    """A run that goes on from a step of another, or was made of several."""

    run: str
    parent: str
    step: int
    """Finished steps of the parent that are its own too."""
    kind: RunKind = ""
    parents: list[str] = []
    """Of a merge: all of them."""
    checkpoint: str = ""
    """Which it began from; empty: from the moment itself."""
    selection: str = ""
    """Of a fork: which samples, in words."""
    samples: int = 0
    """How many; 0: all."""
    loader: str = ""
    changes: dict[str, Any] = {}
    """Numbers of the optimizer that are others in it."""
    budget: str = ""
    """``100 steps``."""
    strategy: str = ""
    """Of a merge."""
    verdict: str = ""
    """Of a merge: what the test before it was taken said. Of a fork: how it ended."""
    trained: int = 0
    """Steps that it did while the script stood still."""
    by: str = ""
    time: float = 0.0


class ComparedRun(msgspec.Struct, kw_only=True):
    """One of the runs side by side."""

    run: str
    evaluation: str
    """Its newest test on that loader: ``test_3``."""
    step: int


class Compared(msgspec.Struct, kw_only=True):
    """One run on one part of the samples."""

    loss: Optional[float]
    """Mean over the samples; None where there is none that is finite."""
    accuracy: Optional[float] = None
    difference: Optional[float] = None
    """Mean of the paired differences of the losses, this run's minus the first one's: below 0 it is better."""
    low: Optional[float] = None
    high: Optional[float] = None
    """95 % interval of that mean: paired bootstrap over the samples."""
    wins: int = 0
    """Samples whose loss is lower than the first one's."""
    losses: int = 0
    """Higher."""


class ComparedPart(msgspec.Struct, kw_only=True):
    """One part of the samples."""

    name: str
    """``all``, ``slice``, ``rest``, ``class 3``."""
    count: int
    """Samples that all the runs have a loss of."""
    runs: list[Compared]
    """In the order of :attr:`Comparison.runs`."""


class Comparison(msgspec.Struct, kw_only=True):
    """``GET /api/v1/sessions/{id}/comparison?runs&loader&select``: the newest tests of these runs side by side."""

    session: str
    loader: str
    runs: list[ComparedRun]
    parts: list[ComparedPart]
    select: str = ""
    """What the slice is; empty: there is none."""
    verdict: str
    """In words."""
