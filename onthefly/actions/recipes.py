"""The recipe of the script's step, traced when it is asked for: the script is let go for the steps that this takes.

To see one step and to do others again takes at most :data:`MAX_POINTS` pause points; then the script is held again.
What was made with a recipe has the next real step done again as well.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.core.gate import Plan
from onthefly.errors import Refused, outcome
from onthefly.insight.recipe import REMEDY, Recipe
from onthefly.insight.trace import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from onthefly.actions.work import Work
    from onthefly.core.gate import Gate, Place
    from onthefly.errors import Guard
    from onthefly.insight.operations import Step

MAX_POINTS = 12
"""Pause points that a recipe may take: four steps of a script with three optimizers."""

ENOUGH = 2
"""Real steps that a recipe must give again before it is used."""


class Waiting(NamedTuple):
    """Somebody who needs a recipe."""

    label: str
    come: Callable[[Place, str], None]
    """Called at the pause point where it is there, or with the reason why none is."""


class Recipes:
    """One recipe at a time, and those who wait for it."""

    def __init__(self, gate: Gate, work: Work, guard: Guard) -> None:
        self._gate, self.work, self._guard = gate, work, guard
        self._forget = gate.actions["cancel"]
        gate.register("cancel", self._cancel)
        self.recipe: Recipe | None = None
        """The newest; whether it is good here says :meth:`good`."""
        self.refusal: Refused | None = None
        """Why the last step that was seen makes no recipe."""
        self._waiting: Waiting | None = None
        self._tracer: Tracer | None = None
        self._seen: Any = None
        """The pause point that was passed last while a step was traced."""
        self._points = 0
        self._good_at: Any = None
        """The pause point at which the recipe was good last."""
        self._checks: list[Callable[[str, bool], None]] = []
        """Told of what the next real step says."""

    def good(self, moment: Place) -> Recipe | None:
        """The recipe, where it can be used at this pause point as it is."""
        return self.recipe if self._good_at == moment else None

    def stands_at(self, moment: Place) -> None:
        """The script stands where it stood, which is counted otherwise from now on: the recipe is good there, too."""
        self._good_at = moment

    @property
    def waiting(self) -> str:
        """Who waits for a recipe; empty: nobody."""
        return self._waiting.label if self._waiting is not None else ""

    @property
    def free(self) -> bool:
        """Nobody waits for a recipe, and none is to be checked."""
        return self._waiting is None and not self._checks

    def fetch(self, label: str, by: str, moment: Place, come: Callable[[Place, str], None]) -> str:
        """Let the script go until there is a recipe, for ``label``; what a client is told of that."""
        self._waiting = Waiting(label, come)
        self.work.show(f"{label} waits for a step that can be done again", 0, ENOUGH)
        self.recipe, self.refusal = None, None
        self.trace(moment)
        self._gate.plan(Plan(f"steps for {label}", by, self._reached, same=True, act=self._come))
        self._gate.go_on(by)
        return f"the script does {ENOUGH} steps first, which are done again"

    def check_after(self, moment: Place, tell: Callable[[str, bool], None]) -> None:
        """Have the next real step done again as well: ``tell(in words, whether it came out as those before)``."""
        self.stands_at(moment)
        first, self._checks = not self._checks, [*self._checks, tell]
        recipe = self.recipe
        if not first or recipe is None:
            return
        self.trace(moment)
        tried, spoiled = recipe.tried, recipe.difference

        def reached(now: Place) -> bool:
            self._passes(now)
            return recipe.tried > tried or self._points >= MAX_POINTS

        def act(now: Place) -> None:
            if self._waiting is None:
                self.end()
            done, self._checks = self._checks, []
            for tell in done:
                tell(f"recipe, {recipe.text}" + ("" if recipe.tried > tried else "; no step after it was seen"),
                     not recipe.difference or recipe.difference == spoiled)  # fmt: skip

        self._gate.plan(Plan("the check after a scan", "", reached, same=True, act=act))

    def look(self, moment: Place, done: Callable[[Place], None]) -> None:
        """Trace steps as they come by, without holding the script; ``done`` is called when the recipe is good."""
        self.trace(moment)
        tried = self.recipe.tried if self.recipe is not None else -1

        def reached(now: Place) -> bool:
            if not self.free:
                return True  # another one sees steps for itself
            self._passes(now)
            recipe = self.recipe
            return (recipe is not None and recipe.tried >= max(tried + 1, ENOUGH)) or self._points >= MAX_POINTS

        def act(now: Place) -> None:
            if self.free:
                self.end()
            done(now)

        self._gate.plan(Plan("steps for the test after training", "", reached, same=True, act=act))

    def close(self) -> None:
        """The script has ended: no step comes any more."""
        self.end()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.come(self._seen, "the script ended before its steps were done")
        recipe, checks, self._checks = self.recipe, self._checks, []
        for tell in checks:
            text = recipe.text if recipe is not None else ""
            tell(f"recipe, {text}; the script ended before a step after it", True)

    def _cancel(self, given: Any, moment: Place, by: str) -> Any:
        """The command ``cancel``, where it is for what runs or waits; else that of pauses."""
        label = self.work.cancelled()
        if not label and self._waiting is not None:
            label, self._waiting = self._waiting.label, None
            self.work.progress = None
            self.end()
        return {"cancelled": label} if label else self._forget(given, moment, by)

    def trace(self, moment: Place) -> None:
        """See steps from now on."""
        self.end()
        self._tracer, self._seen, self._points = Tracer(self._guard, self._stepped), moment, 0
        self._tracer.begin()

    def end(self) -> None:
        """See no more."""
        tracer = self._tracer
        if tracer is not None and not tracer.end():
            self._gate.plan(Plan("the end of a trace", "", lambda _: tracer.end(), same=True, act=lambda _: None))
        self._tracer = None

    @contextlib.contextmanager
    def unseen(self, moment: Place) -> Generator[None, None, None]:
        """What is done here meanwhile is no step of the script's, and is not traced as one."""
        seeing = self._tracer is not None
        self.end()
        try:
            yield
        finally:
            if seeing:
                self.trace(moment)

    def _stepped(self, step: Step) -> None:
        """A loss that depends on a batch is about to be back-propagated."""
        recipe = self.recipe
        if recipe is None:
            made, fault = outcome(Recipe, step)
            if fault is not None and not isinstance(fault, Refused):
                raise fault
            self.recipe = recipe = made
            self.refusal = fault
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
        recipe = self.recipe
        if recipe is not None and (recipe.reproduced >= ENOUGH or recipe.difference):
            return True
        return self._points >= (MAX_POINTS if self.refusal is None else 3)

    def _come(self, moment: Place) -> None:
        """The steps are done."""
        waiting, self._waiting = self._waiting, None
        self.end()
        self.work.progress = None
        if waiting is None:
            return
        recipe, reason = self.recipe, ""
        if recipe is None:
            reason = self.refusal.message if self.refusal else "no loss was seen that depends on a batch of a loader"
        elif recipe.difference or recipe.reproduced < ENOUGH:
            reason = f"the step that was traced does not give real steps again: {recipe.text}"
        if reason:
            self.recipe = None
            reason = f"{reason} ({REMEDY})"
        else:
            self.stands_at(moment)
        waiting.come(moment, reason)
