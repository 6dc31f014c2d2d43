"""Runs of this process: the commands ``fork`` and ``switch``, and what each run was left as.

A run that is not the current one is a checkpoint in memory, made where it was left. A fork trains at the pause point,
the model as it is; going back to the run that it left is a rewind, which is exact. The script's loop stands where it
stood all the while, and goes on with the run that is current when it is let go.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from onthefly.core.expected import FORK
from onthefly.core.gate import Plan
from onthefly.errors import Refused, outcome
from onthefly.insight.sources import as_they_were
from onthefly.protocol import Branch, RunState, plain
from onthefly.protocol.given import MAX_SAMPLES
from onthefly.runs.training import Budget, Trained, train

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from onthefly.actions.checkpoints import Checkpoints
    from onthefly.actions.control import Ties
    from onthefly.actions.insight import Insight
    from onthefly.actions.optimizers import Optimizers
    from onthefly.actions.recipes import Recipes
    from onthefly.actions.trial import Trial
    from onthefly.core.gate import Gate, Place
    from onthefly.insight.split import Split
    from onthefly.state.ring import Entry

Result = TypeVar("Result")

WRITE_SECONDS = 30.0
"""How long a checkpoint is waited for that is still being written when the next is to be made."""


MAX_TRIES = 8
"""Pause points at which it is tried in turn to do what needs a way back."""


class NoWayBack(Refused):
    """The run could not be gone on with from here once it was left."""


class Desk(NamedTuple):
    """What these commands work with."""

    ties: Ties
    gate: Gate
    checkpoints: Checkpoints
    insight: Insight
    recipes: Recipes
    optimizers: Optimizers
    journal: Callable[[str, dict[str, Any], str, dict[str, Any]], None]
    """``journal(name, arguments, by, result)``: that change was made."""
    trial: Trial


class Origin(NamedTuple):
    """What a run began from."""

    parent: str
    entry: Entry
    """The parent as it was then."""
    split: Split | None
    """The samples of a fork; None: those that the script trains on."""


class Runs:
    """The commands ``fork`` and ``switch``."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._left: dict[str, Entry] = {}
        """Of each run but the current one, where it was left."""
        self.origins: dict[str, Origin] = {}
        desk.gate.register("fork", self.fork)
        desk.gate.register("switch", self.switch)

    def rows(self) -> list[RunState]:
        """For clients: nothing while there is one run only."""
        if not self._left:
            return []
        ties, found = self.desk.ties, list[RunState]()
        for run, entry in self._left.items():
            reason = "the checkpoint is gone" if entry.snapshot is None else entry.snapshot.snapshot.doubt()
            found.append(RunState(run=run, current=False, step=entry.place.step, checkpoint=entry.name,
                                  back=not reason, reason=reason))  # fmt: skip
        return [*found, RunState(run=ties.run(), current=True, step=ties.place().step)]

    def values(self, run: str) -> tuple[int, dict[int, Tensor]]:
        """How far that run is, and what its tensors hold by the ``id`` of those that live; nothing: as they are."""
        if run == self.desk.ties.run():
            return self.desk.ties.place().step, {}
        entry = self.left(run)
        return entry.place.step, entry.snapshot.snapshot.values()

    def left(self, run: str) -> Entry:
        """Where that run was left; refused where this process does not hold it."""
        entry = self._left.get(run)
        known = ", ".join([*self._left, self.desk.ties.run()])
        if entry is None:
            raise Refused(f"there is no run {run!r} here", f"there are: {known}")
        if entry.snapshot is None:
            raise Refused(f"the checkpoint {entry.name} of {run} is not in memory any more",
                          f"onthefly run --resume SESSION@{run} goes on with it")  # fmt: skip
        return entry

    def check_name(self, name: str) -> None:
        """Refuse a name that a run has already."""
        if name and self.desk.ties.lineage.is_taken(name):
            raise Refused(f"there is a run {name!r} already", "give it another name")

    # -- fork

    def fork(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """The command ``fork``."""
        desk = self.desk
        self.check("a fork")
        if given.parallel:
            raise Refused("forks in processes of their own are not in this version: two of them would write the "
                          "script's files", "without it a fork trains here, the script standing still")  # fmt: skip
        if given.select and not given.samples:
            raise Refused("the selection holds no sample", f"what it means: onthefly select SESSION '{given.select}'")
        self.check_name(given.name)
        if given.checkpoint:
            desk.checkpoints.find(given.checkpoint)
        self._split(given)
        self._optimizer(given)
        return self.when_ready(given.name or "the fork", moment, by, lambda now: self._fork(given, now, by), _trained)

    def when_ready(
        self, label: str, moment: Place, by: str, act: Callable[[Place], dict[str, Any]],
        told: Callable[[dict[str, Any]], str],
    ) -> dict[str, Any]:  # fmt: skip
        """Do it here, or where there is a recipe and a way back; then the script is held, and ``told`` says what came.

        In a GAN, between the steps of its two optimizers, a graph waits for its backward: there is no way back there.
        """
        desk = self.desk
        if desk.insight.stepping == "registered" or desk.recipes.good(moment) is not None:
            return act(moment)
        tries = MAX_TRIES

        def come(now: Place, reason: str = "") -> None:
            nonlocal tries
            result, fault = (None, Refused(reason)) if reason else outcome(act, now)
            tries -= 1
            if isinstance(fault, NoWayBack) and tries:
                desk.gate.plan(
                    Plan(f"a place for {label}", by, lambda then: then[2:] != now[2:], same=False, act=again)
                )
                return
            desk.gate.hold(by, f"{label} was not made: {fault}" if result is None else told(result))
            if fault is not None and not isinstance(fault, Refused):
                raise fault

        def again(now: Place) -> None:
            desk.recipes.stands_at(now)
            come(now)

        return {"waits": desk.recipes.fetch(label, by, moment, come)}

    def _split(self, given: Any) -> Split:
        split = self.desk.insight.split("scan", given)
        if split.streams:
            raise Refused(
                f"the samples of {split.name} come as a stream: there is no loop to be made over some of them"
            )
        if not split.count:
            raise Refused(f"{split.name} has no samples")
        return split

    def _optimizer(self, given: Any) -> Any:
        """The one that is stepped: refused where that is not told."""
        living = self.desk.optimizers.living()
        if given.optimizer >= len(living) or not living:
            raise Refused(f"there is no optimizer {max(given.optimizer, 0)} that has stepped",
                          "" if living else "a fork is trained by the script's optimizer")  # fmt: skip
        if given.optimizer < 0 and len(living) > 1:
            kinds = ", ".join(f"{number}: {type(one).__name__}" for number, one in enumerate(living))
            raise Refused(f"the script has {len(living)} optimizers", f"say which steps in the fork ({kinds})")
        return living[max(given.optimizer, 0)]

    def _fork(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """Train it, here; where that fails, all is as before."""
        desk, ties = self.desk, self.desk.ties
        stands = desk.recipes.good(moment) is not None
        split, before, branch = self._split(given), ties.run(), None
        self._optimizer(given)
        entry = begun = self.leave(moment)
        try:
            if given.checkpoint:
                begun = desk.checkpoints.find(given.checkpoint)
                desk.checkpoints.back_to(begun, by, "")
            start = ties.place()
            for name, value in given.settings.items():
                desk.optimizers.set(_Setting(name, value, given.optimizer), start, by)
            branch = self._began(given, split, by)
            trained = attempted("the fork", lambda: self._train(given, split))
            now = ties.place()._replace(epoch=start.epoch, point=start.point)
            ties.lineage.counts(now)
        except BaseException as error:
            if branch is not None:
                branch.verdict = f"it failed: {error}"[:500]
                ties.lineage.tell(branch)
            self.undo(entry, before, by)
            raise
        desk.gate.moved(now)
        if stands:
            desk.recipes.stands_at(now)
        self.origins[branch.run] = Origin(branch.parent, begun, split if given.samples else None)
        branch.trained, branch.verdict = trained.steps, trained.end
        ties.lineage.tell(branch)
        args = plain(given)
        if given.select or len(given.samples) > MAX_SAMPLES:
            args.pop("samples", None)  # an entry has its limit; the words say which they were, the records say it, too
        desk.journal("fork", args, by, {"after": {"run": branch.run, "steps": trained.steps, "samples": split.count}})
        return {"run": branch.run, "steps": trained.steps, "loss": trained.loss, "samples": split.count,
                **({"partial": trained.end} if trained.end else {})}  # fmt: skip

    def _began(self, given: Any, split: Split, by: str) -> Branch:
        """The run begins, where the script stands."""
        ties = self.desk.ties
        parent, start = ties.run(), ties.place()
        ties.lineage.began(given.name or ties.lineage.free(FORK))
        self.desk.checkpoints.branch()
        branch = Branch(
            run=ties.run(), parent=parent, step=start.step, kind="fork", parents=[parent], checkpoint=given.checkpoint,
            selection=given.select or _told(given.samples), samples=split.count, loader=split.name,
            changes=dict(given.settings), budget=str(_budget(given)), by=by, time=time.time(),
        )  # fmt: skip
        ties.lineage.tell(branch)
        return branch

    def _train(self, given: Any, split: Split) -> Trained:
        """Its steps, before the instruments that watch the script, which must not hold it meanwhile."""
        desk, ties = self.desk, self.desk.ties
        with (
            desk.recipes.work.under_way(ties.run()) as watch,
            ties.lender().lent(split.loader, split.name) as (record, _),
            as_they_were([split.loader.dataset, split.loader.collate_fn]),
        ):
            record.epoch = ties.place().epoch
            desk.gate.away = True
            try:
                return train(split, desk.insight.way(desk.insight.stepping), self._optimizer(given), _budget(given),
                             seed=given.seed, record=record, watch=watch, scaled=ties.scaling()[0] > 0)  # fmt: skip
            finally:
                desk.gate.away = False

    # -- switch

    def switch(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """The command ``switch``."""
        desk, ties = self.desk, self.desk.ties
        self.check("a switch")
        if given.run == ties.run():
            raise Refused(f"{given.run} is the current run")
        target, stands = self.left(given.run), desk.recipes.good(moment) is not None
        before = ties.run()
        entry = self.leave(moment)
        try:
            desk.checkpoints.back_to(target, by, "")
        except BaseException:
            self.undo(entry, before, by, moved=False)
            raise
        del self._left[given.run]
        if stands:
            desk.recipes.stands_at(ties.place())
        ties.announce("paused", by, f"switched to {given.run}")
        desk.journal("switch", {"run": given.run}, by, {"before": {"run": before, "checkpoint": entry.name}})
        return {"run": given.run, "step": target.place.step, "left": {"run": before, "checkpoint": entry.name}}

    # -- what both do

    def check(self, what: str) -> None:
        """Refuse where none can be made."""
        self.desk.insight.check(what)
        if self.desk.trial.running:  # it counts the script's own steps
            raise Refused("a trial is under way", "choose ends it")

    def leave(self, moment: Place) -> Entry:
        """Keep the current run as it is here; refused where there would be no way back."""
        checkpoints, run = self.desk.checkpoints, self.desk.ties.run()
        checkpoints.flush(WRITE_SECONDS)
        entry = checkpoints.take(moment, "run")
        reason = entry.snapshot.snapshot.doubt()
        if reason:
            checkpoints.forget(entry)
            raise NoWayBack(f"there is no way back to here: {reason}", "onthefly ctl SESSION step, and try again")
        entry.pinned = True
        old, self._left[run] = self._left.get(run), entry
        if old is not None:
            self._let_go(old)
        return entry

    def undo(self, entry: Entry, run: str, by: str, *, moved: bool = True) -> None:
        """What was begun after :meth:`leave` came to nothing: the script is as it was there, in that run."""
        if moved:
            self.desk.checkpoints.back_to(entry, by, "")
        self._left.pop(run, None)
        self._let_go(entry)

    def _let_go(self, entry: Entry) -> None:
        if entry.snapshot is not None and not any(origin.entry is entry for origin in self.origins.values()):
            self.desk.checkpoints.forget(entry)


class _Setting(NamedTuple):
    """Arguments of the command ``set``, for all groups of an optimizer."""

    name: str
    value: Any
    optimizer: int
    group: int = -1


def _budget(given: Any) -> Budget:
    found = Budget(given.steps, given.epochs, given.minutes)
    return found if any(found) else Budget(epochs=1)


def attempted(what: str, function: Callable[[], Result]) -> Result:
    """What the function gives. What it raises is a fault of the step, the data or the numbers: it is refused."""
    result, fault = outcome(function)
    if isinstance(fault, Refused):
        raise fault
    if fault is not None:
        raise Refused(f"{what} failed: {type(fault).__name__}: {fault}"[:500], "all is as it was before") from fault
    return cast("Result", result)


def _trained(result: dict[str, Any]) -> str:
    partial = f"; {result['partial']}" if "partial" in result else ""
    return f"{result['run']} is trained: {result['steps']} steps{partial}"


def _told(samples: list[int]) -> str:
    """A selection by indices, as a person would write it."""
    if not samples:
        return ""
    text = ",".join(map(str, samples[:20]))
    return f"sample={text}" + (f",... ({len(samples)} of them)" if len(samples) > 20 else "")
