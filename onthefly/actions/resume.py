"""Going on in a new process from where another one was: arrive at the same place, then put everything back.

The script runs from its top, for real. Each time that it stands where the checkpoint stood, at the same calls and the
same instructions, the checkpoint's image is tried: is everything there, or can it be built? The first time that it
fits, it is put in, and the script goes on from there. Where it does not fit, because the script changes what it trains
on the way, the script goes on as it is and will stand there again; at the latest at the checkpoint's own step it fits,
if it fits at all: then it has been run again from its start, which takes as long as it took and is as exact.

What it prints and writes on the way there is held back (:mod:`onthefly.state.outputs`), and nothing is recorded.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from onthefly.bundle.folder import manifest
from onthefly.core.gate import Place as Moment
from onthefly.core.gate import Plan
from onthefly.errors import OnTheFlyError, Refused, outcome, report
from onthefly.state import winding, written
from onthefly.state.building import Unbuildable
from onthefly.state.files import read_form
from onthefly.state.frames import script_frames
from onthefly.state.image import FORMAT
from onthefly.state.matching import Match
from onthefly.state.outputs import Outputs
from onthefly.state.random import RandomStates
from onthefly.state.rebuilding import Loading, Rebuild
from onthefly.state.receipt import Call, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from onthefly.core.gate import Gate
    from onthefly.errors import Guard
    from onthefly.state.deliveries import Deliveries
    from onthefly.state.form import Form

TRIES = 3
"""Arrivals at which it is tried each time; then at each that is twice as late as the last one."""

IMPOSSIBLE = 5
"""The exit code of a script that cannot be resumed."""


class Resume:
    """One resume, from the start of the process until the script is where it was."""

    def __init__(
        self, folder: Path, gate: Gate, deliveries: Deliveries, arrived: Callable[[Form], None],
        end: Callable[[str], None], guard: Guard,
    ) -> None:  # fmt: skip
        """``folder``: of the checkpoint.

        ``arrived(form)`` is called when everything is back, before the script goes on; ``end(reason)`` when it
        cannot be resumed, and does not return.
        """
        self._gate = gate
        self._deliveries = deliveries
        self._arrived, self._end = arrived, end
        self._form = read_form(folder)
        session = folder.parent.parent
        self._cut = session / "resumes" / f"cut-{os.getpid()}"
        self._outputs = Outputs(session / "resumes" / f"backup-{os.getpid()}", guard, [str(session.parent)])
        self._outputs.hold()
        obstacle = manifest(folder).get("resume")
        if obstacle:
            self._fail(str(obstacle))
        self._image: dict[str, Any] = self._form.sections.get("script") or {}
        self._aim = moment_of(self._form)
        self._arrivals = 0
        self._next = 1
        self._reason = ""
        if self._image.get("format") != FORMAT:
            self._fail(f"{folder.name} was made by a version of OnTheFly that describes a script in another way")
        self._plan()

    def give_up(self) -> None:
        """The script has come to its end, and not to where it was."""
        self._fail(
            self._outputs.refused
            or self._reason
            or "the script did not come to the place where the checkpoint was taken"
        )

    def _plan(self) -> None:
        self._gate.plan(Plan("resume", "", self._reached, same=False, act=self._try))

    def _reached(self, moment: Moment) -> bool:
        """Whether the script stands where it stood, and it is to be tried."""
        frames = script_frames(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        if not Match(self._image).arrived(frames):
            if _counts(moment) > _counts(self._aim):
                self._fail(self._reason or "the script takes another way than it took")
            return False
        self._outputs.progress(moment.step, self._form.place.step)
        self._arrivals += 1
        if self._arrivals < self._next and not self._late(moment):
            return False
        self._next = self._arrivals + 1 if self._arrivals < TRIES else 2 * self._arrivals
        return True

    def _late(self, moment: Moment) -> bool:
        """Whether this is the checkpoint's own pause point, or behind it."""
        return _counts(moment) >= _counts(self._aim)

    def _try(self, moment: Moment) -> None:
        frames = script_frames(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        states = RandomStates.take()
        try:
            rebuild, fault = outcome(self._fit, frames, moment)
            if fault is not None:
                self._reason = str(fault) if isinstance(fault, Unbuildable) else f"{type(fault).__name__}: {fault}"
                states.put_back()
                if self._late(moment):
                    self._fail(self._reason)
                self._plan()
                return
            _, fault = outcome(self._put_in, rebuild)
            if fault is not None:
                self._fail(f"{type(fault).__name__}: {fault}" if not isinstance(fault, OnTheFlyError) else str(fault))
        finally:
            del frames
        place, steps = self._form.place, moment.step
        told = f"goes on after step {place.step} of {place.run}; {steps} {'step' if steps == 1 else 'steps'} replayed"
        told += f" ({self._reason})" if self._reason else ""
        self._arrived(self._form)
        report("; ".join([told, *rebuild.told]))

    def _fit(self, frames: list[FrameType], moment: Moment) -> Rebuild:
        """The image with what it stands for here, all of it there or built."""
        try:
            return self._matched(frames, moment, one_by_one=False)
        except Unbuildable as first:
            try:
                return self._matched(frames, moment, one_by_one=True)
            except Unbuildable:
                raise first from None

    def _matched(self, frames: list[FrameType], moment: Moment, *, one_by_one: bool) -> Rebuild:
        match = Match(self._image)
        match.go(frames, one_by_one=one_by_one)
        rebuild = Rebuild(match, self._wind, self._cut, last=self._late(moment))
        rebuild.check()
        return rebuild

    def _put_in(self, rebuild: Rebuild) -> None:
        if self._outputs.refused:
            raise Refused(self._outputs.refused)
        rebuild.told += self._outputs.put_files_back()
        files: list[dict[str, Any]] = self._form.sections.get("files") or []
        rebuild.told += written.put_back(files, self._cut)
        rebuild.write()
        written.written_here().adopt(files)
        rebuild.told += self._outputs.release()
        winding.states_of(self._form.random).put_back()

    def _fail(self, reason: str) -> None:
        self._outputs.fail(f"not resumed: {reason}")
        self._end(reason)

    def _wind(self, loading: Loading) -> None:
        made = winding.wind(loading, lambda done, of: None)
        self._deliveries.becomes(loading.live, made)


def expected(path: str) -> Receipt:
    """The losses that the steps after the checkpoint gave, as the launcher wrote them down."""
    if not path:
        return Receipt({})
    with open(path, encoding="ascii") as file:
        rows = json.load(file).get("expected", [])
    return Receipt({int(number): Call(int(step), float.fromhex(loss)) for number, step, loss in rows})


def _counts(moment: Moment) -> tuple[int, int]:
    """What tells one pause point of a script from the next: two optimizers may step within one step."""
    return moment.point, moment.backward


def moment_of(form: Form) -> Moment:
    """Where the script was, as the gate counts."""
    place = form.place
    return Moment(place.step, place.epoch, place.backward, form.sections.get("points", place.step))
