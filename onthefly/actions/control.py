"""The desk of a session: the gate, what each command does, the journal, and what clients are shown of all that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from onthefly.actions import journal, proof, resume
from onthefly.actions.before import before_step
from onthefly.actions.checkpoints import Checkpoints, Counters, Ours
from onthefly.actions.ending import end_at_once
from onthefly.actions.gradients import Gradients
from onthefly.actions.health import Examinations, Sources
from onthefly.actions.insight import Insight
from onthefly.actions.merges import Merges
from onthefly.actions.optimizers import Optimizers
from onthefly.actions.recipes import Recipes
from onthefly.actions.releasing import WITHOUT_TENSORS, Releasing
from onthefly.actions.runs import Desk, Runs
from onthefly.actions.showing import Showing
from onthefly.actions.signals import Signals
from onthefly.actions.subset import Subset
from onthefly.actions.trial import Trial
from onthefly.actions.watching import Watchdogs
from onthefly.actions.work import Work
from onthefly.core.conditions import Condition
from onthefly.core.expected import RESUME
from onthefly.core.gate import LOST, Gate, Plan
from onthefly.core.newest import Newest, losses
from onthefly.errors import Guard, Refused, UsageError, outcome, report
from onthefly.protocol import (
    CHANGES,
    Answered,
    Asked,
    Command,
    Controlled,
    Controls,
    Decision,
    Journaled,
    PlannedPause,
    Propose,
    Proposed,
    Receipted,
    Records,
    plain,
)  # fmt: skip
from onthefly.state.deliveries import Deliveries
from onthefly.state.receipt import Losses, Receipt

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable

    from torch.optim import Optimizer

    from onthefly.core.gate import Place
    from onthefly.core.lineage import Lineage
    from onthefly.core.meter import Meter
    from onthefly.protocol import AgentMessage, Metrics, ReceiptInfo, State
    from onthefly.settings import Settings
    from onthefly.state.form import Form


class Ties(NamedTuple):
    """What the desk asks of the session."""

    send: Callable[[AgentMessage], None]
    announce: Callable[[State, str, str], None]
    """Neither of these two blocks."""
    notice: Callable[[str, str], None]
    ranks: Callable[[], int]
    place: Callable[[], Place]
    """Where training stands; from any thread."""
    run: Callable[[], str]
    loaders: Callable[[], list[tuple[str, Any]]]
    """Name and object of the script's loaders, the one that is trained on first."""
    work_off: Callable[[], None]
    """Send what is recorded, as far as it is there."""
    serve: Callable[[], None]
    """Hold the training thread, where the gate is paused."""
    went_back: Callable[[Place, str, str], None]
    """The script is where it was then, in that run: count from there, as a run of that kind (a rewind's, ...)."""
    scaling: Callable[[], tuple[int, int]]
    """Steps of gradient scalers, and those that they have left out."""
    meter: Meter
    """Adds up our own time."""
    lender: Callable[[], Any]
    """Lends what reads losses: see :mod:`onthefly.capture.borrowed`."""
    lineage: Lineage


