"""Checkpoints at signals, where that was asked for: the save first, then what the script would have had.

The handler that stands there only notes the signal. Python runs handlers between any two bytecodes of the main thread,
where parameters may be half old, half new; so the checkpoint is made at the gate, after the optimizer's step that is
under way, or at once while the script is paused. When it is on the disk, the script's own handler is called, or what
Python does without one is done. After :data:`SECONDS` that happens in any case; a second signal of the same kind is
passed on at once. (Code of torch that runs long without Python delays all handlers, the script's own as well.)

Handlers are put in place at the first pause point. Earlier ones would be found by libraries that ask whether there is a
handler before they install theirs (Lightning for SLURM's), and there is no training to be kept before. One that the
script installs later replaces ours, as it would any other: ``signal.signal`` is not patched. At each pause point the
handlers are looked at (0.1 us for each signal, while any is asked for), and where the script's stands now, ours goes in
front of it: who has asked for checkpoints at a signal wants them then, too.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from onthefly.core.gate import Plan
from onthefly.core.signal_names import ONLY_SAVE
from onthefly.errors import Refused, outcome, report
from onthefly.state.script import is_ours

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from onthefly.core.gate import Gate, Place

SECONDS = 10.0
"""From the signal to what the script would have had, at most."""

TOLD_SECONDS = 1.0
"""After so long somebody who pressed Ctrl-C wants to know what is waited for."""

ELSEWHERE = "training runs in another thread than the main one, and only there handlers of signals are installed"


class Carried(BaseException):
    """An error of the script's own handler, on its way through our guards, which would take it for one of ours."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Caught:
    """The handler of one signal, in front of the one that was there."""

    __slots__ = ("_came", "name", "number", "previous")

    def __init__(self, name: str, previous: Any, came: Callable[[Caught, FrameType | None], None]) -> None:
        self.name = name
        self.number = int(signal.Signals[name])
        self.previous = previous
        self._came = came

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Python has caught it."""
        self._came(self, frame)

    @property
    def only_saves(self) -> bool:
        """Nothing follows the checkpoint."""
        return self.previous == signal.SIG_IGN or (self.previous == signal.SIG_DFL and self.name in ONLY_SAVE)


class Due:
    """A signal that came, and is to be passed on once."""

    __slots__ = ("_claims", "caught", "until")

    def __init__(self, caught: Caught) -> None:
        self.caught = caught
        self.until = time.monotonic() + SECONDS
        self._claims = [None]

    @property
    def open(self) -> bool:
        """Nobody has passed it on."""
        return bool(self._claims)

    def claim(self) -> bool:
        """Whether the caller is to pass it on: one is, of a handler, the gate and the thread that watches the time.

        By a list's ``pop``, which is atomic: a lock that a handler waits for may be held by what it has interrupted.
        """
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True


class Signals:
    """The handlers of a session. :meth:`catch`, :meth:`serve` and :meth:`around` are the training thread's."""

    def __init__(
        self,
        gate: Gate,
        save: Callable[[Place, str, float], Any],
        notice: Callable[[str, str], None],
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """``save(place, reason, seconds)`` makes a checkpoint and waits for the disk; refuses where that fails.

        ``prepare()`` is called before anything touches the script's tensors.
        """
        self._gate = gate
        self._save = save
        self._notice = notice
        self._prepare = prepare
        self._pid = os.getpid()
        self._names: list[str] = []
        self._due: dict[int, Due] = {}
        """The newest of each signal."""
        self._late: set[int] = set()
        """Those that are sent again because their time is over."""
        self._passing: set[int] = set()
        """Those whose handlers of the script run: one may call the handler that it found, and that is ours."""
        self._serving = self._closed = False
        self._plan: Plan | None = None
        self._watch: queue.SimpleQueue[Due | None] | None = None
        gate.nudged = self.serve

    def expect(self, names: Sequence[str]) -> None:
        """Catch these from the first pause point on."""
        self._names = list(names)
        self._look_on()

    def catch(self, names: Sequence[str]) -> None:
        """From now on these, and no others. Raises :class:`~onthefly.errors.Refused`."""
        if names and not _on_main():
            raise Refused(f"no checkpoint can be made at signals: {ELSEWHERE}")
        foreign = [name for name in names if signal.getsignal(signal.Signals[name]) is None]
        if foreign:
            raise Refused(f"{foreign[0]} has a handler that was not installed from Python, and cannot be called first")
        for name in set(self._names) - set(names):
            self._restore(name)
        self._names = list(names)
        self._compose()
        self._look_on()

    def serve(self, place: Place) -> None:
        """At the gate: save for all signals that wait, and pass them on."""
        waiting = [due for due in self._due.values() if due.open]
        if not waiting:
            return
        names = " and ".join(due.caught.name for due in waiting)
        self._prepare()
        left = min(due.until for due in waiting) - time.monotonic()
        entry, fault = outcome(self._save, place, "signal", max(left, 0.0))
        if fault is None:
            report(f"{names}: checkpoint {entry.name} is on the disk")
        else:
            self._say(f"{names} at step {place.step}: no checkpoint is on the disk: {fault}", "")
        for due in waiting:
            if due.claim():
                self._pass_on(due.caught, None)

    def around(self, serve: Callable[..., None]) -> Callable[..., None]:
        """``serve``, out of which an error of the script's own handler comes as what it is."""

        def served(place: Place) -> None:
            self._serving, error = True, None
            try:
                serve(place)
            except Carried as carried:
                error = carried.error
            finally:
                self._serving = False
            if error is not None:
                raise error  # here, so that it has no context of ours

        return served

    def disarm(self) -> None:
        """Put the handlers back, on the main thread; what still waits has its way. In a forked child nothing waits."""
        self._closed = True
        for name in self._names:
            self._restore(name)
        self._names = []
        if os.getpid() != self._pid:
            return
        if self._watch is not None:
            self._watch.put(None)
        for due in list(self._due.values()):
            if _on_main() and due.claim():
                self._pass_on(due.caught, None)

    def _look_on(self) -> None:
        """Plan the look at the handlers."""
        if self._plan is not None and self._plan in self._gate.plans:
            self._gate.plans.remove(self._plan)
        if self._names:
            self._plan = Plan("checkpoints at signals", "", self._replaced, same=False, act=self._again)
            self._gate.plan(self._plan)

    def _replaced(self, place: Place) -> bool:
        return any(type(signal.getsignal(getattr(signal, name))) is not Caught for name in self._names)

    def _again(self, place: Place) -> None:
        """At the first pause point, or where the script has installed a handler since."""
        names = [name for name in self._names if signal.getsignal(signal.Signals[name]) is not None]
        for name in set(self._names) - set(names):
            self._say(f"no checkpoint is made at {name}: its handler was not installed from Python", "")
        if names and not _on_main():
            self._say(f"no checkpoint is made at {', '.join(names)}: {ELSEWHERE}", "")
            names = []
        self._names = names
        self._compose()
        self._look_on()

    def _compose(self) -> None:
        for name in self._names:
            number = signal.Signals[name]
            previous = signal.getsignal(number)
            if type(previous) is not Caught:
                signal.signal(number, Caught(name, previous, self._came))
        if self._names and self._watch is None:
            self._watch = queue.SimpleQueue()
            threading.Thread(target=self._watch_time, args=[self._watch], name="onthefly-signals", daemon=True).start()

    def _restore(self, name: str) -> None:
        """What was there before ours, if ours is what is there. One that the script keeps passes everything on."""
        number = signal.Signals[name]
        before: Any = signal.getsignal(number)
        previous = before
        while type(previous) is Caught:
            previous = previous.previous
        if previous is not before and _on_main():
            signal.signal(number, previous)

    def _came(self, caught: Caught, frame: FrameType | None) -> None:
        """In the handler, wherever the main thread is: no lock may be taken here."""
        number = caught.number
        if self._closed or os.getpid() != self._pid or self._gate.stopped_by is not None or number in self._passing:
            self._pass_on(caught, frame)
            return
        due = self._due.get(number)
        waits = due is not None and due.open
        if waits and caught.only_saves:
            return  # there is nothing to pass on; the first is about to be saved for
        if number in self._late:
            self._late.discard(number)
            self._pass_on(caught, frame)
            return
        if due is not None and due.claim():
            self._pass_on(caught, frame)  # the first; most do not come back from it
            self._pass_on(caught, frame)
            return
        due = self._due[number] = Due(caught)
        self._gate.nudge()
        if self._watch is not None:
            self._watch.put(due)

    def _pass_on(self, caught: Caught, frame: FrameType | None) -> None:
        """Do what the script would have had, on the main thread."""
        previous = caught.previous
        if callable(previous):
            again = caught.number in self._passing
            self._passing.add(caught.number)
            try:
                given = frame or _not_ours(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
                if self._serving:
                    _, fault = outcome(previous, caught.number, given)
                    if fault is not None:
                        raise Carried(fault)
                else:
                    previous(caught.number, given)
            finally:
                if not again:
                    self._passing.discard(caught.number)
        elif not caught.only_saves:
            signal.signal(caught.number, previous)
            signal.raise_signal(caught.number)

    def _watch_time(self, told: queue.SimpleQueue[Due | None]) -> None:
        """The thread that ends the wait of a signal for a step that does not come."""
        due = told.get()
        while due is not None:
            name = due.caught.name
            time.sleep(min(TOLD_SECONDS, SECONDS))
            if due.open:
                report(f"{name}: a checkpoint follows the step that runs, within {SECONDS:g} s (again: at once)")
            time.sleep(max(due.until - time.monotonic(), 0.0))
            if due.open and due.caught.only_saves:
                self._say(f"{name}: no step has ended within {SECONDS:g} s; the checkpoint follows the next one", "")
            elif due.claim():
                self._say(f"{name}: no step has ended within {SECONDS:g} s, and no checkpoint was made", "")
                self._late.add(due.caught.number)
                _to_main(due.caught.number)
            due = told.get()

    def _say(self, text: str, remedy: str) -> None:
        report(text)
        self._notice(text, remedy)


def _on_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _to_main(number: int) -> None:
    """To the main thread, so that a system call that it waits in is interrupted."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)


def _not_ours(frame: FrameType | None) -> FrameType | None:
    while frame is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame
