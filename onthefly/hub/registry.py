"""The sessions that this hub knows: what they are, what their agents said, and the commands under way.

Everything here runs on the event loop; the stores are written and read in threads by :mod:`onthefly.hub.keeper`.
"""

from __future__ import annotations

import asyncio
import difflib
import statistics
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Optional

import msgspec

from onthefly.errors import NoSuchSession, Refused
from onthefly.link.discovery import alive
from onthefly.protocol import LIVE_STATES, Answer, Command, CommandRequest, Hello, Notice, Rank, Session, StateChanged

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.hub.folder import DataFolder
    from onthefly.hub.store import Store, Written
    from onthefly.protocol import Noticed

COMMANDS = ("pause", "resume", "stop")
ANSWER_SECONDS = 2.0
"""How long a client waits for a command before it is told that it was accepted and no more."""

REMEMBERED_ANSWERS = 1000
NEWEST_STEPS = 100


class LiveSession:
    """One session: its description for clients, its agents, its commands."""

    def __init__(self, session: Session, changed: Callable[[LiveSession], None]) -> None:
        self.info = session
        self.store: Optional[Store] = None
        self.senders: dict[tuple[int, int], Callable[[Command], None]] = {}
        """By rank and pid of a connected agent: sends it a command."""
        self._changed = changed
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._steps: deque[tuple[float, float]] = deque(maxlen=NEWEST_STEPS)

    @property
    def live(self) -> bool:
        """Its script runs, as far as known."""
        return self.info.state in LIVE_STATES

    def joined(self, hello: Hello, send: Callable[[Command], None]) -> None:
        """An agent connected (again)."""
        rank = self._rank(hello.rank, hello.pid)
        if rank is None:
            self.info.ranks.append(Rank(rank=hello.rank, pid=hello.pid, node=hello.node, name=hello.process,
                                        state="starting", connected=True, trains=False, step=0))  # fmt: skip
        else:
            rank.connected = True
        self.info.world_size = max(self.info.world_size, hello.world_size)
        self.senders[hello.rank, hello.pid] = send
        if self.info.state == "lost":
            self._enter("running", "", "")
        self._changed(self)

    def left(self, hello: Hello) -> None:
        """An agent's connection ended."""
        self.senders.pop((hello.rank, hello.pid), None)
        rank = self._rank(hello.rank, hello.pid)
        if rank is not None:
            rank.connected = False
        self.check_alive()

    def check_alive(self) -> None:
        """A session without agents has crashed if its processes are gone, else it is lost from sight."""
        if self.senders or not (self.live or self.info.state == "lost"):
            return
        if not any(alive(rank.pid) for rank in self.info.ranks):
            self._enter("crashed", "", "the process is gone")
            self._refuse_waiting("the script is gone")
        elif self.info.state != "lost":
            self._enter("lost", "", "the process runs, but its connection was lost")

    def entered(self, message: StateChanged) -> None:
        """The script said that it is in another state."""
        self.info.step, self.info.epoch = max(self.info.step, message.step), message.epoch
        self._enter(message.state, message.by, message.reason, message.time)
        if message.state not in LIVE_STATES:
            self.info.ended = message.time
            self._refuse_waiting("the script has ended")

    def noticed(self, rank: int, message: Noticed) -> None:
        """The script has something to tell the user."""
        if len(self.info.notices) < 100:
            self.info.notices.append(Notice(text=message.text, remedy=message.remedy, time=message.time, rank=rank))
        self._changed(self)

    def wrote(self, written: Written) -> None:
        """Records were committed."""
        assert self.store is not None
        info = self.info
        info.backwards, info.samples = self.store.backward_rows, self.store.sample_rows
        if written.backwards:
            info.step = max(info.step, int(written.backwards["step"].max()))
            info.epoch = int(written.backwards["epoch"][-1])
            losses = written.backwards["loss"]
            finite = losses[abs(losses) < float("inf")]
            info.loss = float(finite[-1]) if len(finite) else info.loss
        self._measure(written)
        self._changed(self)

    def _measure(self, written: Written) -> None:
        if not written.metrics:
            return
        names, metrics = written.metric_names, written.metrics
        info = self.info
        by_name = {name: metrics["value"][metrics["name"] == place] for place, name in enumerate(names)}
        info.step = max(info.step, int(metrics["step"].max()) + 1)
        if "step_ms" in by_name and "onthefly_us" in by_name:
            self._steps.extend(zip(by_name["step_ms"].tolist(), by_name["onthefly_us"].tolist()))
            info.step_ms = statistics.median(step for step, _ in self._steps)
            # The mean: a step in which a block is worked off carries the cost of the others.
            info.onthefly_us = statistics.fmean(ours for _, ours in self._steps)

    def answered(self, answer: Answer) -> None:
        """The script answered a command."""
        self._answers[answer.id] = answer
        future = self._waiting.pop(answer.id, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def answer(self, n: int) -> Answer:
        """What became of command number ``n``."""
        for answer in self._answers.values():
            if answer.n == n:
                return answer
        raise NoSuchSession(f"session {self.info.id} has no command {n}")

    async def command(self, request: CommandRequest) -> Answer:
        """Hand a command to the script and wait a little for its answer; the same ``id`` gets the same answer."""
        known = self._answers.get(request.id)
        if known is None:
            known = self._submit(request)
        future = self._waiting.get(request.id)
        if known.status == "accepted" and future is not None:
            await asyncio.wait([future], timeout=ANSWER_SECONDS)
        return self._answers[request.id]

    def _submit(self, request: CommandRequest) -> Answer:
        n = len(self._answers)
        refusal = self._refusal(request)
        if refusal is not None:
            answer = Answer(id=request.id, n=n, status="refused", step=self.info.step, reason=refusal.message,
                            remedy=refusal.remedy)  # fmt: skip
        else:
            answer = Answer(id=request.id, n=n, status="accepted", step=self.info.step)
            self._waiting[request.id] = asyncio.get_running_loop().create_future()
            command = Command(n=n, id=request.id, name=request.name, args=request.args, by=request.by)
            for send in self.senders.values():
                send(command)
        self._answers[request.id] = answer
        while len(self._answers) > REMEMBERED_ANSWERS:
            self._answers.popitem(last=False)
        return answer

    def _refusal(self, request: CommandRequest) -> Optional[Refused]:
        if request.name not in COMMANDS:
            close = difflib.get_close_matches(request.name, COMMANDS, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            return Refused(f"unknown command {request.name[:40]!r}", f"{hint}known: {', '.join(COMMANDS)}")
        if not self.live:
            return Refused(f"session {self.info.id} is {self.info.state}: there is no script to {request.name}")
        if request.name == "pause" and self.info.world_size > 1:
            return Refused(f"{self.info.world_size} ranks: pausing one alone would kill the job",
                           "pausing all ranks at one step is not in this version")  # fmt: skip
        if not self.senders:
            return Refused("the script is not connected to this hub right now", "try again in a few seconds")
        return None

    def _refuse_waiting(self, reason: str) -> None:
        for identifier in list(self._waiting):
            answer = self._answers[identifier]
            self.answered(msgspec.structs.replace(answer, status="refused", reason=reason))

    def _enter(self, state: Any, by: str, reason: str, since: Optional[float] = None) -> None:
        self.info.state, self.info.by, self.info.reason = state, by, reason
        self.info.since = time.time() if since is None else since
        self._changed(self)

    def _rank(self, rank: int, pid: int) -> Optional[Rank]:
        return next((known for known in self.info.ranks if (known.rank, known.pid) == (rank, pid)), None)


class Registry:
    """All sessions by id."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._listeners: list[Callable[[LiveSession], None]] = []
        self.sessions: dict[str, LiveSession] = {
            session.id: LiveSession(session, self._changed) for session in folder.read_all()
        }

    def listen(self, listener: Callable[[LiveSession], None]) -> None:
        """Call ``listener`` when a session is new or changed."""
        self._listeners.append(listener)

    def _changed(self, session: LiveSession) -> None:
        for listener in self._listeners:
            listener(session)

    def open(self, hello: Hello) -> LiveSession:
        """The session of an agent, made if it is new."""
        known = self.sessions.get(hello.session)
        if known is None:
            info = Session(
                id=hello.session, name=hello.name, project=hello.project, script=hello.script, argv=hello.argv,
                cwd=hello.cwd, run=hello.run, state="starting", since=hello.started, by="", reason="",
                started=hello.started, ended=None, step=0, epoch=0, backwards=0, samples=0, loss=None, step_ms=None,
                onthefly_us=None, world_size=hello.world_size, ranks=[], notices=[], versions=hello.versions,
            )  # fmt: skip
            known = self.sessions[hello.session] = LiveSession(info, self._changed)
        return known

    def newest_first(self) -> list[Session]:
        """All sessions, newest start first."""
        return sorted((live.info for live in self.sessions.values()), key=lambda info: info.started, reverse=True)

    def find(self, name: str) -> LiveSession:
        """By id, unique prefix, or ``last``."""
        if name == "last":
            newest = self.newest_first()
            if not newest:
                raise NoSuchSession("there is no session yet", "start one: python -m onthefly train.py")
            return self.sessions[newest[0].id]
        found = [live for identifier, live in self.sessions.items() if name and identifier.startswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise NoSuchSession(f"{len(found)} sessions begin with {name[:40]!r}", "give more characters")
        raise NoSuchSession(f"no session {name[:40]!r}", "onthefly ps lists them")

    def remove(self, live: LiveSession) -> None:
        """Forget a session that has ended, and delete its folder."""
        if live.live:
            raise Refused(f"session {live.info.id} is {live.info.state}", "stop it first")
        del self.sessions[live.info.id]
        if live.store is not None:
            live.store.close()
        self._folder.delete(live.info.id)