class Control:
    """Everything that can be done to the script; the training thread's, but for :meth:`take` and :meth:`lost`."""

    def __init__(self, ties: Ties, folder: Path, guard: Guard) -> None:
        """``folder`` is for what this process writes; ``guard`` stands around what runs in a thread of its own."""
        self._ties, self._guard = ties, guard
        self._shown: Controls | None = None
        self.gate = gate = Gate(
            lambda answer: ties.send(Answered(answer=answer)), ties.announce, ranks=ties.ranks,
            passed=lambda: ties.place().step,
            ask=lambda by, reason: ties.send(
                Asked(name="pause", args={"because": reason[:500]}, by=by, reason=reason)),
        )  # fmt: skip
        gate.changed, gate.held, gate.failed = guard.around(self.show), guard.around(self._held), self._failed
        self.seen: list[weakref.ref[Optimizer]] = []
        """Optimizers in the order of their first step; their instrument fills it."""
        self.deliveries = Deliveries()
        """Batches that a rewind may want again."""
        self.newest = Newest()
        self._names: set[str] = set()
        """Of all metrics that there were."""
        self._losses, self._receipt = Losses(), Receipt({})
        self._prove: Callable[[], ReceiptInfo] | None = None
        """What a resume has proven, until that was told."""
        self._journal = journal.Journaling(lambda entry: ties.send(Journaled(entry=entry)), ties.run)
        self._optimizers = Optimizers(self.seen)
        self._gradients = Gradients(self._optimizers, self._prepare)
        self.subset = Subset(ties.loaders, ties.ranks, self._chosen, self.deliveries.behind)
        self.resuming: resume.Resume | None = None
        """While the script is on its way to where it goes on."""
        self.draw: Any = None
        """Told of the indices that a loader draws, while a subset is in force: gives those that are fetched."""
        counters = Counters(
            ties.run, self._ours, self._in_force, lambda ours: self.subset.check(ours.subset), self._put_back,
            self._together,
        )  # fmt: skip
        self.checkpoints = Checkpoints(folder / "checkpoints", gate, self.deliveries, counters, guard)
        releasing = Releasing(gate, self.deliveries, ties.announce)
        self._pause_and_release, self.released = releasing.pause, releasing.released
        gate.interrupted = over = guard.around(releasing.over)
        self.signals = Signals(gate, self.checkpoints.save, ties.notice, over)
        self._trial = Trial(gate, self.checkpoints, self._losses.between)
        self.watchdogs = Watchdogs(
            folder / "flights", gate, self._optimizers, self.checkpoints, guard, notice=ties.notice,
            changed=self._prepare, place=ties.place, serve=ties.serve,
        )  # fmt: skip
        sources = Sources(ties, self._optimizers.living, self._losses.between, self._record, self._prepare, self.show)
        self.health = Examinations(gate, sources, self.checkpoints, guard)
        self.recipes = recipes = Recipes(gate, Work(gate), guard)
        self.insight = Insight(ties, gate, self.checkpoints, recipes)
        desk = Desk(ties, gate, self.checkpoints, self.insight, recipes, self._optimizers, self._changed, self._trial)
        self.runs = Runs(desk)
        Merges(self.runs)
        for name, action in {
            "pause": self._pause, "set": self._optimizers.set, "clip": self._gradients.clip,
            "freeze": self._gradients.freeze, "unfreeze": self._gradients.unfreeze, "subset": self.subset.subset,
            "checkpoint": self.checkpoints.checkpoint, "keep": self._keep, "drop": self.checkpoints.drop,
            "rewind": self.checkpoints.rewind, "reset": self.checkpoints.reset,
            "trial": self._trial.trial, "choose": self._trial.choose, "watch": self.watchdogs.watch,
            "diagnose": self.watchdogs.diagnose, "health": self.health.examine,
            "show": Showing(gate, ties.loaders).show,
        }.items():  # fmt: skip
            gate.register(name, self._journaled(name, action) if name in CHANGES - {"rewind"} else action)
        for name in gate.actions.keys() - WITHOUT_TENSORS:
            gate.register(name, releasing.with_tensors(gate.actions[name]))

    def take(self, message: Command | Propose | Decision) -> None:
        """From the link's thread: what the hub says."""
        if isinstance(message, Propose):
            accepted, step = self.gate.propose(message.n, message.step)
            self._ties.send(Proposed(n=message.n, accepted=accepted, step=step))
        elif isinstance(message, Decision):
            self.gate.decide(message.n, go=message.go)
        elif message.name == "stop" and message.args.get("now") is True:
            end_at_once(message, self.gate, self._ties)
        else:
            if message.name == "cancel":
                self.health.cancel()
            self.recipes.work.heard(message.name)
            self.gate.submit(message)

    def lost(self) -> None:
        """From the link's thread: the connection has ended, and no decision comes over it any more."""
        self.gate.decide(LOST, go=False)

    def recorded(self, message: Records | Metrics) -> None:
        """A block goes to the hub: what conditions, watchdogs and comparisons make of it."""
        self.newest.take(message)
        if not isinstance(message, Records):
            self._names.update(message.values)
        self.watchdogs.take(message)
        self.health.take(message)
        if isinstance(message, Records) and (self.deliveries.keeping or not self._receipt.complete):
            for loss in losses(message):
                self._losses.note(loss.step, loss.backward, loss.value)
                self._compare(loss.backward, loss.value)

    def _record(self, metrics: Metrics) -> None:
        """One of ours goes the way of those that are recorded."""
        self._ties.send(metrics)
        self.recorded(metrics)

    def show(self) -> None:
        """Tell clients what is under control now, if that is not what they were told."""
        controls = Controls(
            pauses=[PlannedPause(text=plan.text, by=plan.by) for plan in self.gate.plans if plan.act is None],
            groups=self._optimizers.groups(), clip=self._gradients.clipping, frozen=list(self._gradients.patterns),
            frozen_parameters=self._gradients.frozen, subset=self.subset.info, checkpoints=self.checkpoints.rows(),
            keep=self.checkpoints.shown, watches=self.watchdogs.rows(), findings=self.watchdogs.findings,
            trial=self._trial.info, progress=self.health.progress or self.recipes.work.progress,
            evaluations=self.insight.told, runs=self.runs.rows(),
        )  # fmt: skip
        if controls != self._shown:
            self._shown = controls
            self._ties.send(Controlled(controls=controls))

    def close(self, seconds: float, error: BaseException | None = None) -> None:
        """The script has ended, by ``error`` if there is one: write what is under way, let go of the rest.

        After an error parameters may be half of one step and half of another: nothing is saved then.
        """
        self._proven()
        self.health.close()
        self.recipes.close()
        if self.checkpoints.keeping.seconds and error is None:
            _, fault = outcome(self.checkpoints.last, self._ties.place())
            if fault is not None:
                self._ties.notice(f"the last steps are in no checkpoint: {fault}", getattr(fault, "remedy", ""))
        self.checkpoints.close(seconds)
        self.gate.changed()

    def _keep(self, given: Any, place: Place, by: str) -> dict[str, Any]:
        """The command ``keep``."""
        if given.on_signal is not None:
            self.signals.catch(given.on_signal)  # which may refuse
        return self.checkpoints.keep(given, place, by)

    def _together(self) -> bool:
        """Have all ranks make a checkpoint at one step, on which they agree through the hub; rank 0 asks for it."""
        distributed: Any = torch.distributed
        if self._ties.ranks() == 1 or not (distributed.is_available() and distributed.is_initialized()):
            return False
        if distributed.get_rank() == 0:
            self._ties.send(Asked(name="checkpoint", args={}, by="the clock", reason="a checkpoint by the clock"))
        return True

    def _pause(self, given: Any, place: Place, by: str) -> dict[str, Any]:
        """The command ``pause``: with a condition, at the first step after which it holds."""
        if given.release:
            return self._pause_and_release(given, place, by)
        if not given.when:
            return self.gate.pause(given, place, by)
        try:
            condition = Condition.parse(given.when)
        except UsageError as error:
            raise Refused(f"{error.message}\n{getattr(error, 'caret', '')}".rstrip(), error.remedy) from error
        leave = self.newest.listen(condition.names)
        over = False

        def reached(now: Place) -> bool:
            nonlocal over
            if over:  # it is asked again, and nobody listens any more
                return True
            self._ties.work_off()
            own = {"step": float(now.step), "epoch": float(now.epoch)}
            over = condition.holds(lambda name: own.get(name, self.newest.get(name)), self.newest.window)
            if over:
                leave()
            return over

        self.gate.plan(Plan(condition.text, by, reached, same=False))
        hint = condition.hint({"loss", "step", "epoch", *self._names})
        return {"planned": condition.text, **({"note": hint} if hint else {})}

    def _held(self) -> None:
        """A pause begins."""
        if self.checkpoints.keeping.on_pause and not self._trial.running:
            _, fault = outcome(self.checkpoints.take, self._ties.place(), "pause")
            if fault is not None:
                self._ties.notice(f"no checkpoint was made at the pause: {fault}", "")

    def _failed(self, text: str, fault: Exception) -> None:
        """What was planned could not be done."""
        self._ties.notice(f"{text} was left out: {fault}", getattr(fault, "remedy", ""))
        if not isinstance(fault, Refused):
            self._guard.around(_raise)(fault)

    def _journaled(self, name: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """``action``, entered into the journal once it is done."""

        def journaled(given: Any, place: Place, by: str) -> Any:
            result = action(given, place, by)
            self._changed(name, plain(given), by, result)
            return result

        return journaled

    def _changed(self, name: str, args: dict[str, Any], by: str, result: dict[str, Any]) -> None:
        """A change was made: from here on the steps are others."""
        self._proven()
        self._receipt = Receipt({})
        self._journal.write(name, args, self._ties.place(), by, result)

    def _ours(self) -> Ours:
        """What of ours goes back with the script."""
        return Ours(
            self._ties.place(), self._ties.run(), self._gradients.state(), self.subset.state(), list(self._journal.held)
        )

    def _in_force(self) -> str:
        """What another process would not do."""
        if self._gradients.active or self.subset.active:
            return "a change of gradients or samples by OnTheFly is in force, which no other process would make"
        return ""

    def _put_back(self, state: Any, checkpoint: str, by: str, stem: str) -> None:
        """The script is back at that checkpoint: so is what we count and change."""
        left = self._ties.place()
        place, run, gradients, subset, held = state  # an Ours
        self._gradients.put_back(gradients)
        self.subset.put_back(subset)
        self._journal.held = list(held)
        self._proven()
        expected = self._losses.from_call(place.backward)
        self._receipt = expected if stem else Receipt({})  # of a run that was left no further step is known
        self.gate.moved(place)
        if not stem:
            self._ties.lineage.went_back(place, run, "")  # whoever goes back to it tells of it
            return
        self._ties.went_back(place, run, stem)
        self._journal.write("rewind", {"checkpoint": checkpoint}, place, by, {"before": {"step": left.step}})

    def _compare(self, backward: int, loss: float) -> None:
        """The steps after a rewind, with what they gave before it."""
        receipt = self._receipt
        if receipt.complete:
            return
        receipt.note(backward, loss)
        if receipt.complete and self._prove is None:
            self._ties.notice(f"after the rewind: {receipt}", "")
        elif receipt.complete:
            self._proven()

    def _proven(self) -> None:
        """All that a resume can be compared with has come, or the script ends: the receipt, once."""
        prove, self._prove = self._prove, None
        if prove is not None:
            info = prove()
            self._ties.send(Receipted(receipt=info))
            report(f"resumed at step {info.from_step}; {info.text}")

    def resume(self, settings: Settings, hang_up: Callable[[], None]) -> None:
        """Let the script go on from a checkpoint of another process; ``hang_up()`` sends what waits, and ends that."""

        def arrived(form: Form) -> None:
            self.resuming = None
            self._receipt = receipt = resume.expected(settings.resume_expected)
            self._ties.went_back(resume.moment_of(form), form.place.run, RESUME)
            run = self._ties.run()
            self._prove = lambda: proof.told(settings.session, run, form.place, receipt)
            if not receipt.steps:
                self._proven()
            self.gate.moved(resume.moment_of(form))

        def end(reason: str) -> None:
            self._ties.announce("crashed", "", f"not resumed: {reason}")
            hang_up()
            os._exit(resume.IMPOSSIBLE)

        self.resuming = resume.Resume(Path(settings.resume), self.gate, self.deliveries, arrived, end, self._guard)

    def arrive_or_end(self, error: BaseException | None) -> None:
        """The script has ended, by ``error`` if there is one: if it has not come to where it was, that is said."""
        if self.resuming is not None and error is None:
            self.resuming.give_up()
        self.insight.finish(error)

    def _prepare(self) -> None:
        """Something is to be done before steps, or no more."""
        gradients, watchdogs = self._gradients, self.watchdogs
        looks: list[Callable[[Any], None]] = []
        if gradients.active:
            looks.append(gradients.treat)
        if watchdogs.before:
            looks.append(watchdogs.look_before)
        if self.health.before:
            looks.append(self.health.look_before)
        self.gate.prepare = before_step(looks) if looks else None

    def _chosen(self) -> None:
        self.draw = self.subset.draw if self.subset.active else None


def _raise(fault: Exception) -> None:
    raise fault
