"""How the ranks of a job act at one step: proposed to all, accepted by all, and only then done.

A rank that is paused alone lets the others wait in a collective operation until that gives up. So a command is for a
step that none has reached yet: the highest that was reported plus :data:`MARGIN`. Each rank that is not past it will
hold there until the decision, and says so; if one is past it, all are told to go on, and a later step is proposed. The
messages travel beside training: no collective is added, and where the decision comes in time nobody waits. While all
ranks are paused they stand at one step already, and commands go to them as they are.

One command at a time, in the order in which they were accepted. A proposal is always followed by a decision.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Optional

from onthefly.errors import Refused
from onthefly.protocol import Decision, Propose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onthefly.hub.answers import Pending
    from onthefly.hub.dispatch import Dispatch
    from onthefly.hub.processes import Job, Key
    from onthefly.hub.registry import LiveSession
    from onthefly.protocol import Proposed

MARGIN, MAX_MARGIN = 4, 4096
"""Steps: at first, and after doubling it as often as one was past the step already."""

MAX_ROUNDS = 40
VOTE_SECONDS = 10.0
"""How long a rank may take to answer a proposal; and how long the answer to a command of one that is not connected is
waited for."""

PARTIAL_SECONDS = 5.0
"""How long some ranks may be paused and others not. They hold within moments of each other: what waits longer waits for
one that has passed."""

MOVED_SECONDS = 2.0
"""How long the ranks may take to say that they go on, after they have answered that they will."""


class Agreement:
    """The queue of commands for the ranks of one job, and what is under way."""

    def __init__(self, live: LiveSession, dispatch: Dispatch) -> None:
        self._live = live
        self._dispatch = dispatch
        self._queue: deque[Pending] = deque()
        self._current: Optional[Pending] = None
        self._votes: dict[Key, Optional[Proposed]] = {}
        """Of those to whom a step is proposed, until it is decided."""
        self._news = asyncio.Event()
        self._task: Optional[asyncio.Task[None]] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._mixed_since = 0.0
        self._told = self._stopped = False

    def add(self, pending: Pending) -> None:
        """It is its turn when all before it are settled."""
        self._queue.append(pending)
        if self._task is None:
            self._news = asyncio.Event()  # of this loop
            self._task = asyncio.ensure_future(self._work())

    def pauses(self) -> str:
        """Who asked for the pause that is being agreed upon; empty if none is."""
        command = None if self._current is None else self._current.command
        if command is None or command.name != "pause":
            return ""
        later = [command.args.get("step"), command.args.get("epoch"), command.args.get("when") or None]
        return command.by or "someone" if later == [None] * 3 else ""

    def proposed(self, key: Key, message: Proposed) -> None:
        """A rank has answered a proposal."""
        if self._current is not None and self._current.command.n == message.n and key in self._votes:
            self._votes[key] = message
            self.wake()

    def resend(self, pending: Pending, key: Key) -> None:
        """A rank that connected anew was sent its command again: what was decided on it, too."""
        if pending.command.at >= 0:
            self._live.processes.send(key, Decision(n=pending.command.n, go=True))

    def wake(self) -> None:
        """Something has changed: a vote, an answer, a state, a connection."""
        self._news.set()

    async def _work(self) -> None:
        try:
            while self._queue:
                self._current = self._queue.popleft()
                self._live.settle()
                try:
                    await self._agree(self._current)
                except Refused as refused:
                    self._decide(self._current.command.n, go=False)
                    self._dispatch.refuse(self._current, refused.message, refused.remedy)
                finally:
                    self._decide(self._current.command.n, go=False)  # whatever has happened: nobody holds undecided
                    self._current = None
                    self._live.settle()
        finally:
            self._task = None

    async def _agree(self, pending: Pending) -> None:
        margin, reached = MARGIN, 0
        for _ in range(MAX_ROUNDS):
            if pending.done:
                return
            job = await self._whole_job()
            keys = [(rank.rank, rank.pid) for rank in job.ranks.values()]
            if job.paused:
                await self._do_at_once(pending, keys)
                return
            reached = max(reached, *(rank.step for rank in job.ranks.values()))
            step = reached + margin
            votes = await self._vote(pending, keys, step)
            if all(vote.accepted for vote in votes):
                self._dispatch.send(pending, keys, at=step)
                self._decide(pending.command.n, go=True)
                if await self._acted(pending, keys, step):
                    return
                for key in keys:  # they came to rest before that step: it is done where they are
                    self._live.processes.send(key, Decision(n=pending.command.n, go=False))
                self._dispatch.take_back(pending)
            else:
                self._decide(pending.command.n, go=False)
                reached = max(reached, *(vote.step for vote in votes))
                margin = min(2 * margin, MAX_MARGIN)
        raise Refused(f"the ranks agreed on no step in {MAX_ROUNDS} rounds", "try again")

    async def _whole_job(self) -> Job:
        """The ranks, all of which run or are paused; after a lost connection that may have to be brought about."""
        while True:
            job = self._live.processes.job()
            if job.missing:
                raise Refused(f"a command is for all {self._live.info.world_size} ranks at one step, and "
                              f"{', '.join(job.missing)}", "try again when all of them train")  # fmt: skip
            if not self._mixed(job):
                return job
            rest = self._mixed_since + PARTIAL_SECONDS - self._now()
            if rest <= 0:
                self._resume_the_paused(job)
                rest = MOVED_SECONDS
            await self._wait(rest)

    async def _vote(self, pending: Pending, keys: Sequence[Key], step: int) -> list[Proposed]:
        """Propose a step; what each rank says to it."""
        self._live.keep()  # the number is taken: a hub after this one must not propose under it
        self._votes = dict.fromkeys(keys)
        for key in keys:
            self._live.processes.send(key, Propose(n=pending.command.n, step=step))
        limit = self._now() + VOTE_SECONDS
        while True:
            votes = [vote for vote in self._votes.values() if vote is not None]
            if len(votes) == len(keys):
                return votes
            lost = [key for key in keys if key not in self._live.processes.senders]
            if lost:
                raise Refused(f"the connection of {_named(lost)} was lost", "try again in a few seconds")
            if pending.done:
                raise Refused("the session has ended")
            rest = limit - self._now()
            if rest <= 0:
                silent = [key for key, vote in self._votes.items() if vote is None]
                raise Refused(f"{_named(silent)} did not answer within {VOTE_SECONDS:g} s", "try again")
            await self._wait(rest)

    def _decide(self, n: int, *, go: bool) -> None:
        """Tell all to whom a step is proposed, once."""
        votes, self._votes = self._votes, {}
        for key in votes:
            self._live.processes.send(key, Decision(n=n, go=go))

    async def _do_at_once(self, pending: Pending, keys: Sequence[Key]) -> None:
        """All are paused, at one step."""
        processes = self._live.processes
        before = {key: processes.changes.get(key, 0) for key in keys}
        self._dispatch.send(pending, keys)
        await self._acted(pending, keys, -1)
        answers = [answer for answer in pending.to.values() if answer is not None]
        if pending.command.name in ("resume", "step") and all(answer.status == "applied" for answer in answers):
            limit = self._now() + MOVED_SECONDS
            while any(processes.changes.get(key, 0) == before[key] for key in keys) and self._now() < limit:
                await self._wait(limit - self._now())

    async def _acted(self, pending: Pending, keys: Sequence[Key], at: int) -> bool:
        """Wait until all have answered; False if they came to rest before that step, and will not reach it."""
        processes = self._live.processes
        lost: dict[Key, float] = {}
        while not pending.done and not pending.is_answered():
            for key in keys:
                if key in processes.senders:
                    lost.pop(key, None)
                elif self._now() - lost.setdefault(key, self._now()) >= VOTE_SECONDS:
                    self._dispatch.judge(pending, key, "failed",
                                         "its connection was lost; whether this was done is not known")  # fmt: skip
            if at >= 0 and not any(pending.to.values()):
                job = processes.job()
                if job.paused and all(processes.held.get(key, at) < at for key in keys):
                    return False
                if self._mixed(job) and self._now() - self._mixed_since >= PARTIAL_SECONDS:
                    return False
            await self._wait(1.0)
        return True

    async def _wait(self, seconds: float) -> None:
        """Until there is news, or so long."""
        try:
            await asyncio.wait_for(self._news.wait(), max(seconds, 0.0))
        except asyncio.TimeoutError:
            return
        self._news.clear()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def look(self) -> None:
        """The state of a process has changed: see that no rank holds while others cannot go on, now and soon."""
        self.wake()
        if self._live.info.world_size <= 1:
            return
        self._mixed_since = self._now()
        job = self._live.processes.job()
        self._look_for_dead(job)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._mixed(job):
            self._timer = asyncio.get_running_loop().call_later(PARTIAL_SECONDS, self._look_again)

    def _look_for_dead(self, job: Job) -> None:
        """Name the rank that is gone, which is the first: the launcher of the job ends the others next.

        Those that are paused are told to end, as no launcher may be there that does it.
        """
        dead, killed = self._live.processes.dead(), self._live.processes.killed()
        stops = bool(dead) and not self._stopped and any(rank.state == "paused" for rank in job.ranks.values())
        if stops or (killed and not self._told):
            first = (killed or dead)[0]
            text = f"rank {first.rank} is gone{'' if killed else ': it has crashed'}"
            end = " while others are paused: they are stopped, since they cannot go on" if stops else ""
            self._told, self._stopped = True, self._stopped or stops
            self._live.notice(f"{text}{end}", "", first.rank)
            if stops:
                keys = [(rank.rank, rank.pid) for rank in job.ranks.values()]
                self._dispatch.direct("stop", keys, why=text)

    def _look_again(self) -> None:
        self._timer = None
        job = self._live.processes.job()
        if self._current is None and self._mixed(job):
            rest = self._mixed_since + PARTIAL_SECONDS - self._now()
            if rest <= 0:
                self._resume_the_paused(job)
            else:
                self._timer = asyncio.get_running_loop().call_later(rest + 0.01, self._look_again)

    @staticmethod
    def _mixed(job: Job) -> bool:
        """Some are paused, and some are not."""
        states = {rank.state for rank in job.ranks.values()}
        return not job.missing and "paused" in states and len(states) > 1

    def _resume_the_paused(self, job: Job) -> None:
        paused = [(rank.rank, rank.pid) for rank in job.ranks.values() if rank.state == "paused"]
        self._mixed_since = self._now()
        text = f"{_named(paused)} was paused and others were not, as after a lost connection: it was resumed"
        self._live.notice(text, "pause again, if all are to hold", paused[0][0])
        self._dispatch.direct("resume", paused, why="a pause of some ranks only")

    def close(self) -> None:
        """The hub ends: nobody is left holding, and what was not sent is refused."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        waiting = [*self._queue] if self._current is None else [self._current, *self._queue]
        self._queue.clear()
        if self._current is not None:
            self._decide(self._current.command.n, go=False)
        for pending in waiting:
            if not pending.to and not pending.done:
                self._dispatch.refuse(pending, "the hub has ended before this was sent", "send it again")


def _named(keys: Sequence[Key]) -> str:
    numbers = ", ".join(str(key[0]) for key in keys)
    return f"rank {numbers}" if len(keys) == 1 else f"ranks {numbers}"
