"""Tests and scans at a pause: the commands ``test`` and ``scan``, the steps that they need, and what comes of them.

A recipe is traced when it is asked for: the script is let go for the steps that it takes to see one and to do others
again, at most :data:`MAX_POINTS` pause points, and held again. After the evaluation the next real step is done again as
well, and the evaluation told once more with what that gave.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.actions.living import roots
from onthefly.core import test_label
from onthefly.core.gate import Plan
from onthefly.errors import Refused, outcome, report
from onthefly.insight import loaders
from onthefly.insight.embeddings import Embedding, module_of
from onthefly.insight.evaluation import Evaluation, Watch, Way
from onthefly.insight.recipe import REMEDY, Recipe
from onthefly.insight.registered import Registered
from onthefly.insight.rows import Rows
from onthefly.insight.split import Split
from onthefly.insight.trace import Tracer
from onthefly.protocol import Evaluated, EvaluationInfo, ProgressInfo, arguments
from onthefly.state.frames import named, script_frames

if TYPE_CHECKING:
    from torch import Tensor

    from onthefly.actions.checkpoints import Checkpoints
    from onthefly.actions.control import Ties
    from onthefly.core.gate import Gate, Place
    from onthefly.errors import Guard
    from onthefly.insight.operations import Step

MAX_POINTS = 12
"""Pause points that a recipe may take: four steps of a script with three optimizers."""

ENOUGH = 2
"""Real steps that a recipe must give again before it is used."""


class Ask(NamedTuple):
    """What is asked for."""

    kind: str
    label: str
    given: Any
    by: str


class Insight:
    """The commands ``test`` and ``scan``; one at a time."""

    def __init__(self, ties: Ties, gate: Gate, checkpoints: Checkpoints, guard: Guard) -> None:
        self._ties, self._gate, self._checkpoints, self._guard = ties, gate, checkpoints, guard
        self._forget = gate.actions["cancel"]
        for name, action in {"test": self.test, "scan": self.scan, "cancel": self.cancel}.items():
            gate.register(name, action)
        self.progress: ProgressInfo | None = None
        """Of what runs or waits, for clients."""
        self.told = 0
        """Evaluations that were told, changes to them included."""
        self.registered = Registered()
        """What the script has given us to evaluate with."""
        self._scans = 0
        self._waiting: Ask | None = None
        self._recipe: Recipe | None = None
        self._refusal: Refused | None = None
        """Why the last step that was seen makes no recipe."""
        self._tracer: Tracer | None = None
        self._seen: Any = None
        """The pause point that was passed last while a step was traced."""
        self._points = 0
        self._good_at: Any = None
        """The pause point at which the recipe was good last."""
        self._after: list[EvaluationInfo] = []
        """Evaluations whose recipe is yet to be checked by the next real step."""
        self._running = ""
        self._cancelled = False
        self._was_cancelled = ""
        self._final: Any = None
        """Arguments of the test after training; None: there is none to be made."""
        self._final_split: Split | None = None
        """What it runs on, as far as it was found while functions of the script were running."""

    def test(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """The command ``test``."""
        return self._ask("test", given, moment, by)

    def scan(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """The command ``scan``."""
        return self._ask("scan", given, moment, by)

    def heard(self, name: str) -> None:
        """From the link's thread: a command comes; ``cancel`` ends what runs now, before it reaches the gate."""
        if name == "cancel" and self._running:
            self._was_cancelled, self._cancelled = self._running, True

    def cancel(self, given: Any, moment: Place, by: str) -> Any:
        """The command ``cancel``, where it is for a test or a scan; else that of pauses."""
        label, self._was_cancelled = self._was_cancelled, ""
        if not label and self._waiting is not None:
            label, self._waiting = self._waiting.label, None
            self.progress = None
            self._end_tracing()
        return {"cancelled": label} if label else self._forget(given, moment, by)

    def close(self) -> None:
        """The script has ended: no step comes any more."""
        self._end_tracing()
        ask, self._waiting = self._waiting, None
        if ask is not None:
            self._tell(self._info(ask, self._ties.place(), "", reason="the script ended before its steps were done"))
        for info in self._after:
            info.how += "; the script ended before a step after it"
            self._tell(info)
        self._after = []

    # -- a test after training

    def test_after(self, moment: Place) -> None:
        """Have a step seen from the first one on, and again in each epoch: there is no step after the last."""
        self._final = arguments("test", {})
        self._trace_for_the_end(moment)

    def _trace_for_the_end(self, moment: Place) -> None:
        self._trace(moment)
        self._points, tried = 0, self._recipe.tried if self._recipe is not None else -1

        def reached(now: Place) -> bool:
            if self._waiting is not None or self._after:
                return True  # another one sees steps for itself
            self._passes(now)
            recipe = self._recipe
            return (recipe is not None and recipe.tried >= max(tried + 1, ENOUGH)) or self._points >= MAX_POINTS

        def act(now: Place) -> None:
            if self._waiting is None and not self._after:
                self._end_tracing()
            split, _ = outcome(self._split, "test", self._final)
            self._final_split = split or self._final_split
            self._gate.plan(Plan("a step for the test after training", "", lambda then: then.epoch > now.epoch,
                                 same=True, act=self._trace_for_the_end))  # fmt: skip

        self._gate.plan(Plan("steps for the test after training", "", reached, same=True, act=act))

    def finish(self, error: BaseException | None) -> None:
        """The script has come to its end, by ``error`` if there is one: the test after training."""
        given, self._final = self._final, None
        if given is None or error is not None or self._ties.ranks() > 1:
            return
        self._end_tracing()
        moment, ask = self._ties.place(), Ask("test", test_label.take(), given, "--test-after")
        split, fault = outcome(self._split, "test", given)
        split, recipe, registered = self._final_split or split, self._recipe, self.registered.serves("test")
        reason = "" if split is not None else str(fault)
        if not reason and not registered and (recipe is None or recipe.difference):
            reason = recipe.text if recipe is not None else str(self._refusal or "no step was seen")
        if reason:
            self._tell(self._info(ask, moment, "", reason=reason))
            self._ties.notice(f"no test was made after training: {reason}", REMEDY)
            return
        told, fault = outcome(self._now, ask, moment, "registered" if registered else "recipe", split)
        if fault is not None:
            self._ties.notice(f"no test was made after training: {fault}", "")
            return
        names = [name for name in ("loss", "accuracy", "perplexity") if told.get(name) is not None]
        report(f"{ask.label} after training: {', '.join(f'{name} {told[name]:.4g}' for name in names)}")

    # -- asking

    def _ask(self, kind: str, given: Any, moment: Place, by: str) -> dict[str, Any]:
        if not self._gate.paused:
            raise Refused(f"a {kind} is made at a pause", "onthefly ctl SESSION pause")
        if self._ties.ranks() > 1:
            raise Refused(f"a {kind} of several ranks is not in this version")
        if self._waiting is not None:
            raise Refused(f"{self._waiting.label} waits for steps of the script", "cancel ends it")
        self._split(kind, given)  # refuses where there is no such loader
        if given.checkpoint:
            self._checkpoints.find(given.checkpoint)
        ask = Ask(kind, self._label(kind), given, by)
        how = given.using or ("registered" if self.registered.serves(kind) else "recipe")
        if how == "registered":
            self.registered.check(kind)
            return self._now(ask, moment, how)
        if self._recipe is not None and self._good_at == moment:
            return self._now(ask, moment, how)
        self._waiting = ask
        self.progress = ProgressInfo(what=f"{ask.label} waits for a step that can be done again", done=0, of=ENOUGH)
        self._recipe, self._refusal, self._points = None, None, 0
        self._trace(moment)
        self._gate.plan(Plan(f"steps for {ask.label}", by, self._reached, same=True, act=self._come))
        self._gate.go_on(by)
        return {"evaluation": ask.label, "waits": f"the script does {ENOUGH} steps first, which are done again"}

    def _label(self, kind: str) -> str:
        if kind == "test":
            return test_label.take()
        self._scans += 1
        return f"scan_{self._scans}"

    def _split(self, kind: str, given: Any) -> Split:
        frames = script_frames(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        try:
            known = loaders.known(self._ties.loaders(), named(frames))
        finally:
            del frames
        name, loader = loaders.chosen(known, given.loader, test=kind == "test")
        return Split(loader, name, getattr(given, "samples", ()))

    # -- steps that are traced

    def _trace(self, moment: Place) -> None:
        self._end_tracing()
        self._tracer, self._seen = Tracer(self._guard, self._stepped), moment
        self._tracer.begin()

    def _end_tracing(self) -> None:
        tracer = self._tracer
        if tracer is not None and not tracer.end():
            self._gate.plan(Plan("the end of a trace", "", lambda _: tracer.end(), same=True, act=lambda _: None))
        self._tracer = None

    def _stepped(self, step: Step) -> None:
        """A loss that depends on a batch is about to be back-propagated."""
        recipe = self._recipe
        if recipe is None:
            made, fault = outcome(Recipe, step)
            if fault is not None and not isinstance(fault, Refused):
                raise fault
            self._recipe = recipe = made
            self._refusal = fault
        if recipe is not None and recipe.is_of(step):
            recipe.compare(step)

    def _passes(self, now: Place) -> None:
        if now != self._seen and self._tracer is not None:
            self._seen = now
            self._points += 1
            self._tracer.passed()

    def _reached(self, now: Place) -> bool:
        """Whether the steps are done that the recipe takes, or there have been too many."""
        if self._waiting is None:
            return True
        self._passes(now)
        recipe = self._recipe
        if recipe is not None and (recipe.reproduced >= ENOUGH or recipe.difference):
            return True
        return self._points >= (MAX_POINTS if self._refusal is None else 3)

    def _come(self, moment: Place) -> None:
        """The steps are done: evaluate, and hold the script."""
        ask, self._waiting = self._waiting, None
        self._end_tracing()
        self.progress = None
        if ask is None:
            return
        recipe, reason = self._recipe, ""
        if recipe is None:
            reason = self._refusal.message if self._refusal else "no loss was seen that depends on a batch of a loader"
        elif recipe.difference or recipe.reproduced < ENOUGH:
            reason = f"the step that was traced does not give real steps again: {recipe.text}"
        if reason:
            self._recipe = None
            self._tell(self._info(ask, moment, "", reason=f"{reason} ({REMEDY})"))
            self._gate.hold(ask.by, f"{ask.label} was not made: {reason}")
            return
        result = self._now(ask, moment, "recipe")
        self._gate.hold(ask.by, f"{ask.label} is done{': ' + result['partial'] if 'partial' in result else ''}")

    # -- evaluating

    def _now(self, ask: Ask, moment: Place, how: str, split: Split | None = None) -> dict[str, Any]:
        """Evaluate, here."""
        given, recipe = ask.given, self._recipe
        split = split or self._split(ask.kind, given)
        info = self._info(ask, moment, split.name)
        self._running, self._cancelled = ask.label, False
        try:
            if how == "registered" and ask.kind == "test" and self.registered.tests:
                done = self.registered.test(split, roots(), ask.label, given.mode)
            else:
                way = self.registered.way(roots()) if how == "registered" or recipe is None else way_of(recipe)
                about = {"run": info.run, "evaluation": ask.label, "kind": ask.kind, "step": moment.step,
                         "epoch": moment.epoch, "backward": moment.backward, "loader": split.name}  # fmt: skip
                evaluation = Evaluation(split, way, self._ties.lender(), Rows(self._ties.send, about), self._watch(ask))
                embedding = self._embedding(given, way)
                weights = self._weights(given.checkpoint, way)
                if ask.kind == "test":
                    with test_label.next_test(ask.label):
                        done = evaluation.run(given.mode, weights, embedding)
                else:
                    done = evaluation.run(given.mode, weights, embedding)
                info.embeddings = embedding.width if embedding is not None else 0
        finally:
            self._running, self.progress = "", None
        info.count, info.result, info.seconds = done.samples, done.result, done.seconds
        info.partial, info.reason = bool(done.partial), done.partial
        info.how = how
        if how == "recipe" and recipe is not None:
            info.how = f"recipe, {recipe.text}"
            self._check_after(info, moment)
        self._tell(info)
        told = {name: info.result[name] for name in ("loss", "accuracy", "perplexity") if name in info.result}
        return {"evaluation": ask.label, "samples": info.count, **told, "how": info.how,
                **({"partial": info.reason} if info.partial else {})}  # fmt: skip

    def _watch(self, ask: Ask) -> Watch:
        def progress(done: int, of: int) -> None:
            self.progress = ProgressInfo(what=ask.label, done=done, of=of)
            self._gate.changed()

        return Watch(progress, lambda: self._cancelled)

    def _embedding(self, given: Any, way: Way) -> Embedding | None:
        name = getattr(given, "module", "")
        if not name:
            return None
        return Embedding(module_of(way.modules, name), self.registered.embed)

    def _weights(self, name: str, way: Way) -> dict[int, Tensor]:
        if not name:
            return {}
        entry = self._checkpoints.find(name)
        found = entry.snapshot.snapshot.values()
        for module in way.modules:
            for inner, parameter in module.named_parameters():
                if id(parameter) not in found or found[id(parameter)].shape != parameter.shape:
                    raise Refused(f"the checkpoint {entry.name} does not hold {inner}", "choose another")
        return found

    def _info(self, ask: Ask, moment: Place, loader: str, reason: str = "") -> EvaluationInfo:
        return EvaluationInfo(
            kind="test" if ask.kind == "test" else "scan", label=ask.label, run=self._ties.run(), step=moment.step,
            epoch=moment.epoch, loader=loader or ask.given.loader, mode=ask.given.mode, checkpoint=ask.given.checkpoint,
            by=ask.by, began=time.time(), seconds=0.0, count=0, partial=bool(reason), reason=reason, how="",
            verified=not reason,
        )  # fmt: skip

    def _tell(self, info: EvaluationInfo) -> None:
        self.told += 1
        self._ties.send(Evaluated(evaluation=info))
        self._gate.changed()

    # -- the check afterwards

    def _check_after(self, info: EvaluationInfo, moment: Place) -> None:
        """Have the next real step done again as well."""
        self._good_at = moment
        first, self._after = not self._after, [*self._after, info]
        if not first:
            return
        self._trace(moment)
        self._points = 0
        recipe = self._recipe
        assert recipe is not None
        tried, spoiled = recipe.tried, recipe.difference

        def reached(now: Place) -> bool:
            self._passes(now)
            return recipe.tried > tried or self._points >= MAX_POINTS

        def act(now: Place) -> None:
            if self._waiting is None:
                self._end_tracing()
            done, self._after = self._after, []
            for one in done:
                one.how = f"recipe, {recipe.text}" + ("" if recipe.tried > tried else "; no step after it was seen")
                one.verified = not recipe.difference or recipe.difference == spoiled
                self._tell(one)

        self._gate.plan(Plan("the check after a scan", "", reached, same=True, act=act))


def way_of(recipe: Recipe) -> Way:
    """As a recipe does it."""
    return Way(recipe.loss, recipe.modules, recipe.modes, recipe.serves, recipe.rows, recipe.light_loss)
