"""Checkpoints: the state of a moment, in memory to go back to and on the disk; and going back.

What is in memory is everything live (:mod:`onthefly.state.snapshot`); what is on the disk is a plain description of it
(:mod:`onthefly.state.form`), written by a thread from a copy. Training waits for the copies, nothing else.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.core.expected import RESET, REWIND
from onthefly.core.gate import Plan
from onthefly.errors import OnTheFlyError, Refused, outcome
from onthefly.protocol import CheckpointInfo, Keep
from onthefly.state import files
from onthefly.state.deliveries import REMEDY
from onthefly.state.form import Form, Place
from onthefly.state.frames import has_own_variables, script_frames, variables
from onthefly.state.image import Image
from onthefly.state.objects import find
from onthefly.state.random import RandomStates
from onthefly.state.ring import Entry, Ring
from onthefly.state.snapshot import Snapshot
from onthefly.state.written import written_here

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onthefly.core.gate import Gate
    from onthefly.core.gate import Place as Moment
    from onthefly.errors import Guard
    from onthefly.state.deliveries import Deliveries
    from onthefly.state.files import Outcome


class Counters(NamedTuple):
    """What we count ourselves, and keep beside the script's state."""

    run: Callable[[], str]
    take: Callable[[], Any]
    """Everything of ours that goes back with the script."""
    in_force: Callable[[], str]
    """What of ours changes the script now, and no other process would do; empty: nothing."""
    check: Callable[[Any], None]
    """Refuses where that cannot go back."""
    put_back: Callable[[Any, str, str, str], None]
    """With the name of the checkpoint, who went back to it, and what the new run is called, without its number."""


class Held:
    """What the ring holds in memory of one checkpoint; let go of by the ring, it lets go of the batches kept for it."""

    def __init__(self, snapshot: Snapshot, ours: Any, moment: Moment) -> None:
        self.snapshot = snapshot
        self.ours = ours
        self.moment = moment

    @property
    def nbytes(self) -> int:
        """Bytes of the copies."""
        return self.snapshot.nbytes

    def __del__(self) -> None:
        self.snapshot.close()


