"""The commands of one session: numbered, handed on in the order in which they came, each answered once.

The same id gets the same answer, over a broken connection and over the hub's end as well. What was sent stands in
``session.json`` before it leaves (:class:`Ledger`), and is sent again to a process that connects anew and has not
answered: an agent takes each id once. Answers are in the store, in the transaction that acknowledges them; one is shown
when it is committed, or after :data:`COMMIT_SECONDS` with the word that it is not.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Optional

import msgspec

from onthefly.errors import NoSuchSession, OnTheFlyError, Refused
from onthefly.hub import commands
from onthefly.hub.agreement import Agreement
from onthefly.hub.answers import Pending
from onthefly.protocol import Answer, Command, CommandRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from onthefly.hub.processes import Key
    from onthefly.hub.registry import LiveSession
    from onthefly.protocol import Asked

ANSWER_SECONDS = 2.0
"""How long a client waits for a command before it is told that it was accepted and no more."""

COMMIT_SECONDS = 1.0
"""How long an answer waits for the disk before it is shown as not saved."""

REMEMBERED_ANSWERS = 1000
MAX_WAITING_COMMANDS = 500
MAX_KEPT = 64 * 1024
"""Bytes of commands that are kept whole in the ledger; of the others only that they were sent."""

MAX_JUDGED = 100
"""Answers in the ledger: those that the hub has given itself to what it had sent."""


class Sent(msgspec.Struct, kw_only=True):
    """A command that has left the hub and is not answered, as ``session.json`` keeps it."""

    n: int
    id: str
    name: str
    by: str
    to: list[tuple[int, int]]
    """Rank and pid of each process that is to answer."""
    at: int = -1
    args: Optional[dict[str, Any]] = None
    """None: too many to be kept."""


class Ledger(msgspec.Struct, kw_only=True):
    """What the next hub has to know of a session's commands."""

    next: int = 0
    """The number of the next command."""
    sent: list[Sent] = []
    judged: list[Answer] = []


