"""The command ``health``: examines the run at a pause, by checks that look at what is there, or at a step, or at two.

Checks of a step let the script take exactly one, which is one of its training; the check ``determinism`` has it taken
twice from the same state, and goes on from the first. All of it ends at a pause again. Beside that, the live metrics.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.actions.living import roots
from onthefly.core.gate import Plan
from onthefly.errors import Refused, outcome
from onthefly.health import determinism
from onthefly.health.live import Live
from onthefly.health.scene import Answer, Cancelled, Scaling, Scene, Steps, named
from onthefly.health.table import BY_NAME, ROWS
from onthefly.protocol import Checked, HealthResult, Metrics, ProgressInfo, Records

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from onthefly.actions.checkpoints import Checkpoints
    from onthefly.actions.control import Ties
    from onthefly.core.gate import Gate, Place
    from onthefly.errors import Guard
    from onthefly.health.steps import Look
    from onthefly.health.table import Row
    from onthefly.state.ring import Entry

MAX_BLOCKS = 16
"""Of recorded steps, that are kept for the check ``throughput``."""

SAME_RUN = ""
"""The name of no new run: that of the checkpoint goes on."""

REPLAY = "replay"
"""What the run is called in which a step is taken again."""

SHOWN_SECONDS = 0.2
"""Between two reports of progress."""


class Sources(NamedTuple):
    """Where an examination finds what it looks at."""

    ties: Ties
    optimizers: Callable[[], list[Optimizer]]
    losses: Callable[[int, int], list[float | None]]
    """Of the steps from the first on, before the last."""
    record: Callable[[Metrics], None]
    """Send a metric of ours, and let conditions see it."""
    changed: Callable[[], None]
    """Other steps may have to be looked at."""
    show: Callable[[], None]
    """Clients are to be shown what has changed."""


class Running(NamedTuple):
    """What was asked for, while a step is looked at."""

    scene: Scene
    by: str
    number: int
    looks: list[tuple[str, Look]]
    start: Entry | None
    """The checkpoint of the pause point, where the step is to be taken twice."""
    begun: Place


class Examinations:
    """One at a time; all methods run on the training thread, but for :meth:`cancel`."""

    def __init__(self, gate: Gate, sources: Sources, checkpoints: Checkpoints, guard: Guard) -> None:
        self._gate, self._sources, self._checkpoints = gate, sources, checkpoints
        self.progress: ProgressInfo | None = None
        """Of the check that runs."""
        self._number = 0
        self._cancelled = False
        self._shown_at = 0.0
        self._running: Running | None = None
        self._metrics: deque[Metrics] = deque(maxlen=MAX_BLOCKS)
        self._records: Records | None = None
        ties = sources.ties
        self._live = Live(ties.meter, ties.place, sources.record, ties.run, ties.notice, self._look_on)
        self.backward = guard.around(self._backward)
        self.backward_ended = guard.around(self._backward_ended)
        self.look_before = guard.around(self._look_before)

    @property
    def before(self) -> bool:
        """Whether the next step of an optimizer is looked at."""
        return self._live.wanted or (self._running is not None and bool(self._running.looks))

    def cancel(self) -> None:
        """From any thread: the check that runs is to end, and those after it are not to begin."""
        self._cancelled = True

    def take(self, message: Records | Metrics) -> None:
        """A block goes to the hub."""
        if isinstance(message, Records):
            self._records = message
        elif "step_ms" in message.values:
            self._metrics.append(message)
            self._live.take(message)

    def examine(self, given: Any, place: Place, by: str) -> dict[str, Any]:
        """The command ``health``."""
        rows = _chosen(given.checks)
        if not self._gate.paused:
            raise Refused("the script is not paused", "onthefly ctl SESSION pause")
        if self._running is not None:
            raise Refused("an examination is under way already", "it ends with the step that runs")
        self._cancelled = False
        self._number += 1
        scene = self._scene(place, given.seconds)
        found: dict[str, Any] = {"examination": self._number, "checks": [row.name for row in rows]}
        try:
            for row in rows:
                if row.look is not None:
                    answer = self._answer(row, scene)
                    self._tell(row.name, answer, place, by)
                    found[row.name] = answer.verdict
        finally:
            self.progress = None
        later = [row for row in rows if row.look is None]
        if later and not self._cancelled:
            self._begin(later, scene, place, by)
            found["after the next step"] = [row.name for row in later]
        return found

    def close(self) -> None:
        """The script ends: nothing of ours stays in it, and what waited for a step is told."""
        running, self._running = self._running, None
        self._gate.watch = None
        if running is None:
            return
        for name, look in running.looks:
            outcome(look.abandon)
            self._tell(name, Answer("unknown", "the script ended before its next step"), running.begun, running.by)
        if running.start is not None:
            answer = determinism.not_replayed(running.scene, "the script ended before its next step")
            self._tell("determinism", answer, running.begun, running.by)

    def _scene(self, place: Place, seconds: float) -> Scene:
        sources = self._sources
        sources.ties.work_off()
        optimizers = sources.optimizers()
        columns: dict[str, list[float]] = {"step_ms": [], "data_ms": [], "onthefly_us": []}
        for message in self._metrics:
            for name, values in columns.items():
                values += array("d", message.values[name])
        # The first step of a run takes what is built only once; it would say nothing of the others.
        steps = Steps(*(values[1:] for values in columns.values()))
        return Scene(
            models=named(_trained(optimizers)), optimizers=optimizers, loaders=sources.ties.loaders(),
            ranks=sources.ties.ranks(), scaling=Scaling(*sources.ties.scaling()), steps=steps, records=self._records,
            step=place.step, checkpoints=sum(row.memory for row in self._checkpoints.rows()), seconds=seconds,
            progress=self._come,
        )  # fmt: skip

    def _come(self, done: int, of: int, what: str) -> None:
        """A check is so far."""
        if self._cancelled:
            raise Cancelled
        now = time.monotonic()
        if now - self._shown_at > SHOWN_SECONDS:
            self._shown_at = now
            self.progress = ProgressInfo(what=what, done=done, of=of)
            self._sources.show()

    def _answer(self, row: Row, scene: Scene) -> Answer:
        if self._cancelled:
            return Answer("unknown", "cancelled before it began")
        assert row.look is not None
        return _told(*outcome(row.look, scene))

    def _begin(self, rows: list[Row], scene: Scene, place: Place, by: str) -> None:
        """Let the script go for one step."""
        start = None
        if any(row.when == "replay" for row in rows):
            start, fault = outcome(self._checkpoints.take, place, "trial")
            reason = f"{fault}" if fault is not None else start.snapshot.snapshot.doubt()
            if reason:
                self._tell("determinism", determinism.not_replayed(scene, reason), place, by)
                self._forget(start)
                start = None
        looks: list[tuple[str, Look]] = []
        for row in rows:
            if row.made_by is not None:
                look = row.made_by(scene)
                _, fault = outcome(look.begin)
                if fault is None:
                    looks.append((row.name, look))
                else:
                    self._tell(row.name, _told(None, fault), place, by)
        if not looks and start is None:
            return
        self._running = Running(scene, by, self._number, looks, start, place)
        self._look_on()
        self._after(place, by, self._stepped)
        self._gate.go_on(by)

    def _after(self, place: Place, by: str, act: Callable[[Place], None]) -> None:
        """Do that after the next step, in all ranks after the same one."""
        self._gate.plan(Plan("health checks", by, lambda now: now.step > place.step, same=True, act=act))

    def _look_on(self) -> None:
        """Other things are looked at now in steps and backward calls."""
        self._gate.watch = self if self.before else None
        self._sources.changed()

    def _backward(self, given: tuple[Any, ...]) -> None:
        if self._live.wanted:
            self._safely(self._live.backward, given)
        for _, look in self._running.looks if self._running is not None else ():
            look.backward(given)

    def _backward_ended(self) -> None:
        for _, look in self._running.looks if self._running is not None else ():
            look.backward_ended()

    def _safely(self, look: Callable[[Any], None], given: Any) -> None:
        """A fault ends the live metrics, and is reported by the guard around this."""
        _, fault = outcome(look, given)
        if fault is not None:
            self._live.stop()
            raise fault

    def _look_before(self, optimizer: Any) -> None:
        if self._live.wanted and optimizer is next(iter(self._sources.optimizers()), optimizer):
            self._safely(self._live.look_before, optimizer)
        for _, look in self._running.looks if self._running is not None else ():
            look.before(optimizer)

    def _stepped(self, place: Place) -> None:
        """The step is over."""
        running = self._running
        if running is None:
            return
        for name, look in running.looks:
            self._tell(name, _told(*outcome(look.end)), place, running.by)
        self._running = running._replace(looks=[])
        self._look_on()
        if running.start is None:
            self._over(running)
            return
        self._sources.ties.work_off()
        first = determinism.bits(running.scene, self._sources.losses(running.begun.step, place.step))
        end, fault = outcome(self._checkpoints.take, place, "trial")
        if fault is None:
            _, fault = outcome(self._checkpoints.back_to, running.start, running.by, REPLAY)
        if fault is not None:
            self._replayed(running, determinism.not_replayed(running.scene, f"{fault}"), place, end)
            return

        def again(now: Place) -> None:
            self._sources.ties.work_off()
            bits = determinism.bits(running.scene, self._sources.losses(running.begun.step, now.step))
            answer = determinism.compared(running.scene, first, bits)
            _, fault = outcome(self._checkpoints.back_to, end, running.by, SAME_RUN)
            if fault is not None:
                answer = answer._replace(says=f"{answer.says}; it goes on from the second ({fault})")
            self._replayed(running, answer, place, end)

        self._after(running.begun, running.by, again)

    def _replayed(self, running: Running, answer: Answer, place: Place, end: Entry | None) -> None:
        self._tell("determinism", answer, place, running.by)
        self._forget(running.start)
        self._forget(end)
        self._over(running)

    def _over(self, running: Running) -> None:
        """Everything is told: the script is held."""
        self._running = None
        self._gate.hold(running.by, "the health checks have looked at their step", same=True)

    def _forget(self, entry: Entry | None) -> None:
        if entry is not None:
            self._checkpoints.forget(entry)

    def _tell(self, name: str, answer: Answer, place: Place, by: str) -> None:
        self._sources.ties.send(Checked(result=HealthResult(
            check=name, verdict=answer.verdict, says=answer.says, do=answer.do, numbers=answer.numbers,
            rows=answer.rows, run=self._sources.ties.run(), step=place.step, epoch=place.epoch, time=time.time(), by=by,
            examination=self._number,
        )))  # fmt: skip


def _trained(optimizers: list[Any]) -> list[Any]:
    """Models that an optimizer trains some part of; all that there are where no optimizer has stepped."""
    trained = {id(each) for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]}
    models = [(model, list(map(id, model.parameters()))) for model in roots()]
    return [model for model, parameters in models if parameters and (not trained or not trained.isdisjoint(parameters))]


def _chosen(names: list[str]) -> list[Row]:
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise Refused(f"there is no check {unknown[0]!r}", f"known: {', '.join(BY_NAME)}")
    return [row for row in ROWS if not names or row.name in names]


def _told(answer: Answer | None, fault: Exception | None) -> Answer:
    if answer is not None:
        return answer
    if isinstance(fault, Cancelled):
        return Answer("unknown", "cancelled")
    return Answer("unknown", f"the check failed: {type(fault).__name__}: {fault}"[:500], "please report it")
