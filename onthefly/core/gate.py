"""The gate: the one place where the training thread waits for us, and where commands reach live objects.

Thread rules. Any thread may :meth:`Gate.submit`; only the training thread calls :meth:`Gate.serve`, and only at a
point where parameters and optimizer state are consistent (after an optimizer's step). The hot path is one attribute,
:attr:`Gate.waiting`, read at each such point; nothing is locked unless something waits.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, NamedTuple

from onthefly.errors import Stop
from onthefly.protocol import Answer, Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.protocol import State


class Place(NamedTuple):
    """Where the script is when it reaches the gate."""

    step: int
    epoch: int


class Gate:
    """Holds the training thread while a pause lasts, and answers each command exactly once."""

    def __init__(
        self,
        answer: Callable[[Answer], None],
        announce: Callable[[State, str, str], None],
        *,
        world_size: Callable[[], int] = lambda: 1,
    ) -> None:
        """``announce(state, by, reason)`` tells the hub of a change of state; both callables must not block.

        ``world_size()`` says how many ranks train together now: a script may become one of them when it has begun.
        """
        self.waiting = False
        """A command waits: read by the training thread at every pause point."""
        self.paused = False
        self.stopped_by: str | None = None
        """Who stopped the script here; None: nobody."""
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._answer = answer
        self._announce = announce
        self._world_size = world_size
        self._closed = False
        self._actions: dict[str, Callable[[Command, Place], Answer]] = {
            "pause": self._pause,
            "resume": self._resume,
            "stop": self._stop,
        }

    def submit(self, command: Command) -> None:
        """Take a command from any thread; it is answered at the next pause point, or when the session closes."""
        if self._closed:
            self._answer(_refusal(command, -1, "the script has ended", ""))
            return
        if command.name == "pause" and self._world_size() == 1 and not self.paused:
            self._announce("pausing", command.by, "")
        self._commands.put(command)
        self.waiting = True

    def serve(self, place: Place) -> None:
        """On the training thread: do what waits, and hold while paused. Raises :class:`~onthefly.errors.Stop`.

        An interrupt (Ctrl-C) while paused ends the pause and passes on, as it would under plain Python.
        """
        self.waiting = False
        try:
            while self.paused or not self._commands.empty():
                self._do(self._commands.get(), place)
        finally:
            if self.paused:
                self.paused = False
                self._announce("running", "", "the pause was interrupted")

    def refuse(self, reason: str) -> None:
        """On the training thread, at a point that is none to hold at: answer what waits."""
        self.waiting = False
        while not self._commands.empty():
            self._answer(_refusal(self._commands.get(), -1, reason, ""))
        if not self.paused:
            self._announce("running", "", "")

    def stay(self, place: Place, reason: str) -> None:
        """The script has finished: hold it as if paused, until a command or an interrupt lets it end."""
        self.paused = True
        self._announce("paused", "", reason)
        try:
            while self.paused:
                self._do(self._commands.get(), place)
        except (Stop, KeyboardInterrupt):
            self.paused = False

    def close(self, place: Place) -> None:
        """No pause point will come any more: refuse what still waits."""
        self._closed = True
        while not self._commands.empty():
            command = self._commands.get()
            self._answer(_refusal(command, place.step, "the script ended before its next optimizer step", ""))

    def _do(self, command: Command, place: Place) -> None:
        action = self._actions.get(command.name)
        if action is None:
            known = ", ".join(self._actions)
            self._answer(_refusal(command, place.step, f"unknown command {command.name!r}", f"known here: {known}"))
            return
        self._answer(action(command, place))
        if command.name == "stop":
            raise Stop

    def _pause(self, command: Command, place: Place) -> Answer:
        ranks = self._world_size()
        if ranks > 1:
            return _refusal(
                command, place.step,
                f"this script runs in {ranks} ranks, and pausing one alone would kill the job",
                "pausing all ranks at one step is not in this version; use stop, or let it run",
            )  # fmt: skip
        if not self.paused:
            self.paused = True
            self._announce("paused", command.by, "")
        return _applied(command, place)

    def _resume(self, command: Command, place: Place) -> Answer:
        if not self.paused:
            return _refusal(command, place.step, "the script is not paused", "")
        self.paused = False
        self._announce("running", command.by, "")
        return _applied(command, place)

    def _stop(self, command: Command, place: Place) -> Answer:
        self.paused = False
        self.stopped_by = command.by
        return _applied(command, place)


def _applied(command: Command, place: Place) -> Answer:
    return Answer(id=command.id, n=command.n, status="applied", step=place.step)


def _refusal(command: Command, step: int, reason: str, remedy: str) -> Answer:
    return Answer(id=command.id, n=command.n, status="refused", step=step, reason=reason, remedy=remedy)
