"""A trial: from one moment, so many steps without a change and so many with it, on the same data; then a choice.

The script's own loop takes the steps, so what it prints and saves happens twice. Both ways begin from one checkpoint,
and each step of the one is paired with the same step of the other: same batch, same random numbers.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from onthefly.core.gate import Plan
from onthefly.errors import Refused
from onthefly.protocol import TrialInfo, arguments
from onthefly.protocol.runs import Z95

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from onthefly.actions.checkpoints import Checkpoints
    from onthefly.core.gate import Gate, Place
    from onthefly.state.ring import Entry


class Trial:
    """The commands ``trial`` and ``choose``; one at a time."""

    def __init__(self, gate: Gate, checkpoints: Checkpoints, losses: Callable[[int, int], list[float | None]]) -> None:
        """``losses(first, last)``: of the steps from the first on, before the last."""
        self._gate = gate
        self._checkpoints = checkpoints
        self._losses = losses
        self.info: TrialInfo | None = None
        self._given: Any = None
        self._start: Entry | None = None
        self._end: Entry | None = None

    @property
    def running(self) -> bool:
        """Whether one is under way, its choice included."""
        return self.info is not None and self.info.phase != "over"

    def trial(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """The command ``trial``: begins here, and goes on for twice as many steps."""
        if self.running:
            raise Refused("a trial is under way already", "choose ends it")
        try:
            self._given = arguments(given.name, given.args)
        except ValueError as error:
            raise Refused(f"the change is not understood: {error}") from error
        self._start = self._checkpoints.take(moment, "trial")
        reason = self._start.snapshot.snapshot.doubt()
        if reason:
            self._checkpoints.forget(self._start)
            raise Refused(f"there is no way back to here: {reason}", "a trial needs one")
        self.info = TrialInfo(steps=given.steps, change=in_words(given.name, given.args), phase="without",
                              start=moment.step)  # fmt: skip
        self._name, self._by = given.name, by
        self._after(moment.step + given.steps, self._over_without)
        self._gate.go_on(by)
        return {"trial": f"steps {moment.step} to {moment.step + given.steps}, twice", "checkpoint": self._start.name}

    def choose(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """The command ``choose``."""
        info = self.info
        if info is None or info.phase == "over":
            raise Refused("there is no trial to choose from")
        if info.phase != "choose":
            raise Refused("the trial is not through", f"it waits at step {info.start + info.steps}")
        assert self._start is not None
        assert self._end is not None
        entry = {"without": self._end, "neither": self._start}.get(given.keep)
        if entry is not None:
            self._checkpoints.back_to(entry, by)
        self._close(given.keep)
        return {"before": {"trial": info.change}, "after": {"kept": given.keep}}

    def _over_without(self, moment: Place) -> None:
        """The steps without the change are done: once more from the start, with it."""
        info = self.info
        assert info is not None
        assert self._start is not None
        info.without = list(self._losses(info.start, moment.step))
        try:
            self._end = self._checkpoints.take(moment, "trial")
            self._checkpoints.back_to(self._start, self._by)
            self._gate.actions[self._name](self._given, self._start.snapshot.moment, self._by)
        except Refused as refusal:
            info.verdict = f"given up after the steps without the change: {refusal.message}"
            self._close("")
            self._gate.hold(self._by, info.verdict)
            return
        info.phase = "with"
        self._after(info.start + info.steps, self._over_with)

    def _over_with(self, moment: Place) -> None:
        info = self.info
        assert info is not None
        info.changed, info.phase = list(self._losses(info.start, moment.step)), "choose"
        info.effect, info.low, info.high = effect(info.without, info.changed)
        info.verdict = verdict(info)
        self._gate.hold(self._by, f"the trial is through: {info.verdict}")

    def _after(self, step: int, act: Callable[[Place], None]) -> None:
        self._gate.plan(Plan("a trial", self._by, lambda moment: moment.step >= step, same=True, act=act))

    def _close(self, kept: str) -> None:
        info = self.info
        assert info is not None
        info.phase = "over"
        if kept:
            info.verdict += f"; chosen: {kept}"
        for entry in (self._start, self._end):
            if entry is not None:
                self._checkpoints.forget(entry)
        self._start = self._end = None


def in_words(name: str, args: dict[str, Any]) -> str:
    """``lr 0.01``, ``clip norm 1``."""
    if name == "set":
        return " ".join(f"{args[part]}" for part in ("name", "value") if part in args)
    return " ".join([name, *(f"{part} {value}" for part, value in args.items())])


def effect(
    without: Sequence[float | None], changed: Sequence[float | None]
) -> tuple[float | None, float | None, float | None]:
    """Mean of the paired differences (with minus without), and its 95 % interval from their spread.

    The normal interval ``mean +- 1.96 s / sqrt(n)``; steps follow on each other, so that it is a rough one.
    """
    pairs = [b - a for a, b in zip(without, changed) if a is not None and b is not None and math.isfinite(b - a)]
    if not pairs:
        return None, None, None
    mean = statistics.fmean(pairs)
    if len(pairs) < 2:
        return mean, None, None
    half = Z95 * statistics.stdev(pairs) / math.sqrt(len(pairs))
    return mean, mean - half, mean + half


def _lost(losses: Sequence[float | None]) -> int:
    return sum(loss is None or not math.isfinite(loss) for loss in losses)


def verdict(info: TrialInfo) -> str:
    """In words."""
    lost = _lost(info.changed)
    if lost > _lost(info.without):
        return f"with the change {lost} of {len(info.changed)} losses are not finite"
    if info.effect is None:
        return "no step of both gave a finite loss"
    if info.low is None or info.high is None:
        return f"the loss is {abs(info.effect):.4g} {'higher' if info.effect > 0 else 'lower'} in the one step"
    if info.low <= 0 <= info.high:
        return f"no clear difference in {info.steps} steps ({info.effect:+.4g}, {info.low:+.4g} to {info.high:+.4g})"
    word = "higher (worse)" if info.effect > 0 else "lower (better)"
    return f"with the change the loss is {abs(info.effect):.4g} {word} ({info.low:+.4g} to {info.high:+.4g})"
