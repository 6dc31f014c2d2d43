"""Which run this process trains and where it stands in it: what is counted, and what the hub is told of that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from onthefly.core.expected import RESET, RESUME, REWIND
from onthefly.core.gate import Place
from onthefly.core.introduction import base, run_name
from onthefly.protocol import Branch, Described

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.core.introduction import Runs
    from onthefly.protocol import AgentMessage
    from onthefly.protocol.runs import RunKind
    from onthefly.settings import Settings


KINDS: dict[str, RunKind] = {REWIND: "rewind", RESUME: "resume", RESET: "reset"}
"""Of runs that begin where a checkpoint was gone back to."""


class Lineage:
    """The run of now, and how others begin."""

    def __init__(self, settings: Settings, runs: Runs, recorder: Any, send: Callable[[AgentMessage], None]) -> None:
        """``recorder`` counts steps, epochs and backward calls, and files what is recorded under a run."""
        self._settings, self._runs, self._recorder, self._send = settings, runs, recorder, send
        self._name, self._project = base(settings), ""
        """What the session is called unless the settings say so."""
        self.instrument: Any = None
        """Counts the pause points; None: they are not watched yet."""

    @property
    def place(self) -> Place:
        """Where training stands; from any thread. Where no optimizer steps, backward calls are what is counted."""
        recorder, instrument = self._recorder, self.instrument
        steps = recorder.step or (0 if instrument is None or instrument.points else recorder.backwards)
        return Place(steps, recorder.epoch, recorder.backwards, instrument.points if instrument is not None else 0)

    def describe(self, name: str = "", project: str = "", parent: str = "", step: int = 0) -> None:
        """Give the session and its run a name, unless the command line has; the run that it goes on from, how far."""
        if name and self._runs.expected is None:  # else the run of that name is there already
            self._recorder.rename(run_name(name))
        self._name, self._project = name or self._name, project or self._project
        self._told(*self._runs.origin(parent, step))

    def went_back(self, place: Place, run: str, stem: str) -> None:
        """The script is there again. What was recorded since stays, under the name that the run had."""
        self._recorder.rename(self._runs.next(stem) if stem else run)
        self.counts(place)
        parent, step = self._runs.origin(run if stem else "", place.step)
        branch = None
        if stem in KINDS:
            branch = Branch(run=self._recorder.run, parent=parent, step=step, kind=KINDS[stem], parents=[parent],
                            time=time.time())  # fmt: skip
        self._told(parent, step, branch)

    def began(self, run: str) -> None:
        """Another run begins, where the script stands; :meth:`tell` says of what it is made."""
        self._runs.take(run)
        self._recorder.rename(run)
        self._recorder.held()

    def counts(self, place: Place) -> None:
        """It is counted from there on."""
        recorder = self._recorder
        recorder.work_off(wait=True)
        recorder.step, recorder.epoch, recorder.backwards = place.step, place.epoch, place.backward
        recorder.held()
        if self.instrument is not None:
            self.instrument.points = place.point

    def tell(self, branch: Branch) -> None:
        """What there is to say of the run of now."""
        self._told(branch.parent, branch.step, branch)

    def free(self, stem: str) -> str:
        """A name that no run has: ``fork1``, ``merge1``."""
        return self._runs.free(stem)

    def is_taken(self, run: str) -> bool:
        """Whether a run of the session has that name."""
        return self._runs.has(run)

    def _told(self, parent: str, step: int, branch: Branch | None = None) -> None:
        given = self._settings
        self._send(Described(name=given.name or self._name, project=given.project or self._project,
                             run=self._recorder.run, parent=parent, step=step, branch=branch))  # fmt: skip