class Checkpoints:
    """The commands ``checkpoint``, ``keep``, ``drop`` and ``rewind``."""

    def __init__(self, folder: Path, gate: Gate, deliveries: Deliveries, counters: Counters, guard: Guard) -> None:
        """``folder`` is made when the first is written."""
        self._folder = folder
        self._gate = gate
        self._deliveries = deliveries
        self._counters = counters
        self._ring = Ring(folder)
        self._writer = files.Writer(folder, guard)
        self._written = written_here()
        self._exempt = (os.path.realpath(folder.parent) + os.sep,)
        """No file of the script's is in there."""
        self._prepared = False
        self.keeping = Keep(every=0, on_pause=False)
        """As the command ``keep`` left it."""
        self._plan: Plan | None = None

    def checkpoint(self, given: Any, moment: Moment, by: str) -> dict[str, Any]:
        """The command ``checkpoint``."""
        if given.name and any(row["name"] == given.name for row in self._ring.rows()):
            raise Refused(f"there is a checkpoint {given.name!r} already", "give another name, or drop it first")
        return self._told(self.take(moment, "asked", given.name))

    def take(self, moment: Moment, why: str, name: str = "") -> Entry:
        """Make one, here; the writing of its file goes on behind."""
        if self._writer.busy:
            raise Refused("the disk has not finished the checkpoints before", "ask again in a moment")
        place = Place(self._counters.run(), moment.step, moment.epoch, moment.backward)
        name = name or self._ring.name_for(place)
        frames = script_frames(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        try:
            newest = self._ring.newest(lambda entry: entry.snapshot is not None)
            snapshot = Snapshot(frames, self._deliveries, newest.snapshot.snapshot if newest is not None else None)
            held = Held(snapshot, self._counters.take(), moment)
            image, fault = outcome(Image, frames, self._deliveries.began)
            more = {
                "points": moment.point,
                "files": self._written.record(self._exempt),
            }  # the open ones are written out
            form = Form.of(
                find(_names(frames)), place, random=RandomStates.take().tree(), more=more,
                image=image.finish if image is not None else None,
            )  # fmt: skip
            resume = image.obstacle or self._counters.in_force() if image is not None else f"{fault}"
        finally:
            del frames  # they refer to this one
        entry = self._ring.add(name, place, why, held)
        self._prepare()
        self._writer.submit(form, name, self._wrote, {"reason": why, "resume": resume})
        return entry

    def keep(self, given: Any, moment: Moment, by: str) -> dict[str, Any]:
        """The command ``keep``: what is not given stays as it is."""
        old = self.keeping
        self.keeping = Keep(**{
            name: getattr(given, name) if getattr(given, name) is not None else getattr(old, name)
            for name in ("every", "on_pause", "memory", "disk")
        })  # fmt: skip
        self._ring.limit(memory_bytes=self.keeping.memory, disk_bytes=self.keeping.disk)
        if self.keeping.memory is not None:
            self._deliveries.limit(self.keeping.memory)
        if self._plan is not None and self._plan in self._gate.plans:
            self._gate.plans.remove(self._plan)
        self._plan = None
        if self.keeping.every:
            self._next(moment.step)
        return {}

    def drop(self, given: Any, moment: Moment, by: str) -> dict[str, Any]:
        """The command ``drop``."""
        try:
            self._ring.drop(given.checkpoint)
        except OnTheFlyError as error:
            raise Refused(error.message, error.remedy) from error
        return {}

    def rewind(self, given: Any, moment: Moment, by: str) -> dict[str, Any]:
        """The command ``rewind``."""
        entry = self.find(given.checkpoint)
        self.back_to(entry, by)
        return {"checkpoint": entry.name, "step": entry.place.step, "epoch": entry.place.epoch}

    def reset(self, given: Any, moment: Moment, by: str) -> dict[str, Any]:
        """The command ``reset``."""
        entry = self._ring.newest(lambda entry: entry.snapshot is not None and entry.place.step <= 1)
        remedy = "stop the script, and start it again in its session: onthefly reset SESSION"
        if entry is None:
            raise Refused("no checkpoint of the first step is in memory", remedy)
        try:
            self.back_to(entry, by, RESET)
        except Refused as error:
            raise Refused(error.message, remedy) from error
        return {"checkpoint": entry.name, "step": entry.place.step, "epoch": entry.place.epoch}

    def find(self, name: str) -> Entry:
        """The checkpoint of that name, or the newest, if it can be gone back to."""
        try:
            entry = self._ring.get(name or "last")
        except OnTheFlyError as error:
            raise Refused(error.message, error.remedy) from error
        if entry.snapshot is None:
            raise Refused(f"{entry.name} is on the disk only: it was dropped from memory, or is of an earlier process",
                          REMEDY)  # fmt: skip
        return entry

    def before(self, step: int) -> Entry | None:
        """The newest in memory from before the end of that step."""
        return self._ring.newest(lambda entry: entry.snapshot is not None and entry.place.step <= step)

    def back_to(self, entry: Entry, by: str, stem: str = REWIND) -> None:
        """Put the script back into the state of that checkpoint, here and now."""
        frames = script_frames(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        held = entry.snapshot
        self._counters.check(held.ours)
        try:
            held.snapshot.restore(frames)
        finally:
            del frames
        self._counters.put_back(held.ours, entry.name, by, stem)

    def forget(self, entry: Entry) -> None:
        """Let go of one that was only needed for a while."""
        self._ring.drop(entry.name)

    def rows(self) -> list[CheckpointInfo]:
        """For clients."""
        found: list[CheckpointInfo] = []
        for row in self._ring.rows():
            entry = self._ring.get(row["name"])
            back, reason = self._back(entry)
            durable = entry.durability == "durable"
            found.append(CheckpointInfo(
                name=entry.name, run=entry.place.run, step=entry.place.step, epoch=entry.place.epoch, time=entry.time,
                why=row["reason"], memory=entry.bytes_memory, disk=entry.bytes_disk, fault=entry.error,
                state="failed" if entry.error else "durable" if durable else "writing" if entry.awaited else "memory",
                back=back, reason=reason,
            ))  # fmt: skip
        return found

    def close(self, seconds: float) -> None:
        """The script has ended: wait for what is being written, and let go of the rest."""
        self._writer.close(seconds)
        for row in self._ring.rows():
            self._ring.get(row["name"]).snapshot = None

    def flush(self, seconds: float) -> bool:
        """Wait until everything is written."""
        return self._writer.flush(seconds)

    def _back(self, entry: Entry) -> tuple[bool, str]:
        if entry.snapshot is None:
            return False, "it is on the disk only"
        reason = entry.snapshot.snapshot.doubt()
        return not reason, reason

    def _told(self, entry: Entry) -> dict[str, Any]:
        back, reason = self._back(entry)
        told: dict[str, Any] = {"checkpoint": entry.name, "memory": entry.bytes_memory}
        if not back:
            told["back"] = reason
        if entry.snapshot.snapshot.left_out:
            told["left_out"] = entry.snapshot.snapshot.left_out[:20]
        return told

    def _prepare(self) -> None:
        if not self._prepared:
            self._prepared = True
            files.prepare(self._folder)

    def _wrote(self, outcome: Outcome) -> None:
        self._ring.wrote(outcome)
        self._gate.nudge()

    def _next(self, step: int) -> None:
        """Plan the next of those that are made every so many steps."""
        every = self.keeping.every or 0
        due = (step // every + 1) * every

        def act(moment: Moment) -> None:
            self._next(moment.step)
            self.take(moment, "every")

        self._plan = Plan(f"a checkpoint at step {due}", "", lambda moment: moment.step >= due, same=True, act=act)
        self._gate.plan(self._plan)


def _names(frames: list[Any]) -> dict[str, Any]:
    """The script's variables by name, the innermost function's first."""
    found: dict[str, Any] = {}
    for frame in frames:
        values = variables(frame) if has_own_variables(frame) else frame.f_globals
        for name, value in list(values.items()):
            if not name.startswith("__"):
                found.setdefault(name, value)
    return found
