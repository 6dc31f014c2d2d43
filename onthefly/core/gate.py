"""The gate: the one place where the training thread waits for us, and where commands reach live objects.

Thread rules. Any thread may :meth:`Gate.submit`, :meth:`Gate.propose` and :meth:`Gate.decide`; only the training thread
calls :meth:`Gate.serve`, and only at a point where parameters and optimizer state are consistent (after an optimizer's
step). The hot path is one attribute, :attr:`Gate.waiting`, read at each such point; nothing is locked unless something
waits. What the commands do is not known here: whoever builds the gate registers it.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.errors import Refused, Stop, outcome
from onthefly.protocol import COMMANDS, Answer, Command, Decision, arguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.protocol import CommandArguments, State

MAX_PLANS, MAX_TAKEN = 100, 2000

LOST, NUDGE = -1, -2
"""Numbers of no decision of the hub's: it is gone; something is to be shown."""

PATIENCE, FIRST_PATIENCE = 256, 4
"""Backward calls without an optimizer's step (accumulation) after which none is expected any more, and other places
have to serve (see ``instruments``); and so many at the beginning."""

UNDECIDED_SECONDS = 30.0
"""How long a rank holds for a decision that does not come, before it goes on."""


class Place(NamedTuple):
    """Where the script is when it reaches the gate."""

    step: int
    epoch: int
    backward: int = 0
    point: int = 0
    """Pause points passed: the steps of all optimizers."""


class Plan(NamedTuple):
    """A pause at a later moment, or something else that is done then."""

    text: str
    by: str
    reached: Callable[[Place], bool]
    same: bool
    """All ranks of a job come to it at the same step, as none but a number of steps can promise."""
    act: Callable[[Place], None] | None = None
    """What is done; None: the script is held."""


