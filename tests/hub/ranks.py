"""Ranks of a job that train in threads of this process, behind a collective operation, and obey as agents have to.

What an agent has to do stands in ``docs/control-api.md``; this is the shortest that does it.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.protocol import (
    Answer,
    Answered,
    Command,
    Decision,
    Journaled,
    JournalEntry,
    Metrics,
    Propose,
    Proposed,
    StateChanged,
)  # fmt: skip
from tests.hub.agent import Agent, hello

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.protocol import HubFile, State

FIRST_PID = 2**31 - 1000
"""Of processes that are not there: what becomes of them is decided by a test."""

HANGS = 30.0
"""Seconds after which a collective operation has failed."""

REPORT_STEPS = 20


class Done(NamedTuple):
    """A command that a rank has done."""

    id: str
    name: str
    step: int


class FakeRank:
    """One rank: a thread that trains, and a thread that talks to the hub."""

    def __init__(self, hub: HubFile, number: int, barrier: threading.Barrier, seed: int, **first: Any) -> None:
        given: dict[str, Any] = {
            "rank": number,
            "pid": FIRST_PID + number,
            "world_size": barrier.parties,
            "process": f"rank {number}",
        }
        self.hub = hub
        self.hello = hello(**{**given, **first})
        self.number = number
        self.step = 0
        self.paused = self.stopped = self.failed = self.deaf = False
        self.done: list[Done] = []
        self.lr = 0.0
        self._barrier = barrier
        self._random = random.Random(seed)
        self._news = threading.Condition()
        self._proposed: dict[int, int] = {}
        self.asked = 0
        """Proposals that it got, whatever it answered."""
        self._at: dict[int, Command] = {}
        self._direct: list[Command] = []
        self._seen: set[str] = set()
        self._pause_at = -1
        self._sending = threading.Lock()
        self._agent = Agent(hub, self.hello)
        self._agent.__enter__()
        self._threads = [threading.Thread(target=self._train), threading.Thread(target=self._listen)]
        self._state("running")

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """It has ended, and its connection too."""
        self._threads[0].join(2 * HANGS)
        assert not self._threads[0].is_alive(), "it hangs"
        self._agent.connection.hang_up()
        self._threads[1].join(5)
        self._agent.connection.close()

    def reconnect(self) -> None:
        """Its connection breaks, and it connects anew."""
        self._agent.connection.hang_up()
        self._threads[1].join(5)
        self._agent.connection.close()
        seq, self._agent = self._agent.seq, Agent(self.hub, self.hello)
        self._agent.__enter__()
        self._agent.seq = seq
        self._threads[1] = threading.Thread(target=self._listen)
        self._threads[1].start()

    def kill(self) -> None:
        """It dies: no word more."""
        self._agent.connection.hang_up()
        with self._news:
            self.stopped = True
            self._news.notify_all()
        self._barrier.abort()

    def say(self, message: Any) -> None:
        with self._sending, contextlib.suppress(OSError):
            self._agent.say(message)

    def _listen(self) -> None:
        agent = self._agent
        agent.patient()
        with contextlib.suppress(OSError):
            while True:
                for message in [*agent.inbox, *agent.connection.receive()]:
                    if not self.deaf:
                        self._take(message)
                agent.inbox.clear()
        with self._news:  # what is undecided is taken back
            for n in self._proposed:
                self._forget(n)
            self._proposed.clear()
            self._news.notify_all()

    def _forget(self, n: int) -> None:
        command = self._at.pop(n, None)
        if command is not None:
            self._seen.discard(command.id)

    def _take(self, message: Any) -> None:
        with self._news:
            if isinstance(message, Propose):
                self.asked += 1
                accepted = self.step < message.step
                if accepted:
                    self._proposed[message.n] = message.step
                self.say(Proposed(n=message.n, accepted=accepted, step=self.step))
            elif isinstance(message, Decision):
                self._proposed.pop(message.n, None)
                if not message.go:
                    self._forget(message.n)
            elif isinstance(message, Command) and message.id not in self._seen:
                self._seen.add(message.id)
                if message.at < 0:
                    self._direct.append(message)
                elif message.at < self.step or (message.at == self.step and not self._holds()):
                    self._answer(message, "refused", "that step is past")
                else:
                    self._at[message.n] = message
            self._news.notify_all()

    def _holds(self) -> bool:
        return self.paused or self.step in self._proposed.values()

    def _train(self) -> None:
        try:
            while not self.stopped:
                time.sleep(self._random.random() * 0.002)  # the step's work
                self._barrier.wait(HANGS)
                self._gate()
        except threading.BrokenBarrierError:
            self.failed = not self.stopped
        if not self._agent.connection._own.intact():
            return
        self._state("stopped" if self.stopped else "crashed")

    def _gate(self) -> None:
        with self._news:
            self.step += 1
            if self.step % REPORT_STEPS == 0:
                self._report()
            if self.step == self._pause_at:
                self._pause("")
            while not self.stopped:
                if self.step in self._proposed.values():
                    assert self._news.wait(HANGS), "held undecided"
                    continue
                due = next((command for command in self._at.values() if command.at == self.step), None)
                command = self._direct.pop(0) if due is None and self._direct else due
                if command is not None:
                    self._at.pop(command.n, None)
                    self._do(command)
                elif not self.paused:
                    return
                else:
                    self._news.wait(HANGS)

    def _do(self, command: Command) -> None:
        refusal = ""
        if command.name == "pause":
            self._pause(command.by)
        elif command.name in ("resume", "step"):
            refusal = "" if self.paused else "the script is not paused"
            if self.paused:
                self.paused = False
                self._pause_at = self.step + command.args.get("steps", 1) if command.name == "step" else -1
                self._state("running", command.by)
        elif command.name == "set":
            before, self.lr = self.lr, command.args["value"]
            self.say(Journaled(entry=JournalEntry(
                time=time.time(), run="baseline", step=self.step, epoch=0, backward=self.step, point=self.step,
                name="set", args=command.args, before={"lr": before}, after={"lr": self.lr}, by=command.by,
            )))  # fmt: skip
        elif command.name == "stop":
            self.stopped = True
        self.done.append(Done(command.id, command.name, self.step))
        self._answer(command, "refused" if refusal else "applied", refusal)

    def _pause(self, by: str) -> None:
        if not self.paused:
            self.paused = True
            self._state("paused", by)

    def _answer(self, command: Command, status: Any, reason: str) -> None:
        self.say(Answered(answer=Answer(id=command.id, n=command.n, status=status, step=self.step, reason=reason)))

    def _state(self, state: State, by: str = "") -> None:
        self.say(StateChanged(state=state, step=self.step, epoch=0, time=time.time(), by=by))

    def _report(self) -> None:
        steps = range(self.step - REPORT_STEPS, self.step)
        self.say(Metrics(
            run="baseline", step=array("q", steps).tobytes(), epoch=array("i", [0] * REPORT_STEPS).tobytes(),
            time=array("d", [time.time()] * REPORT_STEPS).tobytes(),
            values={"step_ms": array("d", [1.0] * REPORT_STEPS).tobytes()},
        ))  # fmt: skip


@contextlib.contextmanager
def training(hub: HubFile, world: int, seed: int = 0, connect: Callable[[int], bool] = lambda number: True) -> Any:
    """So many ranks that train until the block ends; those that are not connected train too, without a hub."""
    barrier = threading.Barrier(world)
    ranks = [FakeRank(hub, number, barrier, seed + number) for number in range(world)]
    for rank in ranks:
        rank.start()
    try:
        yield ranks
    finally:
        for rank in ranks:
            with rank._news:
                rank.stopped = True
                rank._news.notify_all()
        barrier.abort()
        for rank in ranks:
            rank.join()
