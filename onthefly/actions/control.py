"""The desk of a session: the gate, what each command does, the journal, and what clients are shown of all that."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from onthefly.actions import journal
from onthefly.actions.gradients import Gradients
from onthefly.actions.optimizers import Optimizers
from onthefly.core.gate import Gate
from onthefly.errors import outcome, report
from onthefly.protocol import (
    Answer,
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
    arguments,
    plain,
)  # fmt: skip

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable
    from pathlib import Path

    from torch.optim import Optimizer

    from onthefly.core.gate import Place
    from onthefly.protocol import AgentMessage, State

GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL, where the script is to end at once."""


class Control:
    """Everything that can be done to the script; the training thread's, but for :meth:`take`."""

    def __init__(
        self,
        send: Callable[[AgentMessage], None],
        announce: Callable[[State, str, str], None],
        *,
        ranks: Callable[[], int],
        passed: Callable[[], int],
        run: Callable[[], str],
        notice: Callable[[str, str], None],
    ) -> None:
        """``send`` and ``announce`` must not block; ``run()`` is the name of the run; the rest is the gate's."""
        self._send = send
        self._announce = announce
        self._notice = notice
        self._shown: Controls | None = None
        self.gate = Gate(
            lambda answer: send(Answered(answer=answer)), announce, ranks=ranks, passed=passed,
            ask=lambda by, reason: send(Asked(name="pause", by=by, reason=reason)),
        )  # fmt: skip
        self.gate.changed = self.show
        self.seen: list[weakref.ref[Optimizer]] = []
        """Optimizers in the order of their first step; their instrument fills it."""
        self._journal = journal.Journaling(lambda entry: send(Journaled(entry=entry)), run)
        self._optimizers = Optimizers(self.seen)
        self._gradients = Gradients(self._optimizers, self._prepare)
        for name, action in {
            "set": self._optimizers.set,
            "clip": self._gradients.clip,
            "freeze": self._gradients.freeze,
            "unfreeze": self._gradients.unfreeze,
        }.items():
            self.gate.register(name, self._journaled(name, action))

    def take(self, message: Command | Propose | Decision) -> None:
        """From the link's thread: what the hub says."""
        if isinstance(message, Propose):
            accepted, step = self.gate.propose(message.n, message.step)
            self._send(Proposed(n=message.n, accepted=accepted, step=step))
        elif isinstance(message, Decision):
            self.gate.decide(message.n, go=message.go)
        elif message.name == "stop" and message.args.get("now") is True:
            self._end_at_once(message)
        else:
            self.gate.submit(message)

    def lost(self) -> None:
        """From the link's thread: there is no hub any more, and so no decision of it."""
        if self.gate.waiting:
            self.gate.decide(-1, go=False)

    def show(self) -> None:
        """Tell clients what is under control now, if that is not what they were told."""
        controls = Controls(
            pauses=[PlannedPause(text=plan.text, by=plan.by) for plan in self.gate.plans if plan.act is None],
            groups=self._optimizers.groups(), clip=self._gradients.clipping, frozen=list(self._gradients.patterns),
            frozen_parameters=self._gradients.frozen,
        )  # fmt: skip
        if controls != self._shown:
            self._shown = controls
            self._send(Controlled(controls=controls))

    def replay(self, path: Path) -> None:
        """Have the changes of that journal made again, each at its moment."""
        entries, fault = outcome(journal.read, path)
        if fault is not None:
            report(f"nothing is replayed: {fault}")
            return
        journal.plan(self.gate, entries, self._again)

    def _again(self, entry: dict[str, Any], place: Place) -> None:
        """One change of a journal, at its moment; where it cannot be made, the user is told, and the script goes on."""
        try:
            given = arguments(entry["name"], entry["args"])
        except ValueError as error:
            given, fault = None, error
        else:
            _, fault = outcome(self.gate.actions[entry["name"]], given, place, f"{entry.get('by', '')} (replay)")
        if fault is not None:
            self._notice(f"{entry['name']} of the journal was not repeated at step {place.step}: {fault}", "")

    def _journaled(self, name: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """``action``, entered into the journal once it is done."""

        def journaled(given: Any, place: Place, by: str) -> Any:
            result = action(given, place, by)
            self._journal.write(name, plain(given), place, by, result)
            return result

        return journaled

    def _prepare(self) -> None:
        self.gate.prepare = self._gradients.prepare if self._gradients.active else None

    def _end_at_once(self, command: Command) -> None:
        """SIGTERM, whose handler is the script's if it has one; SIGKILL if it is still there a while later."""
        self.gate.stopped_by = command.by
        self._announce("stopped", command.by, "ended at once")
        self._send(Answered(answer=Answer(id=command.id, n=command.n, status="applied", step=-1)))
        kill = threading.Timer(GRACE_SECONDS, os.kill, (os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM)))
        kill.daemon = True
        kill.start()
        term = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))  # what was just said leaves first
        term.daemon = True
        term.start()