class Dispatch:
    """Takes commands for a session and finds out what became of them."""

    def __init__(self, live: LiveSession, ledger: Ledger) -> None:
        self._live = live
        self._next = ledger.next
        self._answers: dict[str, Answer] = {answer.id: answer for answer in ledger.judged}
        """By id, oldest first, of what is settled."""
        self._judged = list(ledger.judged)
        self._waiting: dict[str, Pending] = {}
        self._uncommitted: dict[str, Pending] = {}
        """Answered, and shown before the disk had it."""
        for sent in ledger.sent:
            command = Command(n=sent.n, id=sent.id, name=sent.name, args=sent.args or {}, by=sent.by, at=sent.at)
            pending = Pending(command, sent.to, job=live.info.world_size > 1, whole=sent.args is not None)
            self._waiting[sent.id] = pending
        self.agreement = Agreement(live, self)

    def ledger(self) -> Ledger:
        """What the next hub has to know."""
        sent: list[Sent] = []
        room = MAX_KEPT
        for pending in self._waiting.values():
            command = pending.command
            if pending.to:
                size = pending.size
                kept = pending.whole and size <= room
                room -= size if kept else 0
                sent.append(Sent(n=command.n, id=command.id, name=command.name, by=command.by, to=list(pending.to),
                                 at=command.at, args=command.args if kept else None))  # fmt: skip
        return Ledger(next=self._next, sent=sent, judged=self._judged[-MAX_JUDGED:])

    def knows(self, identifier: str) -> bool:
        """That command is under way, or was answered."""
        answer = self._answers.get(identifier)
        return identifier in self._waiting or (answer is not None and answer.status != "busy")

    async def command(self, request: CommandRequest, refused: Optional[OnTheFlyError] = None) -> Answer:
        """Hand a command to the script and wait a little for its answer; the same ``id`` gets the same answer.

        ``refused``: why it is not handed on, where it is new.
        """
        known = self._answers.get(request.id)
        if known is None or known.status == "busy":
            known = self._waiting[request.id].accepted if request.id in self._waiting else self.submit(request, refused)
        pending = self._waiting.get(request.id)
        if pending is not None:
            await pending.settled(ANSWER_SECONDS)
            return self._answers.get(request.id, pending.accepted)
        return known

    def answer(self, n: int) -> Answer:
        """What became of command number ``n``."""
        for pending in self._waiting.values():
            if pending.command.n == n:
                return pending.accepted
        for answer in self._answers.values():
            if answer.n == n:
                return answer
        raise NoSuchSession(f"session {self._live.info.id} has no command {n}")

    def submit(self, request: CommandRequest, refused: Optional[OnTheFlyError] = None) -> Answer:
        """Take a command or refuse it; it has not been done yet."""
        n, self._next = self._next, self._next + 1
        step = self._live.info.step
        refusal = self.refusal(request) or refused
        if refusal is not None:
            return self._settle(Answer(id=request.id, n=n, status="refused", step=step, reason=refusal.message,
                                       remedy=refusal.remedy))  # fmt: skip
        if len(self._waiting) >= MAX_WAITING_COMMANDS:
            return self._settle(Answer(id=request.id, n=n, status="busy", step=step,
                                       reason=f"{MAX_WAITING_COMMANDS} commands wait for the script already",
                                       remedy="wait, then send it again"))  # fmt: skip
        command = Command(n=n, id=request.id, name=request.name, args=request.args, by=request.by)
        pending = Pending(command, (), job=self._live.info.world_size > 1)
        pending.accepted = Answer(id=request.id, n=n, status="accepted", step=step)
        self._answers.pop(request.id, None)  # it was busy
        self._waiting[request.id] = pending
        if not pending.job or (request.name == "stop" and request.args.get("now")):
            self.send(pending, self._live.processes.recipients())
        else:
            self.agreement.add(pending)
        return pending.accepted

    def refusal(self, request: CommandRequest) -> Optional[Refused]:
        """Why it cannot be handed on now."""
        live = self._live
        wrong = commands.refusal(request.name, request.args)
        if wrong is not None:
            return wrong
        if live.foreign:
            return Refused(f"session {live.info.id} belongs to the hub on {live.foreign}", "ask there")
        if not live.live:
            return Refused(f"session {live.info.id} is {live.info.state}: there is no script to {request.name}")
        if not live.processes.senders:
            return Refused("the script is not connected to this hub right now", "try again in a few seconds")
        return None

    def asked(self, key: Key, seq: int, message: Asked) -> None:
        """A process asks for a command to all: one as from a client, under an id that its frame has."""
        request = CommandRequest(id=f"asked-{key[0]}-{key[1]}-{seq}", name=message.name, args=message.args,
                                 by=message.by[: commands.MAX_BY])  # fmt: skip
        if request.id in self._answers or request.id in self._waiting:
            return
        answer = self.submit(request)
        if answer.status == "accepted":
            self._waiting[request.id].asked_because = message.reason[:300] or "it asked for it"
        else:
            self._live.notice(f"{message.reason[:300]}: {message.name[:40]} is {answer.status}: {answer.reason}",
                              answer.remedy, key[0])  # fmt: skip

    def direct(self, name: str, keys: Sequence[Key], *, why: str) -> None:
        """A command of the hub's own to some of the processes, past all others."""
        n, self._next = self._next, self._next + 1
        command = Command(n=n, id=f"hub-{n}", name=name, args={}, by="hub")
        pending = self._waiting[command.id] = Pending(command, (), job=False)
        pending.asked_because = why
        self.send(pending, keys)

    def send(self, pending: Pending, keys: Iterable[Key], at: int = -1) -> None:
        """Hand it to these processes, all of which are to answer."""
        pending.address(keys, at)
        self._live.keep()
        for key in pending.to:
            self._live.processes.send(key, pending.command)

    def take_back(self, pending: Pending) -> None:
        """It was not done, and is to be handed on in another way; :class:`Agreement` has told the processes so."""
        pending.address((), -1)

    def joined(self, key: Key) -> None:
        """A process connected (again): what it has not answered may have been lost on the way."""
        for pending in list(self._waiting.values()):
            if key in pending.to and pending.to[key] is None:
                if pending.whole:
                    self._live.processes.send(key, pending.command)
                    self.agreement.resend(pending, key)
                else:
                    self.judge(pending, key, "failed", "the hub was restarted while this was under way; whether it was "
                               "done stands in the journal")  # fmt: skip

    def answered(self, key: Key, answer: Answer) -> None:
        """A process answered a command."""
        if answer.status in ("accepted", "busy"):  # the hub's own words: no answer
            return
        pending = self._waiting.get(answer.id)
        if pending is not None and pending.take(key, answer):
            self._look(pending)
        elif pending is None and answer.id not in self._answers:  # of a hub before this one, which kept no more of it
            self._settle(answer)

    def committed(self, key: Key, identifier: str) -> None:
        """The answer of that process is on disk."""
        pending = self._waiting.get(identifier) or self._uncommitted.get(identifier)
        if pending is None:
            self._saved(identifier)
            return
        pending.committed.add(key)
        if pending.is_committed():
            if self._uncommitted.pop(identifier, None) is not None:
                self._saved(identifier)
            else:
                self._show(pending)

    def _saved(self, identifier: str) -> None:
        answer = self._answers.get(identifier)
        if answer is not None and answer.durability == "accepted":
            self._answers[identifier] = msgspec.structs.replace(answer, durability="saved")

    def judge(self, pending: Pending, key: Key, status: Literal["refused", "failed", "applied"], reason: str) -> None:
        """Answer in the place of a process that will not."""
        if pending.to.get(key, ...) is None:
            step = self._live.info.step
            pending.judge(key, Answer(id=pending.command.id, n=pending.command.n, status=status, step=step,
                                      reason=reason))  # fmt: skip
            self._look(pending)

    def gone(self, key: Key, *, crashed: bool) -> None:
        """That process has ended: it answers nothing any more."""
        for pending in list(self._waiting.values()):
            if pending.command.name == "stop":
                self.judge(pending, key, "applied", "")
            elif crashed:
                self.judge(pending, key, "failed", "the process is gone; whether this was done is not known")
            else:
                self.judge(pending, key, "refused", "the script has ended")

    def refuse(self, pending: Pending, reason: str, remedy: str = "") -> None:
        """It was not done and will not be."""
        answer = Answer(id=pending.command.id, n=pending.command.n, status="refused", step=self._live.info.step,
                        reason=reason, remedy=remedy)  # fmt: skip
        self._finish(pending, answer)

    def refuse_all(self, reason: str) -> None:
        """Of what waits, nothing will be done any more; what was answered waits for the disk alone."""
        for pending in list(self._waiting.values()):
            if not pending.is_answered():
                self.refuse(pending, reason)

    def _look(self, pending: Pending) -> None:
        """Whether all have answered, and all of that is on disk."""
        trains = [key for key in pending.to if (rank := self._live.processes.find(key)) is not None and rank.trains]
        pending.forget_those_that_do_not_train(trains)
        if not pending.is_answered():
            return
        self.agreement.wake()
        if pending.is_committed():
            self._show(pending)
        elif not pending.shown_soon:
            pending.shown_soon = True
            asyncio.get_running_loop().call_later(COMMIT_SECONDS, self._show_unsaved, pending)

    def _show_unsaved(self, pending: Pending) -> None:
        if pending.command.id in self._waiting:
            self._uncommitted[pending.command.id] = pending
            self._show(pending)

    def _show(self, pending: Pending) -> None:
        if not pending.is_answered():
            return
        if pending.judged:
            self._judged = [*self._judged[1 - MAX_JUDGED :], pending.merged()]
        self._finish(pending, pending.merged())

    def _finish(self, pending: Pending, answer: Answer) -> None:
        self._waiting.pop(pending.command.id, None)
        self._settle(answer)
        pending.settle()
        self.agreement.wake()
        if pending.asked_because and answer.status != "applied":
            self._live.notice(f"{pending.asked_because}: {pending.command.name} {answer.status}: {answer.reason}",
                              answer.remedy, 0)  # fmt: skip

    def _settle(self, answer: Answer) -> Answer:
        self._answers.pop(answer.id, None)
        self._answers[answer.id] = answer
        while len(self._answers) > REMEMBERED_ANSWERS:
            oldest = next(iter(self._answers))
            del self._answers[oldest]
            self._uncommitted.pop(oldest, None)
        return answer

    def recall(self, found: Iterable[tuple[int, int, Answer]]) -> None:
        """What processes had answered to hubs before this one, from the store, oldest first."""
        before: dict[str, Pending] = {}
        for rank, pid, answer in found:
            pending = self._waiting.get(answer.id)
            if pending is not None:
                pending.take((rank, pid), answer)
                pending.committed.add((rank, pid))
            elif answer.id not in self._answers:
                command = Command(n=answer.n, id=answer.id, name="", args={}, by="")
                before.setdefault(answer.id, Pending(command, (), job=self._live.info.world_size > 1))
                before[answer.id].address([*before[answer.id].to, (rank, pid)], -1)
                before[answer.id].take((rank, pid), answer)
                before[answer.id].committed.add((rank, pid))
        older, self._answers = self._answers, {}
        for pending in before.values():
            self._settle(pending.merged())
        for answer in older.values():
            self._settle(answer)
        for pending in list(self._waiting.values()):
            self._look(pending)
        self._next = max([self._next, *(answer.n + 1 for answer in self._answers.values())])
