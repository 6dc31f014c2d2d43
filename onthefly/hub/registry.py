"""The sessions that this hub knows: what they are, what their agents said, and the commands under way.

Everything here runs on the event loop; the stores are written and read in threads by :mod:`onthefly.hub.keeper`.
"""

from __future__ import annotations

import asyncio
import difflib
import platform
import statistics
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Optional

import msgspec

from onthefly.errors import NoSuchSession, Refused
from onthefly.hub.columns import TRAIN
from onthefly.link.discovery import alive
from onthefly.protocol import (
    FINAL_STATES,
    LIVE_STATES,
    MAX_COMPONENTS,
    RUN_PATTERN,
    Answer,
    Command,
    CommandRequest,
    Hello,
    Notice,
    Noticed,
    Rank,
    Session,
    State,
    StateChanged,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.hub.folder import DataFolder
    from onthefly.hub.store import Store, Written
    from onthefly.protocol import Described

COMMANDS = ("pause", "resume", "stop")
ANSWER_SECONDS = 2.0
"""How long a client waits for a command before it is told that it was accepted and no more."""

REMEMBERED_ANSWERS = 1000
MAX_WAITING_COMMANDS = 500
NEWEST_STEPS = 100
MAX_NAME = 500

_REASONS = {"crashed": "the process is gone", "lost": "the process runs, but its connection was lost"}
"""Of states that no process says of itself."""


class LiveSession:
    """One session: its description for clients, its agents, its commands."""

    def __init__(self, session: Session, changed: Callable[[LiveSession], None], foreign: str = "") -> None:
        self.info = session
        self.foreign = foreign
        """The host whose hub keeps it, where that is not this one: then it is only shown, as it was found."""
        self.store: Optional[Store] = None
        self.senders: dict[tuple[int, int], Callable[[Command], None]] = {}
        """By rank and pid of a connected agent: sends it a command."""
        self._changed = changed
        self._answers: dict[str, Answer] = {}
        """By id, oldest first."""
        self._submitted = 0
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._steps: deque[tuple[float, float]] = deque(maxlen=NEWEST_STEPS)

    @property
    def live(self) -> bool:
        """Its script runs, as far as known."""
        return self.info.state in LIVE_STATES

    def number(self, hello: Hello) -> int:
        """The rank of that process in this session; one that is no rank of a job gets the next free number."""
        known = next((rank for rank in self.info.ranks if (rank.node, rank.pid) == (hello.node, hello.pid)), None)
        if known is None:
            number = hello.rank
            if number < 0:
                number = 1 + max((rank.rank for rank in self.info.ranks), default=0)
            known = Rank(rank=number, pid=hello.pid, node=hello.node, name=hello.process, state="starting",
                         connected=False, trains=False, step=0)  # fmt: skip
            self.info.ranks.append(known)
        self.info.world_size = max(self.info.world_size, hello.world_size)
        return known.rank

    def joined(self, hello: Hello, send: Callable[[Command], None]) -> None:
        """An agent connected (again)."""
        rank = self._process(self.number(hello), hello.pid)
        rank.connected = True
        self.senders[rank.rank, rank.pid] = send
        if rank.state == "lost":
            rank.state = "running" if rank.trains else "starting"
        self._settle(time.time())

    def left(self, hello: Hello) -> None:
        """An agent's connection ended."""
        rank = self._process(self.number(hello), hello.pid)
        rank.connected = False
        self.senders.pop((rank.rank, rank.pid), None)
        self.check_alive()

    def check_alive(self) -> None:
        """A process without a connection has crashed if it is gone from this machine, else it is lost from sight."""
        if self.foreign:
            return
        changed = False
        for rank in self.info.ranks:
            if rank.connected or not (rank.state in LIVE_STATES or rank.state == "lost"):
                continue
            gone = rank.node == platform.node() and not alive(rank.pid)
            state: State = "crashed" if gone else "lost"
            changed, rank.state = changed or state != rank.state, state
        if changed:
            self._settle(time.time())

    def entered(self, number: int, pid: int, message: StateChanged) -> None:
        """A process said that it is in another state."""
        rank = self._process(number, pid)
        rank.state = message.state
        rank.trains = rank.trains or message.state == "running"
        self.info.step, self.info.epoch = max(self.info.step, message.step), message.epoch
        self._settle(message.time, message)

    def _settle(self, since: float, message: Optional[StateChanged] = None) -> None:
        """Bring the state of the session in line with those of its processes."""
        state = self._overall()
        said = message is not None and message.state == state
        if state != self.info.state or said:
            by, reason = (message.by, message.reason) if message is not None and said else ("", _REASONS.get(state, ""))
            self._enter(state, by, reason, since)
            if state in FINAL_STATES:
                self.info.ended = since
                self._refuse_waiting("the script has ended" if said else "the script is gone")
        else:
            self._changed(self)

    def _overall(self) -> State:
        """One state for all processes: those that train speak for the session while one of them lives."""
        ranks = self.info.ranks
        alive_ones = [rank for rank in ranks if rank.state in LIVE_STATES]
        training = [rank.state for rank in alive_ones if rank.trains]
        if training:
            return next(state for state in ("paused", "pausing", "running", "starting") if state in training)
        if alive_ones:
            return "running" if any(rank.trains for rank in ranks) else alive_ones[0].state
        if any(rank.state == "lost" for rank in ranks):
            return "lost"
        return ranks[0].state if ranks else self.info.state  # the script itself came first

    def described(self, message: Described) -> None:
        """The script says what it is to be called."""
        self.info.name, self.info.project = message.name[:MAX_NAME], message.project[:MAX_NAME]
        if RUN_PATTERN.fullmatch(message.run):
            self.info.run = message.run
        self._changed(self)

    def noticed(self, rank: int, message: Noticed) -> None:
        """The script has something to tell the user."""
        if len(self.info.notices) < 100:
            self.info.notices.append(Notice(text=message.text, remedy=message.remedy, time=message.time, rank=rank))
        self._changed(self)

    def storing(self, fault: Optional[str]) -> None:
        """What arrives can be saved (None), or cannot, and why."""
        info = self.info
        if fault is None and info.unsaved_since is None:
            return
        info.unsaved_since = None if fault is None else (info.unsaved_since or time.time())
        info.unsaved_reason = fault or ""
        self._changed(self)

    def wrote(self, written: Written) -> None:
        """Records were committed."""
        assert self.store is not None
        info = self.info
        info.backwards, info.samples = self.store.backwards, self.store.samples
        info.logs = self.store.log_rows
        info.metrics += [name for name in written.metric_names if name not in info.metrics]
        self._advance(written.backwards, 0)
        self._advance(_finished(written), 1)
        trained = written.backwards["phase"] == TRAIN if written.backwards else None
        if trained is not None and trained.any():
            info.epoch = int(written.backwards["epoch"][trained][-1])
            losses = written.backwards["loss"][trained]
            finite = losses[abs(losses) < float("inf")]
            info.loss = float(finite[-1]) if len(finite) else info.loss
        self._measure(written)
        if written.left_out:
            text = f"only {MAX_COMPONENTS} components of losses are stored; not these: {', '.join(written.left_out)}"
            self.noticed(0, Noticed(text=text, remedy="the losses themselves are all there", time=time.time()))
        self._changed(self)

    def _advance(self, table: dict[str, Any], ahead: int) -> None:
        """How far each process has come: ``ahead`` of the newest step in these records."""
        if not table:
            return
        self.info.step = max(self.info.step, int(table["step"].max()) + ahead)
        for rank in self.info.ranks:
            steps = table["step"][table["rank"] == rank.rank]
            if len(steps) and rank.trains:
                rank.step = max(rank.step, int(steps.max()) + ahead)

    def _measure(self, written: Written) -> None:
        if not written.metrics:
            return
        names, metrics = written.metric_names, written.metrics
        info = self.info
        by_name = {name: metrics["value"][metrics["name"] == place] for place, name in enumerate(names)}
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
        n, self._submitted = self._submitted, self._submitted + 1
        refusal = self._refusal(request)
        if len(self._waiting) >= MAX_WAITING_COMMANDS:
            answer = Answer(id=request.id, n=n, status="busy", step=self.info.step,
                            reason=f"{MAX_WAITING_COMMANDS} commands wait for the script already")  # fmt: skip
        elif refusal is not None:
            answer = Answer(id=request.id, n=n, status="refused", step=self.info.step, reason=refusal.message,
                            remedy=refusal.remedy)  # fmt: skip
        else:
            answer = Answer(id=request.id, n=n, status="accepted", step=self.info.step)
            self._waiting[request.id] = asyncio.get_running_loop().create_future()
            command = Command(n=n, id=request.id, name=request.name, args=request.args, by=request.by)
            for send in self._recipients():
                send(command)
        self._answers[request.id] = answer
        while len(self._answers) > REMEMBERED_ANSWERS:
            oldest = next(iter(self._answers))
            if oldest in self._waiting:  # its answer is still to come
                break
            del self._answers[oldest]
        return answer

    def _refusal(self, request: CommandRequest) -> Optional[Refused]:
        if request.name not in COMMANDS:
            close = difflib.get_close_matches(request.name, COMMANDS, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            return Refused(f"unknown command {request.name[:40]!r}", f"{hint}known: {', '.join(COMMANDS)}")
        if self.foreign:
            return Refused(f"session {self.info.id} belongs to the hub on {self.foreign}", "ask there")
        if not self.live:
            return Refused(f"session {self.info.id} is {self.info.state}: there is no script to {request.name}")
        if not self.senders:
            return Refused("the script is not connected to this hub right now", "try again in a few seconds")
        many = max(self.info.world_size, len(self._recipients()))
        if request.name in ("pause", "stop") and many > 1:
            return Refused(f"{many} ranks or processes train: a {request.name} of one alone would kill the job",
                           "acting on all of them at one step is not in this version")  # fmt: skip
        return None

    def _recipients(self) -> list[Callable[[Command], None]]:
        """Who is sent a command: the processes that train; before one does, all."""
        training = {(rank.rank, rank.pid) for rank in self.info.ranks if rank.trains}
        return [send for who, send in self.senders.items() if who in training] or list(self.senders.values())

    def _refuse_waiting(self, reason: str) -> None:
        for identifier in list(self._waiting):
            answer = self._answers[identifier]
            self.answered(msgspec.structs.replace(answer, status="refused", reason=reason))

    def _enter(self, state: Any, by: str, reason: str, since: Optional[float] = None) -> None:
        self.info.state, self.info.by, self.info.reason = state, by, reason
        self.info.since = time.time() if since is None else since
        self._changed(self)

    def _process(self, rank: int, pid: int) -> Rank:
        return next(known for known in self.info.ranks if (known.rank, known.pid) == (rank, pid))


def _finished(written: Written) -> dict[str, Any]:
    """Rank and number of the steps that are among these records: those rows that tell how long a step took."""
    if "step_ms" not in written.metric_names:
        return {}
    mine = written.metrics["name"] == written.metric_names.index("step_ms")
    return {name: written.metrics[name][mine] for name in ("rank", "step")}


class Registry:
    """All sessions by id."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._listeners: list[Callable[[LiveSession], None]] = []
        self.sessions: dict[str, LiveSession] = {
            session.id: LiveSession(session, self._changed, foreign) for session, foreign in folder.read_all()
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
        if known is not None:
            known.foreign = ""  # its agent has come to us
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
        if live.foreign:
            raise Refused(f"session {live.info.id} belongs to the hub on {live.foreign}", "remove it there")
        if live.live:
            raise Refused(f"session {live.info.id} is {live.info.state}", "stop it first")
        del self.sessions[live.info.id]
        if live.store is not None:
            live.store.close()
        self._folder.delete(live.info.id)
