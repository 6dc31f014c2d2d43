"""The processes of a session: which are there, in which state each is, and which of them are the ranks of one job."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, NamedTuple, Optional

from onthefly.link.discovery import alive
from onthefly.protocol import FINAL_STATES, LIVE_STATES, Hello, Rank, Session, State, StateChanged

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.protocol import HubMessage

Key = tuple[int, int]
"""Rank and pid: two processes may have had one number (a launcher and rank 0, or ranks that were started anew)."""


_OVER = ("ended", "stopped")

MAX_MISSING = 8
"""That are named: a job may have thousands."""


class Job(NamedTuple):
    """The ranks of a job, as far as they train here."""

    ranks: dict[int, Rank]
    missing: list[str]
    """What is wrong with those that are not among them."""

    @property
    def paused(self) -> bool:
        """All of them hold."""
        return not self.missing and all(rank.state == "paused" for rank in self.ranks.values())


class Processes:
    """Those of one session; ``info.ranks`` is their list, which clients see."""

    def __init__(self, info: Session) -> None:
        self._info = info
        self.senders: dict[Key, Callable[[HubMessage], None]] = {}
        """Of the connected ones: sends a message to it."""
        self.held: dict[Key, int] = {}
        """The steps that one had finished when it said that it is paused."""
        self.changes: dict[Key, int] = {}
        """How often one has said that it is in another state."""
        self.stopped_by = ""
        """Who stopped those that were stopped."""
        self._before: dict[Key, State] = {}
        """The state of one when it was lost from sight: it goes on with that until it says otherwise."""
        self._children: set[Key] = set()
        """Those that are no rank of a job, and were numbered here."""
        self._left: dict[Key, None] = {}
        """Those whose connection ended, in that order."""
        self._silent: set[Key] = set()
        """Those that were gone without a last word."""

    def number(self, hello: Hello) -> int:
        """The rank of that process in this session; one that is no rank of a job gets the next free number."""
        ranks = self._info.ranks
        known = next((rank for rank in ranks if (rank.node, rank.pid) == (hello.node, hello.pid)), None)
        if known is None:
            number = hello.rank
            if number < 0:
                number = 1 + max((rank.rank for rank in ranks), default=0)
            start = max((rank.start for rank in ranks), default=0) + hello.resumes
            known = Rank(rank=number, pid=hello.pid, node=hello.node, name=hello.process, state="starting",
                         connected=False, trains=False, step=0, start=start)  # fmt: skip
            ranks.append(known)
        if hello.rank < 0:
            self._children.add((known.rank, known.pid))
        self._info.world_size = max(self._info.world_size, hello.world_size)
        return known.rank

    def current(self) -> list[Rank]:
        """Those of the newest start: what the ones before a resume came to says nothing about the session now."""
        newest = max((rank.start for rank in self._info.ranks), default=0)
        return [rank for rank in self._info.ranks if rank.start == newest]

    def __getitem__(self, key: Key) -> Rank:
        return next(known for known in self._info.ranks if (known.rank, known.pid) == key)

    def find(self, key: Key) -> Optional[Rank]:
        """That process, if it is known."""
        return next((known for known in self._info.ranks if (known.rank, known.pid) == key), None)

    def joined(self, hello: Hello, send: Callable[[HubMessage], None]) -> Key:
        """One connected (again)."""
        key = self.number(hello), hello.pid
        rank = self[key]
        rank.connected = True
        self.senders[key] = send
        if rank.state == "lost":
            rank.state = self._before.pop(key, "running" if rank.trains else "starting")
        return key

    def left(self, hello: Hello) -> Key:
        """A connection ended."""
        key = self.number(hello), hello.pid
        self[key].connected = False
        self.senders.pop(key, None)
        self._left.pop(key, None)
        self._left[key] = None
        return key

    def entered(self, key: Key, message: StateChanged) -> None:
        """One said that it is in another state."""
        rank = self[key]
        rank.state = message.state
        self.changes[key] = self.changes.get(key, 0) + 1
        rank.trains = rank.trains or message.state == "running"
        if rank.trains:
            rank.step = max(rank.step, message.step)
        if message.state == "paused":
            self.held[key] = message.step
        elif message.state == "stopped":
            self.stopped_by = message.by

    def check_alive(self) -> list[Rank]:
        """Look for those without a connection; the ones whose state changed.

        One has crashed if it is gone from this machine, else it is lost from sight.
        """
        changed: list[Rank] = []
        for rank in self._info.ranks:
            if rank.connected or not (rank.state in LIVE_STATES or rank.state == "lost"):
                continue
            gone = rank.node == platform.node() and not alive(rank.pid)
            state: State = "crashed" if gone else "lost"
            if state != rank.state:
                if gone:
                    self._silent.add((rank.rank, rank.pid))
                else:
                    self._before[rank.rank, rank.pid] = rank.state
                rank.state = state
                changed.append(rank)
        return changed

    def overall(self, said: Optional[State]) -> State:
        """One state for all: those that train speak for the session while one of them lives.

        It is paused when all are. Where some are and others run, the newest word (``said``) tells which way it goes.
        """
        ranks = self.current()
        alive_ones = [rank for rank in ranks if rank.state in LIVE_STATES]
        training = {rank.state for rank in alive_ones if rank.trains}
        if len(training) > 1 and "paused" in training:
            if "pausing" in training or said == "paused":
                return "pausing"
            kept = self._info.state in ("pausing", "running") and said is None
            return self._info.state if kept else "running"
        if training:
            return next(state for state in ("paused", "pausing", "running", "starting") if state in training)
        if alive_ones:
            return "running" if any(rank.trains for rank in ranks) else alive_ones[0].state
        if any(rank.state == "lost" for rank in ranks):
            return "lost"
        first = ranks[0].state if ranks else self._info.state  # the script itself came first
        if first == "ended" and any(rank.trains and rank.state == "stopped" for rank in ranks):
            return "stopped"  # a launcher ends as it always does
        return first

    def _members(self) -> dict[int, Rank]:
        """Of each number the process that is there, or was last; a launcher has a number too, and never trains."""
        newest: dict[int, Rank] = {}
        for rank in self._info.ranks:
            if rank.trains and (rank.rank, rank.pid) not in self._children:
                before = newest.get(rank.rank)
                if before is None or _is_there(rank) or not _is_there(before):
                    newest[rank.rank] = rank
        return newest

    def dead(self) -> list[Rank]:
        """Ranks that have crashed."""
        return [rank for rank in self._members().values() if rank.state == "crashed"]

    def killed(self) -> list[Rank]:
        """Those of them whose process was gone without a word, in the order in which that was felt."""
        order = {key: place for place, key in enumerate(self._left)}
        found = [rank for rank in self.dead() if (rank.rank, rank.pid) in self._silent]
        return sorted(found, key=lambda rank: order.get((rank.rank, rank.pid), -1))

    def job(self) -> Job:
        """The ranks 0 to ``world_size - 1``, but for those that have come to their end: the others are all there is."""
        members = self._members()
        found = {number: rank for number, rank in sorted(members.items()) if _is_there(rank)}
        missing: list[str] = []
        for number in range(self._info.world_size):
            if number not in found and not (found and number in members and members[number].state in _OVER):
                missing.append(f"rank {number} {_why_not(members.get(number))}")
                if len(missing) == MAX_MISSING:
                    break
        return Job(found, missing)

    def recipients(self) -> list[Key]:
        """Who is sent a command where no ranks have to agree: those that train; before one does, all."""
        training = [key for key in self.senders if self[key].trains]
        return training or list(self.senders)

    def send(self, key: Key, message: HubMessage) -> None:
        """Send it, if that process is connected."""
        send = self.senders.get(key)
        if send is not None:
            send(message)


def _is_there(rank: Rank) -> bool:
    return rank.connected and rank.state in LIVE_STATES


def _why_not(rank: Optional[Rank]) -> str:
    if rank is None:
        return "does not train yet"
    if rank.state in FINAL_STATES:
        return f"has {'crashed' if rank.state == 'crashed' else 'ended'}"
    return "is not connected"
