"""The sessions that this hub knows: what they are, what their agents said, and the commands under way.

Everything here runs on the event loop; the stores are written and read in threads by :mod:`onthefly.hub.keeper`.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Optional

from onthefly.errors import NoSuchSession, Refused
from onthefly.hub import branches, resumes
from onthefly.hub.columns import TRAIN
from onthefly.hub.dispatch import Dispatch, Ledger
from onthefly.hub.processes import Processes
from onthefly.protocol import (
    FINAL_STATES,
    LIVE_STATES,
    MAX_COMPONENTS,
    RUN_PATTERN,
    Hello,
    Notice,
    Noticed,
    Session,
    StateChanged,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.hub.folder import DataFolder
    from onthefly.hub.processes import Key
    from onthefly.hub.store import Store, Written
    from onthefly.protocol import Controls, Described, HubMessage, ReceiptInfo

NEWEST_STEPS = 100
DYING_SECONDS = 0.05
"""After its connection ended, a process that was killed is gone; the launcher of a job ends the others soon after."""

MAX_NAME = 500

_REASONS = {"crashed": "the process is gone", "lost": "the process runs, but its connection was lost"}
"""Of states that no process says of itself."""


class LiveSession:
    """One session: its description for clients, its agents, its commands."""

    def __init__(
        self, session: Session, changed: Callable[[LiveSession], None], keep: Callable[[LiveSession], None],
        ledger: Ledger, foreign: str = "",
    ) -> None:  # fmt: skip
        """``changed`` tells clients, soon; ``keep`` writes ``session.json``, now."""
        self.info = session
        self.foreign = foreign
        """The host whose hub keeps it, where that is not this one: then it is only shown, as it was found."""
        self.store: Optional[Store] = None
        self.processes = Processes(session)
        self._changed = changed
        self._keep = keep
        self._teller: Optional[Key] = None
        """Whose word on what is under control is shown."""
        self._steps: deque[tuple[float, float]] = deque(maxlen=NEWEST_STEPS)
        self.commands = Dispatch(self, ledger)

    def keep(self) -> None:
        """Write down what the next hub has to know, before it takes effect."""
        self._keep(self)

    @property
    def live(self) -> bool:
        """Its script runs, as far as known."""
        return self.info.state in LIVE_STATES

    def joined(self, hello: Hello, send: Callable[[HubMessage], None]) -> None:
        """An agent connected (again)."""
        if hello.resumes:
            self.info.resumed = hello.started
        key = self.processes.joined(hello, send)
        self.settle()
        self.commands.joined(key)

    def left(self, hello: Hello) -> None:
        """An agent's connection ended."""
        self.processes.left(hello)
        self.commands.agreement.wake()
        self.check_alive()
        asyncio.get_running_loop().call_later(DYING_SECONDS, self.check_alive)

    def check_alive(self) -> None:
        """Find out which of the processes without a connection are gone."""
        changed = [] if self.foreign else self.processes.check_alive()
        for rank in changed:
            if rank.state == "crashed":
                self.commands.gone((rank.rank, rank.pid), crashed=True)
        if changed:
            self.settle()

    def entered(self, number: int, pid: int, message: StateChanged) -> None:
        """A process said that it is in another state."""
        self.processes.entered((number, pid), message)
        self.info.step, self.info.epoch = max(self.info.step, message.step), message.epoch
        if message.state in FINAL_STATES:
            self.commands.gone((number, pid), crashed=message.state == "crashed")
        self.settle(message)

    def settle(self, message: Optional[StateChanged] = None) -> None:
        """Bring the state of the session in line with those of its processes."""
        state = self.processes.overall(None if message is None else message.state)
        by, reason, said = "", _REASONS.get(state, ""), message is not None and message.state == state
        if message is not None and said:
            by, reason = message.by, message.reason
        elif state == "stopped":
            by = self.processes.stopped_by
        elif state == "running" and self.commands.agreement.pauses():
            state, by = "pausing", self.commands.agreement.pauses()
        since = time.time() if message is None else message.time
        if state != self.info.state or said:
            self.info.state, self.info.by, self.info.reason, self.info.since = state, by, reason, since
            self.info.ended = since if state in FINAL_STATES else None
            if state in FINAL_STATES:
                self.commands.refuse_all("the script has ended" if said else "the script is gone")
        self._changed(self)
        self.commands.agreement.look()

    def described(self, message: Described) -> None:
        """The script says what it and its run are to be called, and what there is to say of a run."""
        self.info.name, self.info.project = message.name[:MAX_NAME], message.project[:MAX_NAME]
        if RUN_PATTERN.fullmatch(message.run):
            if message.branch is not None or message.run != self.info.run:
                branches.show(self.info, message)
            if message.run != self.info.run:
                self.info.run = message.run
                self.info.loss = None
                self.info.step = 0  # a run may begin anywhere: at the checkpoint that the script went back to
                for rank in self.info.ranks:
                    rank.step = 0
        self._changed(self)

    def line(self, run: str) -> list[tuple[str, int]]:
        """The runs that one goes on from, each with the steps of it that count."""
        return branches.line(self.info, run)

    def receipted(self, receipt: ReceiptInfo) -> None:
        """What the first steps after a resume have proven."""
        resumes.show(self.info, receipt)
        self._changed(self)

    def pin(self, pinned: bool) -> None:
        """Keep it whatever the budget, or no longer."""
        if self.foreign:
            raise Refused(f"session {self.info.id} belongs to the hub on {self.foreign}", "pin it there")
        self.info.pinned = pinned
        self._keep(self)
        self._changed(self)

    def notice(self, text: str, remedy: str, rank: int) -> None:
        """The hub has something to tell the user."""
        self.noticed(rank, Noticed(text=text, remedy=remedy, time=time.time()))

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
        info.logs, info.journal = self.store.log_rows, self.store.journal_rows
        info.health = self.store.health_rows
        info.metrics += [name for name in written.metric_names if name not in info.metrics]
        if info.run in written.runs:
            run = written.runs.index(info.run)
            self._advance(written.backwards, run, 0)
            self._advance(_finished(written), run, 1)
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

    def _advance(self, table: dict[str, Any], run: int, ahead: int) -> None:
        """How far each process has come: ``ahead`` of the newest step in these records of that run."""
        mine = table["run"] == run if table else None
        if mine is None or not mine.any():
            return
        self.info.step = max(self.info.step, int(table["step"][mine].max()) + ahead)
        for rank in self.info.ranks:
            steps = table["step"][mine & (table["rank"] == rank.rank)]
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

    def controlled(self, key: Key, controls: Controls) -> None:
        """What is under control now, as rank 0 tells it (the others are the same), or who comes first of them."""
        teller = self.processes.find(self._teller or key)
        if teller is None or teller.state not in LIVE_STATES or key[0] <= teller.rank:
            self._teller = key
            self.info.controls = controls
            self._changed(self)