class Gate:
    """Holds the training thread while a pause lasts, and answers each command exactly once."""

    def __init__(
        self,
        answer: Callable[[Answer], None],
        announce: Callable[[State, str, str], None],
        *,
        ranks: Callable[[], int] = lambda: 1,
        passed: Callable[[], int] = lambda: 0,
        ask: Callable[[str, str], None] = lambda by, reason: None,
    ) -> None:
        """``announce(state, by, reason)`` tells the hub of a change of state; it and ``answer`` must not block.

        ``ranks()`` says how many ranks train together now: a script may become one of them when it has begun.
        ``passed()`` gives the steps that are finished, from any thread. ``ask(by, reason)`` has all ranks pause.
        """
        self.waiting = False
        """Something waits: read by the training thread at every pause point."""
        self.missed = PATIENCE - FIRST_PATIENCE
        """Backward calls since an optimizer's step came by here, while something waited."""
        self.paused = self.away = False
        """``away``: the training thread does steps of our own, which are no place to hold at."""
        self.prepare: Callable[[Any, Any, Any], Any] | None = None
        """Called before each outermost step of an optimizer, with its arguments; gives them changed, or None."""
        self.watch: Any = None
        """Told before and after each backward call (``backward(roots)``, ``backward_ended()``); None: nobody asks."""
        self.stopped_by: str | None = None
        """Who stopped the script here; None: nobody."""
        self.plans: list[Plan] = []
        """What is planned for a later moment; the training thread's alone."""
        self.changed: Callable[[], None] = lambda: None
        """Called on the training thread after something was done, and before it is held."""
        self.held: Callable[[], None] = lambda: None
        """Called on the training thread when a pause begins."""
        self.nudged: Callable[[Place], None] = lambda place: None
        """Called on the training thread after :meth:`nudge`; what it raises that is no ``Exception`` ends a pause."""
        self.interrupted: Callable[[], None] = lambda: None
        """Called on the training thread when a pause ends by no command; it must not fail."""
        self.failed: Callable[[str, Exception], None] = lambda text, fault: None
        """Called on the training thread when what was planned could not be done."""
        self._queue: queue.SimpleQueue[Command | Decision] = queue.SimpleQueue()
        self._ripe: list[Plan] = []
        """Those whose moment has come; each is asked for that once at a pause point."""
        self._later: list[Command] = []
        """Commands that all ranks do at one step, by that step."""
        self._agreed: set[int] = set()
        """Numbers of those that all ranks will do: the others are taken back where the hub is lost."""
        self._taken: dict[str, None] = {}
        """Ids of the newest commands: the hub sends one again that it has no answer of after a connection broke."""
        self._at = Place(0, 0)
        """Where the script stands while it is here."""
        self._boundary: tuple[int, int] | None = None
        """Number and step of a proposal that is not decided: the thread does not go past that step."""
        self._answer = answer
        self._announce = announce
        self._ranks = ranks
        self._passed = passed
        self._ask = ask
        self._closed = False
        self.actions: dict[str, Callable[[Any, Place, str], dict[str, Any] | None]] = {
            "pause": self.pause, "resume": self._resume, "step": self._step, "cancel": self._cancel,
            "stop": self._stop,
        }  # fmt: skip
        """What each command does."""

    def register(self, name: str, action: Callable[[Any, Place, str], dict[str, Any] | None]) -> None:
        """``action(arguments, place, by)`` does that command on the training thread; what it returns is the result.

        It raises :class:`~onthefly.errors.Refused` where it did nothing, and says why.
        """
        self.actions[name] = action

    def submit(self, command: Command) -> None:
        """Take a command from any thread; it is answered at a pause point, or when the session closes."""
        if self._closed:
            self._answer(_refusal(command, -1, "the script has ended", ""))
            return
        if command.id in self._taken:
            return
        self._taken[command.id] = None
        if len(self._taken) > MAX_TAKEN:
            del self._taken[next(iter(self._taken))]
        if command.name == "pause" and not command.args and not self.paused and command.at < 0:
            self._announce("pausing", command.by, "")
        self._queue.put(command)
        self.waiting = True

    def propose(self, n: int, step: int) -> tuple[bool, int]:
        """From the link's thread: whether this rank will not go past ``step``, and the steps it has finished.

        The boundary is set before the count is read, and the training thread counts before it looks at the boundary:
        so one of the two sees the other.
        """
        self._boundary = (n, step)
        self.waiting = True
        passed = self._passed()
        accepted = not self._closed and passed < step
        if not accepted:
            self._boundary = None
        return accepted, passed

    def decide(self, n: int, *, go: bool) -> None:
        """From the link's thread: what was proposed under that number holds, or does not; ``LOST``: nothing does."""
        self._queue.put(Decision(n=n, go=go))
        self.waiting = True

    def nudge(self) -> None:
        """From any thread: something was done elsewhere that clients are to be shown; see :attr:`changed`."""
        self._queue.put(Decision(n=NUDGE, go=False))
        self.waiting = True

    def due(self, place: Place) -> bool:
        """On the training thread, where :attr:`waiting` is set: whether anything is to be done here."""
        if self.paused or not self._queue.empty() or self._undecided(place):
            return not self.away
        return not self.away and (self._ripen(place) or any(command.at <= place.step for command in self._later))

    def serve(self, place: Place) -> None:
        """On the training thread: do what waits, and hold while paused. Raises :class:`~onthefly.errors.Stop`.

        An interrupt (Ctrl-C) while paused ends the pause and passes on, as it would under plain Python.
        """
        self._at = place
        try:
            self._come_to()
            while self.paused or self._undecided() or not self._queue.empty():
                self._take()
        finally:
            if self.paused:
                self.paused = False
                self.interrupted()
                self._announce("running", "", "the pause was interrupted")
            self.waiting = False  # before the look at what there is: another thread sets it last
            if self.plans or self._later or self._boundary is not None or not self._queue.empty():
                self.waiting = True

    def moved(self, place: Place) -> None:
        """On the training thread: the script has gone back, and stands there now."""
        self._at = place

    def refuse(self, reason: str) -> None:
        """On the training thread, at a point that is none to hold at: answer what waits."""
        self.waiting = False
        while not self._queue.empty():
            item = self._queue.get()
            if isinstance(item, Command):
                self._answer(_refusal(item, -1, reason, ""))
        if not self.paused:
            self._announce("running", "", "")

    def stay(self, place: Place, reason: str) -> None:
        """The script has finished: hold it as if paused, until a command or an interrupt lets it end."""
        self._at = place
        self._hold("", reason)
        try:
            while self.paused:
                self._take()
        except (Stop, KeyboardInterrupt):
            self.paused = False
            self.interrupted()

    def hold(self, by: str, reason: str, *, same: bool = False) -> None:
        """On the training thread: the script is to be held here, or in several ranks by all as soon as they agree.

        ``same``: all of them come to hold at this step.
        """
        if self._ranks() > 1 and not same:
            self._ask(by, reason)
        else:
            self._hold(by, reason)

    def close(self, place: Place) -> None:
        """No pause point will come any more: refuse what still waits."""
        self._closed = True
        waiting = [*self._later]
        while not self._queue.empty():
            item = self._queue.get()
            waiting += [item] if isinstance(item, Command) else []
        for command in waiting:
            self._answer(_refusal(command, place.step, "the script ended before its next optimizer step", ""))

    def _hold(self, by: str, reason: str) -> None:
        if not self.paused:
            self.paused = True
            self.held()
            self.changed()
            self._announce("paused", by, reason)

    def _come_to(self) -> None:
        """What was planned for here, and what all ranks do at this step."""
        place = self._at
        if not self._ripe:
            self._ripen(place)
        ripe, self._ripe = self._ripe, []
        for plan in ripe:
            if plan.act is not None:
                _, fault = outcome(plan.act, place)
                if fault is not None:
                    self.failed(plan.text, fault)
            elif plan.same or self._ranks() == 1:
                self._hold(plan.by, _reached(plan))
            else:
                self._ask(plan.by, _reached(plan))
        for command in [command for command in self._later if command.at <= place.step]:
            self._later.remove(command)
            self._agreed.discard(command.n)
            self._do(command)

    def _ripen(self, place: Place) -> bool:
        """Whether the moment of any plan has come; one that cannot tell is given up."""
        number = 0
        while number < len(self.plans):  # one that is asked may plan another, for here
            plan = self.plans[number]
            reached, fault = outcome(plan.reached, place)
            if reached or fault is not None:
                del self.plans[number]
            else:
                number += 1
            if fault is not None:
                self.failed(plan.text, fault)
            elif reached:
                self._ripe.append(plan)
        return bool(self._ripe)

    def _undecided(self, place: Place | None = None) -> bool:
        boundary = self._boundary  # once: another thread may take it away
        return boundary is not None and (place or self._at).step >= boundary[1]

    def _take(self) -> None:
        """Wait for the next thing, and do it."""
        place = self._at
        try:
            item = self._queue.get() if not self._undecided() else self._queue.get(timeout=UNDECIDED_SECONDS)
        except queue.Empty:
            self._boundary = None  # the hub is gone: hold nobody
            return
        if isinstance(item, Decision):
            self._decided(item)
        elif item.at > place.step:
            self._later.append(item)
        elif 0 <= item.at < place.step:
            self._answer(_refusal(item, place.step, f"step {item.at} is behind: {place.step} are finished", ""))
        else:
            self._do(item)

    def _decided(self, decision: Decision) -> None:
        """What was proposed holds or does not; where it does not, its command may come again."""
        if self._boundary is not None and decision.n in (LOST, self._boundary[0]):
            self._boundary = None
        if decision.go:
            self._agreed.update(command.n for command in self._later if command.n == decision.n)
        elif decision.n == NUDGE:
            self.nudged(self._at)
        else:
            for command in [*self._later]:
                if command.n == decision.n or (decision.n == LOST and command.n not in self._agreed):
                    self._later.remove(command)
                    self._taken.pop(command.id, None)
        self.changed()

    def _do(self, command: Command) -> None:
        place = self._at
        action = self.actions.get(command.name)
        if action is None or command.name not in COMMANDS:
            known = ", ".join(self.actions)
            self._answer(_refusal(command, place.step, f"unknown command {command.name!r}", f"known here: {known}"))
            return
        try:
            given = arguments(command.name, command.args)
        except ValueError as error:
            self._answer(_refusal(command, place.step, str(error), ""))
            return
        result, fault = outcome(action, given, place, command.by)
        place = self._at  # which a rewind has changed
        if isinstance(fault, Refused):
            answer = _refusal(command, place.step, fault.message, fault.remedy)
        elif fault is not None:
            answer = Answer(id=command.id, n=command.n, status="failed", step=place.step,
                            reason=f"{type(fault).__name__}: {fault}"[:500], remedy="please report it")  # fmt: skip
        else:
            answer = Answer(id=command.id, n=command.n, status="applied", step=place.step, result=result or {})
        self.changed()
        self._answer(answer)
        if self.stopped_by is not None:
            raise Stop

    def pause(self, given: Any, place: Place, by: str) -> dict[str, Any]:
        """The command ``pause``, but for ``when``."""
        if given.step is not None:
            if given.step <= place.step:
                raise Refused(f"step {given.step} is behind: {place.step} are finished")
            self.plan(Plan(f"step {given.step}", by, lambda now: now.step >= given.step, True))
            return {"planned": f"step {given.step}"}
        if given.epoch is not None:
            if given.epoch <= place.epoch:
                raise Refused(f"epoch {given.epoch} has begun: the script is in epoch {place.epoch}")
            self.plan(Plan(f"epoch {given.epoch}", by, lambda now: now.epoch >= given.epoch, False))
            return {"planned": f"epoch {given.epoch}"}
        # A moment that one rank has seen holds all of them: in no other is it to come again.
        self.plans = [plan for plan in self.plans if plan.same or _reached(plan) != given.because]
        self._hold(by, given.because)
        return {}

    def plan(self, plan: Plan) -> None:
        """On the training thread: do that when its moment has come."""
        if len(self.plans) >= MAX_PLANS:
            raise Refused(f"{MAX_PLANS} pauses are planned already", "cancel forgets them")
        self.plans.append(plan)
        self.waiting = True

    def _resume(self, given: CommandArguments, place: Place, by: str) -> None:
        if not self.paused:
            raise Refused("the script is not paused")
        self.go_on(by)

    def go_on(self, by: str) -> None:
        """On the training thread: the pause is over."""
        if self.paused:
            self.paused = False
            self._announce("running", by, "")

    def _step(self, given: Any, place: Place, by: str) -> dict[str, Any]:
        end = place.step + given.steps
        self.plan(Plan(f"step {end}", by, lambda now: now.step >= end, True))
        self.go_on(by)
        return {"planned": f"step {end}"}

    def _cancel(self, given: CommandArguments, place: Place, by: str) -> dict[str, Any]:
        forgotten = [plan.text for plan in self.plans if plan.act is None]
        self.plans = [plan for plan in self.plans if plan.act is not None]
        return {"forgotten": forgotten}

    def _stop(self, given: CommandArguments, place: Place, by: str) -> None:
        self.paused = False
        self.stopped_by = by


def _reached(plan: Plan) -> str:
    return f"{plan.text} was reached"


def _refusal(command: Command, step: int, reason: str, remedy: str) -> Answer:
    return Answer(id=command.id, n=command.n, status="refused", step=step, reason=reason, remedy=remedy)
