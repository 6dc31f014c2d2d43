"""Checkpoints: the state of a moment, in memory to go back to and on the disk; and going back.

What is in memory is everything live (:mod:`onthefly.state.snapshot`); what is on the disk is a plain description of it
(:mod:`onthefly.state.form`), written by a thread from a copy. Training waits for the copies, nothing else.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.core.expected import RESET, REWIND
from onthefly.core.gate import Plan
from onthefly.errors import OnTheFlyError, Refused, outcome
from onthefly.protocol import CheckpointInfo, Keep, plain
from onthefly.state import files, lightning
from onthefly.state.form import Form, Place
from onthefly.state.frames import named, script_frames
from onthefly.state.graphs import LIVE, graph_of
from onthefly.state.image import Image
from onthefly.state.objects import find
from onthefly.state.places import REMEDY
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


STALL_SHARE = 50
"""Of checkpoints made by the clock, the time between two is at least so many times what training waited for the last:
they cost it 2 % at most."""
BUSY_SECONDS = 1.0
"""After so long the next try, where the disk is not through with those before."""

MAX_TRIES = 8
"""Pause points at which it is tried in turn to make one that another process can go on from."""

SAVING_SECONDS = 10.0
"""The longest that the end of a script waits for its last checkpoint."""

AT_END = "it was made when the script had come to its end"
"""Why nobody can go on from such a one."""


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
    together: Callable[[], bool] = lambda: False
    """Have all ranks make one at the same step; False: this process trains alone."""


class Ours(NamedTuple):
    """What of ours goes back with the script."""

    place: Moment
    run: str
    gradients: Any
    subset: Any
    held: list[int]
    """Numbers of the journal's entries that hold."""


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
        self._plans: list[Plan] = []
        """For the next of those that are made by themselves."""
        self._unused: set[str] = set()
        """Names of tensors whose graphs are kept and never used."""
        self._tries = 0
        """Pause points in a row that no other process could go on from."""
        self._stalled = 0.0
        """Seconds that training waited for the newest."""

    def checkpoint(self, given: Any, moment: Moment, by: str) -> dict[str, Any]:
        """The command ``checkpoint``."""
        if given.name and any(row["name"] == given.name for row in self._ring.rows()):
            raise Refused(f"there is a checkpoint {given.name!r} already", "give another name, or drop it first")
        return self._told(self.take(moment, "asked", given.name))

    def take(self, moment: Moment, why: str, name: str = "") -> Entry:
        """Make one, here; the writing of its file goes on behind."""
        if self._writer.busy:
            raise Refused("the disk has not finished the checkpoints before", "ask again in a moment")
        started = time.monotonic()
        place = Place(self._counters.run(), moment.step, moment.epoch, moment.backward)
        name = name or self._ring.name_for(place)
        frames = script_frames(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        try:
            newest = self._ring.newest(lambda entry: entry.snapshot is not None)
            snapshot = Snapshot(frames, self._deliveries, newest.snapshot.snapshot if newest is not None else None)
            held = Held(snapshot, self._counters.take(), moment)
            image, fault = outcome(Image, frames, self._deliveries.began, self._unused)
            objects = find(named(frames))
            more = {
                "points": moment.point,
                "files": self._written.record(self._exempt),  # the open ones are written out
                "lightning": lightning.section(objects),
            }
            form = Form.of(
                objects, place, random=RandomStates.take().tree(), more=more,
                image=image.finish if image is not None else None,
            )  # fmt: skip
            resume = image.obstacle or self._counters.in_force() if image is not None else f"{fault}"
            if why == "end":
                resume = resume or AT_END
        finally:
            del frames  # they refer to this one
        entry = self._ring.add(name, place, why, held)
        entry.resume = resume
        self._write(form, name, {"reason": why, "resume": resume})
        self._stalled = time.monotonic() - started
        self._tries = 1
        if image is not None and image.obstacle and why != "end":
            self._make_another(moment, why, image.waiting)
        return entry

    def _make_another(self, moment: Moment, why: str, waiting: list[tuple[str, Any]]) -> None:
        """At the next pause point: nobody could go on from this one (between the two steps of a GAN, for instance).

        Of the graphs that waited here, those that still wait there, a step later, are of results that are kept and
        never back-propagated (predictions for a metric).
        """
        self._gate.plan(Plan(
            "a checkpoint that can be resumed", "", lambda now: now[2:] != moment[2:], same=False,
            act=lambda now: self._take_again(now, why, waiting),
        ))  # fmt: skip

    def _take_again(self, moment: Moment, why: str, waiting: list[tuple[str, Any]]) -> None:
        self._unused.update(name for name, tensor in waiting if graph_of(tensor) == LIVE)
        image, _ = outcome(Image, script_frames(sys._getframe(1)), self._deliveries.began, self._unused)  # pyright: ignore[reportPrivateUsage]
        if image is None or not image.obstacle:
            self.take(moment, why)
        elif self._tries < MAX_TRIES:
            self._tries += 1
            self._make_another(moment, why, image.waiting)

    def save(self, moment: Moment, why: str, seconds: float) -> Entry:
        """Make one here and wait for the disk, so long at most. Raises ``Refused`` where it is not there by then."""
        until = time.monotonic() + seconds
        if self._writer.busy:
            self._writer.flush(seconds)
        entry = self.take(moment, why)
        if not self._writer.flush(max(until - time.monotonic(), 0.0)):
            raise Refused(f"{entry.name} is being written still")
        if entry.error:
            raise Refused(entry.error)
        return entry

    def keep(self, given: Any, moment: Moment, by: str) -> dict[str, Any]:
        """The command ``keep``: what is not given stays as it is."""
        old = self.keeping
        self.keeping = Keep(**{
            name: getattr(given, name) if getattr(given, name) is not None else getattr(old, name)
            for name in old.__struct_fields__
        })  # fmt: skip
        self._ring.limit(memory_bytes=self.keeping.memory, disk_bytes=self.keeping.disk)
        if self.keeping.memory is not None:
            self._deliveries.limit(self.keeping.memory)
        for plan in self._plans:
            if plan in self._gate.plans:
                self._gate.plans.remove(plan)
        self._plans = []
        if self.keeping.every:
            self._next(moment.step)
        if self.keeping.seconds:
            self._next_after(self.keeping.seconds)
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

    def branch(self) -> None:
        """Another run begins here, which draws other random numbers than the one that it leaves."""
        self._deliveries.branch()

    def forget(self, entry: Entry) -> None:
        """Let go of one that was only needed for a while."""
        self._ring.drop(entry.name)

    @property
    def shown(self) -> dict[str, Any]:
        """What was kept by the command ``keep``, as numbers and words."""
        return {name: ", ".join(value) if name == "on_signal" else value
                for name, value in plain(self.keeping).items() if value != []}  # fmt: skip

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
                back=back, reason=reason, resume=entry.resume,
            ))  # fmt: skip
        return found

    def last(self, moment: Moment) -> None:
        """The script has ended, and checkpoints are made by the clock: keep what was trained since the newest.

        Of what its main module names: variables of its functions are gone. It goes to the disk only, since there is
        nothing to go back in. Raises ``Refused`` where nothing is found.
        """
        place = Place(self._counters.run(), moment.step, moment.epoch, moment.backward)
        if not moment.step or self._ring.newest(lambda entry: entry.place == place and not entry.error) is not None:
            return
        frames = script_frames(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        names = named(frames) if frames else dict(vars(sys.modules["__main__"]))
        del frames
        objects = find({name: value for name, value in names.items() if not name.startswith("__")})
        if not objects.modules and not objects.optimizers and not objects.tensors:
            raise Refused("variables of its functions are gone, and its main module names nothing that was trained")
        self._writer.flush(SAVING_SECONDS)
        name = self._ring.name_for(place)
        more = {"lightning": lightning.section(objects)}
        form = Form.of(objects, place, random=RandomStates.take().tree(), more=more)
        self._ring.add(name, place, "end").resume = AT_END
        self._write(form, name, {"reason": "end", "resume": AT_END})
        self._writer.flush(SAVING_SECONDS)

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

    def _write(self, form: Form, name: str, about: dict[str, Any]) -> None:
        """Have it written; what becomes of it, a folder that cannot be made included, is told to :meth:`_wrote`."""
        if not self._prepared:
            try:
                files.prepare(self._folder)
            except OSError as error:
                self._wrote(files.Outcome(name, error=f"{self._folder} cannot be made: {error.strerror or error}",
                                          remedy="see what is free there, and who may write"))  # fmt: skip
                return
            self._prepared = True
        self._writer.submit(form, name, self._wrote, about)

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

        self._ahead(Plan(f"a checkpoint at step {due}", "", lambda moment: moment.step >= due, same=True, act=act))

    def _next_after(self, seconds: float) -> None:
        """Plan the next of those that are made by the clock."""
        due = time.monotonic() + seconds

        def act(moment: Moment) -> None:
            wanted = self.keeping.seconds or 0.0
            if self._writer.busy:
                self._next_after(min(wanted, BUSY_SECONDS))
                return
            try:
                if not self._counters.together():
                    self.take(moment, "every")
            finally:
                self._next_after(max(wanted, STALL_SHARE * self._stalled))

        self._ahead(Plan("a checkpoint by the clock", "", lambda _: time.monotonic() >= due, same=False, act=act))

    def _ahead(self, plan: Plan) -> None:
        self._plans = [one for one in self._plans if one in self._gate.plans] + [plan]
        self._gate.plan(plan)