def _finished(written: Written) -> dict[str, Any]:
    """Rank and number of the steps that are among these records: those rows that tell how long a step took."""
    if "step_ms" not in written.metric_names:
        return {}
    mine = written.metrics["name"] == written.metric_names.index("step_ms")
    return {name: written.metrics[name][mine] for name in ("run", "rank", "step")}


class Registry:
    """All sessions by id."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._listeners: list[Callable[[LiveSession], None]] = []
        self.sessions: dict[str, LiveSession] = {
            session.id: LiveSession(session, self._changed, self.write, ledger, foreign)
            for session, ledger, foreign in folder.read_all()
        }

    def listen(self, listener: Callable[[LiveSession], None]) -> None:
        """Call ``listener`` when a session is new or changed."""
        self._listeners.append(listener)

    def write(self, live: LiveSession) -> None:
        """Bring its ``session.json`` up to date."""
        if not live.foreign:
            self._folder.write(live.info, live.commands.ledger())

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
            known = self.sessions[hello.session] = LiveSession(info, self._changed, self.write, Ledger())
        return known

    def adopt(self, identifier: str) -> Optional[LiveSession]:
        """The session of that id, looked for in the data folder if it is not known."""
        if identifier not in self.sessions:
            for session, ledger, foreign in self._folder.read_all(identifier):
                known = LiveSession(session, self._changed, self.write, ledger, foreign)
                self.sessions[session.id] = known
                self._changed(known)
        return self.sessions.get(identifier)

    def newest_first(self) -> list[Session]:
        """All sessions, newest start first; one that was taken up again started then."""
        return sorted(
            (live.info for live in self.sessions.values()), key=lambda info: info.resumed or info.started, reverse=True
        )

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
