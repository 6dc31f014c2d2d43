"""Tests and scans at a pause: the commands ``test`` and ``scan``, and what comes of them.

Where the script has registered nothing, they are made with a recipe of its step (:mod:`onthefly.actions.recipes`), and
told once more with what the next real step gave.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.actions.living import roots
from onthefly.core import test_label
from onthefly.core.gate import Plan
from onthefly.errors import Refused, outcome, report
from onthefly.insight import loaders
from onthefly.insight.embeddings import Embedding, module_of
from onthefly.insight.evaluation import Evaluation, Way, obstacle
from onthefly.insight.lightning import STEPS, evaluation_step
from onthefly.insight.recipe import REMEDY, Recipe
from onthefly.insight.registered import Registered
from onthefly.insight.rows import Rows
from onthefly.insight.split import Split
from onthefly.protocol import Evaluated, EvaluationInfo, arguments
from onthefly.state.frames import named, script_frames

if TYPE_CHECKING:
    from torch import Tensor

    from onthefly.actions.checkpoints import Checkpoints
    from onthefly.actions.control import Ties
    from onthefly.actions.recipes import Recipes
    from onthefly.core.gate import Gate, Place


class Ask(NamedTuple):
    """What is asked for."""

    kind: str
    label: str
    given: Any
    by: str


class Weights(NamedTuple):
    """Whose model is evaluated."""

    run: str
    step: int
    values: dict[int, Tensor]
    """Of its parameters and buffers, by the ``id`` of those that live; empty: as they are."""


class Insight:
    """The commands ``test`` and ``scan``; one at a time."""

    def __init__(self, ties: Ties, gate: Gate, checkpoints: Checkpoints, recipes: Recipes) -> None:
        self._ties, self._gate, self._checkpoints, self._recipes = ties, gate, checkpoints, recipes
        for name, action in {"test": self.test, "scan": self.scan}.items():
            gate.register(name, action)
        self.told = 0
        """Evaluations that were told, changes to them included."""
        self.registered = Registered()
        """What the script has given us to evaluate with."""
        self._scans = 0
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

    # -- a test after training

    def test_after(self, moment: Place) -> None:
        """Have a step seen from the first one on, and again in each epoch: there is no step after the last."""
        self._final = arguments("test", {})
        self._look_ahead(moment)

    def _look_ahead(self, moment: Place) -> None:
        self._recipes.look(moment, self._looked)

    def _looked(self, now: Place) -> None:
        split, _ = outcome(self.split, "test", self._final)
        self._final_split = split or self._final_split
        self._gate.plan(Plan("a step for the test after training", "", lambda then: then.epoch > now.epoch,
                             same=True, act=self._look_ahead))  # fmt: skip

    def finish(self, error: BaseException | None) -> None:
        """The script has come to its end, by ``error`` if there is one: the test after training."""
        given, self._final = self._final, None
        if given is None or error is not None or self._ties.ranks() > 1:
            return
        self._recipes.end()
        moment, ask = self._ties.place(), Ask("test", test_label.take(), given, "--test-after")
        split, fault = outcome(self.split, "test", given)
        split, recipe, registered = self._final_split or split, self._recipes.recipe, self.registered.serves("test")
        reason = "" if split is not None else str(fault)
        if not reason and not registered and (recipe is None or recipe.difference):
            reason = recipe.text if recipe is not None else str(self._recipes.refusal or "no step was seen")
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
        self.check(f"a {kind}")
        split = self.split(kind, given)  # refuses where there is no such loader
        if given.checkpoint:
            self._checkpoints.find(given.checkpoint)
        ask = Ask(kind, self.label(kind), given, by)
        how = given.using or ("registered" if self.registered.serves(kind) else "recipe")
        if given.using == "framework" or (not given.using and how == "recipe" and kind == "test"):
            how = self._framework(ask, split) or how
        if how == "registered":
            self.registered.check(kind)
        elif how == "recipe" and self._recipes.good(moment) is None:
            return {"evaluation": ask.label, "waits": self._recipes.fetch(
                ask.label, by, moment, lambda now, reason: self._come(ask, now, reason))}  # fmt: skip
        return self._now(ask, moment, how)

    def _framework(self, ask: Ask, split: Split) -> str:
        """The framework's own evaluation step, where it serves; empty: the training's does."""
        step, reason = None, "an evaluation step has no mode of training"
        if ask.given.mode == "eval":
            step = evaluation_step(roots(), test="test" in split.name.lower())
            reason = "no framework is known here that evaluates in steps of its own"
        if step is not None:
            reason = obstacle(split, step.way(roots()), self._ties.lender())
            reason = reason and f"{step.name} does not serve: {reason}"
        if reason and ask.given.using:
            raise Refused(reason, "leave out using, and the training's own step serves")
        if reason and step is not None:
            self._ties.notice(f"{ask.label} is made with the training's step: {reason}", "")
        return step.name if step is not None and not reason else ""

    def check(self, what: str) -> None:
        """Refuse where none can be made."""
        if not self._gate.paused:
            raise Refused(f"{what} is made at a pause", "onthefly ctl SESSION pause")
        if self._ties.ranks() > 1:
            raise Refused(f"{what} of several ranks is not in this version")
        if self._recipes.waiting:
            raise Refused(f"{self._recipes.waiting} waits for steps of the script", "cancel ends it")

    def label(self, kind: str) -> str:
        """Of the next test or scan."""
        if kind == "test":
            return test_label.take()
        self._scans += 1
        return f"scan_{self._scans}"

    def split(self, kind: str, given: Any) -> Split:
        """The samples that are meant, of one of the script's loaders."""
        frames = script_frames(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        try:
            known = loaders.known(self._ties.loaders(), named(frames))
        finally:
            del frames
        name, loader = loaders.chosen(known, given.loader, test=kind == "test")
        return Split(loader, name, getattr(given, "samples", ()))

    def _come(self, ask: Ask, moment: Place, reason: str) -> None:
        """There is a recipe, or none for this reason: evaluate, and hold the script."""
        if reason:
            self._tell(self._info(ask, moment, "", reason=reason))
            self._gate.hold(ask.by, f"{ask.label} was not made: {reason}")
            return
        result = self._now(ask, moment, "recipe")
        self._gate.hold(ask.by, f"{ask.label} is done{': ' + result['partial'] if 'partial' in result else ''}")

    # -- evaluating

    def _now(self, ask: Ask, moment: Place, how: str, split: Split | None = None) -> dict[str, Any]:
        """Evaluate, here."""
        info, _ = self.evaluate(ask, moment, how, split or self.split(ask.kind, ask.given))
        told = {name: info.result[name] for name in ("loss", "accuracy", "perplexity") if name in info.result}
        return {"evaluation": ask.label, "samples": info.count, **told, "how": info.how,
                **({"partial": info.reason} if info.partial else {})}  # fmt: skip

    def evaluate(
        self, ask: Ask, moment: Place, how: str, split: Split, of: Weights | None = None
    ) -> tuple[EvaluationInfo, list[Tensor]]:  # fmt: skip
        """Evaluate and tell of it; with the losses of the samples, batch by batch, where ``of`` is given."""
        recipe = self._recipes.recipe
        info = self._info(ask, moment, split.name)
        if of is not None:
            info.run, info.step = of.run, of.step
        losses: list[Tensor] = []
        with self._recipes.unseen(moment), self._recipes.work.under_way(ask.label) as watch:
            if how == "registered" and ask.kind == "test" and self.registered.tests and of is None:
                done = self.registered.test(split, roots(), ask.label, ask.given.mode)
            else:
                way = self.way(how)
                about = {"run": info.run, "evaluation": ask.label, "kind": ask.kind, "step": info.step,
                         "epoch": moment.epoch, "backward": moment.backward, "loader": split.name}  # fmt: skip
                rows = Rows(self._ties.send, about, losses if of is not None else None)
                evaluation = Evaluation(split, way, self._ties.lender(), rows, watch)
                embedding = self._embedding(ask.given, way)
                weights = of.values if of is not None else self._weights(ask.given.checkpoint, way)
                with test_label.next_test(ask.label) if ask.kind == "test" else contextlib.nullcontext():
                    done = evaluation.run(ask.given.mode, weights, embedding)
                info.embeddings = embedding.width if embedding is not None else 0
        info.count, info.result, info.seconds = done.samples, done.result, done.seconds
        info.partial, info.reason = bool(done.partial), done.partial
        info.how = how
        if how == "recipe" and recipe is not None:
            info.how = f"recipe, {recipe.text}"
            self._recipes.check_after(moment, lambda text, good: self._checked(info, text, good))
        self._tell(info)
        return info, losses

    @property
    def stepping(self) -> str:
        """By what a batch becomes a loss here: what the script registered comes first."""
        return "registered" if self.registered.serves("scan") else "recipe"

    def way(self, how: str) -> Way:
        """How a batch becomes a loss."""
        recipe = self._recipes.recipe
        if how in STEPS:
            step = evaluation_step(roots(), how)
            if step is None:
                raise Refused(f"there is no {how} any more")
            return step.way(roots())
        return self.registered.way(roots()) if how == "registered" or recipe is None else way_of(recipe)

    def _checked(self, info: EvaluationInfo, text: str, good: bool) -> None:
        """What the step after it says."""
        info.how, info.verified = text, good
        self._tell(info)

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


def way_of(recipe: Recipe) -> Way:
    """As a recipe does it."""
    rows = recipe.rows if recipe.sized else 0
    return Way(recipe.loss, recipe.modules, recipe.modes, recipe.serves, rows, recipe.light_loss)
