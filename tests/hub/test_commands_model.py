"""Rows 18 and 19: two clients, duplicates, broken connections, a hub that is killed; each command is done at most once.

The hub's own registry, keeper and store, without its sockets: what is on the wire, and what of it arrives, is decided
here, step by step, and compared with what the script has done.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from onthefly.errors import NoSuchSession
from onthefly.hub import commands, dispatch
from onthefly.hub.agents import URGENT, apply
from onthefly.hub.folder import DataFolder
from onthefly.hub.journal import newest_answers, read
from onthefly.hub.keeper import Frame, Keeper
from onthefly.hub.registry import Registry
from onthefly.hub.store import Source
from onthefly.protocol import Answer, Answered, Command, CommandRequest, Journaled, StateChanged
from tests.hub.agent import hello
from tests.hub.test_journal import entry
from tests.reporting import note

if TYPE_CHECKING:
    from onthefly.hub.registry import LiveSession

FULL = "ONTHEFLY_FULL" in os.environ
INTERLEAVINGS = 2000 if FULL else 20
PID = 2**31 - 5
seen = {"commands": 0, "done": 0, "kills": 0}


NAMES = st.sampled_from(["pause", "resume", "set", "set", "step", "sett"])
YES_OR_NO = st.booleans()


def action(name: str, /, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """Something that may happen: a method of :class:`Interleaving` and its arguments."""
    return st.tuples(st.just(name), st.fixed_dictionaries(given))


SEND = action("send", client=st.integers(0, 1), names=st.lists(NAMES, min_size=1, max_size=4))
GO_ON = action("go_on", first=st.integers(0, 3), parts=st.integers(1, 4), count=st.integers(1, 5))
AGAIN = action("send_again", back=st.integers(0, 5))
RIVALS = action("both_at_once_and_one_goes_away", name=st.sampled_from(["pause", "set"]))
LOSS = action("lose_the_connection", for_long=YES_OR_NO)
ANEW = action("connect_anew")
HUB = action("another_hub", orderly=YES_OR_NO, for_long=YES_OR_NO)
END = action("end_of_the_script")
ACTIONS = st.one_of(*[SEND] * 6, *[GO_ON] * 14, *[AGAIN] * 4, *[RIVALS] * 2, *[ANEW] * 3, LOSS, LOSS, HUB, HUB, END)
"""One rule for all: of several, hypothesis leaves most out of each run, and a hub without commands shows nothing."""


class Script:
    """The agent's side: takes each id once, does it at a pause point, keeps frames until they are acknowledged."""

    def __init__(self) -> None:
        self.queue: list[Command] = []
        self.ids: set[str] = set()
        self.done: dict[str, Answer] = {}
        self.order: list[int] = []
        self.changes: list[int] = []
        self.step = 0
        self.paused = False
        self.seq = 0
        self.outbox: list[tuple[int, Any]] = []
        self.sent = 0
        """Of the outbox, over this connection."""

    def say(self, message: Any) -> None:
        self.seq += 1
        self.outbox.append((self.seq, message))

    def state(self, state: Any) -> None:
        self.say(StateChanged(state=state, step=self.step, epoch=0, time=time.time()))

    def take(self, command: Command) -> None:
        if command.id not in self.ids:
            self.ids.add(command.id)
            self.queue.append(command)

    def reach(self) -> None:
        """A pause point: do what waits."""
        self.step += not self.paused
        while self.queue:
            command = self.queue.pop(0)
            refused = command.name == "resume" and not self.paused
            if command.name in ("pause", "resume") and not refused:
                self.paused = command.name == "pause"
                self.state("paused" if self.paused else "running")
            if command.name == "set":
                self.changes.append(command.n)
                self.say(Journaled(entry=entry(self.step, point=command.n)))
            assert command.id not in self.done, "done twice"
            self.done[command.id] = Answer(id=command.id, n=command.n, status="refused" if refused else "applied",
                                           step=self.step, reason="not paused" if refused else "")  # fmt: skip
            self.order.append(command.n)
            self.say(Answered(answer=self.done[command.id]))

    def acknowledged(self, seq: int) -> None:
        while self.outbox and self.outbox[0][0] <= seq:
            self.outbox.pop(0)
            self.sent = max(0, self.sent - 1)


class Interleaving(RuleBasedStateMachine):
    """One hub after the other, one script, two clients."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.script = Script()
        self.ended = False
        self.sent: dict[str, CommandRequest] = {}
        self.told: dict[str, Answer] = {}
        self.lives = 0
        self.begin()
        self.script.state("running")
        self.connect()
        self.deliver(9)
        self.commit()

    # The hub.

    def begin(self) -> None:
        self.data = DataFolder(self.folder / f"life{self.lives}")
        self.registry = Registry(self.data)
        self.keeper = Keeper(self.registry, self.data)
        self.connected = False
        self.wire: list[Command] = []

    @property
    def live(self) -> LiveSession:
        return self.registry.sessions["abcdefgh"]

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def connect(self) -> None:
        async def join() -> None:
            live = self.registry.open(self.hello)
            rank = live.processes.number(self.hello)
            self.keeper.forget(live.info.id, rank, PID)
            saved = (await self.keeper.store(live)).saved(rank, PID)
            self.script.acknowledged(saved)
            self.script.sent = 0
            live.joined(self.hello, self.wire.append)  # type: ignore[arg-type]

        self.hello = hello(pid=PID, node="elsewhere")  # nobody looks whether it lives
        self.run(join())
        self.connected = True

    # What happens.

    @rule(what=ACTIONS)
    def act(self, what: tuple[str, dict[str, Any]]) -> None:
        name, given = what
        needed = {"send_again": self.sent, "lose_the_connection": self.connected,
                  "connect_anew": not self.connected and not self.ended,
                  "end_of_the_script": self.connected and not self.ended}  # fmt: skip
        if needed.get(name, True):
            getattr(self, name)(**given)

    def send(self, client: int, names: list[str]) -> None:
        for name in names:
            self.send_one(client, name)

    def send_one(self, client: int, name: str) -> None:
        args: dict[str, Any] = {"set": {"name": "lr", "value": 1.0}}.get(name, {})
        request = CommandRequest(id=f"c{len(self.sent)}", name=name, args=args, by=f"client {client}")
        self.sent[request.id] = request
        self.ask(request)

    @invariant()
    def what_is_known_was_done_and_is_saved(self) -> None:
        for answer in list(self.live.commands._answers.values()) if "abcdefgh" in self.registry.sessions else []:
            if answer.durability == "saved" and answer.id not in self.told:
                self.heard(answer)

    def on_disk(self) -> set[str]:
        """The commands whose answers are in the store."""
        found = self.run(self.keeper.read(self.live, lambda cursor: newest_answers(cursor, 10**6)))
        return {answer.id for _, _, answer in found}

    def send_again(self, back: int) -> None:
        self.ask(list(self.sent.values())[-1 - back % len(self.sent)])

    def both_at_once_and_one_goes_away(self, name: str) -> None:
        args: dict[str, Any] = {"name": "lr", "value": 1.0} if name == "set" else {}
        request = CommandRequest(id=f"c{len(self.sent)}", name=name, args=args)
        self.sent[request.id] = request

        async def scene() -> Answer:
            one, other = (asyncio.ensure_future(commands.submit(self.keeper, self.live, request)) for _ in range(2))
            await asyncio.sleep(0)
            one.cancel()
            return await other

        self.heard(self.run(scene()))

    def ask(self, request: CommandRequest) -> None:
        self.heard(self.run(commands.submit(self.keeper, self.live, request)))

    def heard(self, answer: Answer) -> None:
        """What a client is told agrees with what was done, and with what it was told before."""
        assert answer.id in self.sent
        before, done = self.told.get(answer.id), self.script.done.get(answer.id)
        if answer.durability == "saved":
            self.told[answer.id] = answer
        if before is not None:
            assert answer == before, "another answer"
        if answer.status == "applied" or answer.reason == "not paused":
            assert done is not None, "told before it was done"
            assert (answer.status, answer.step, answer.n) == (done.status, done.step, done.n)
            assert answer.durability == "saved", "shown before it is on disk"
            assert answer.id in self.on_disk(), "said to be on disk"
        if self.sent[answer.id].name == "sett":
            assert answer.status == "refused"
        if self.ended and before is None and done is None:
            assert answer.status == "refused"

    def go_on(self, first: int, parts: int, count: int) -> None:
        """Some of the way from the hub to the script and back."""
        for part in ("arrive", "reach", "deliver", "commit")[first : first + parts]:
            if part == "commit":
                self.commit()
            elif part == "reach" and not self.ended:
                self.script.reach()
            elif part == "arrive" and self.connected:
                self.arrive(count)
            elif part == "deliver" and self.connected:
                self.deliver(count)

    def arrive(self, count: int) -> None:
        """Commands reach the script's process."""
        for command in self.wire[:count]:
            self.script.take(command)
        del self.wire[:count]

    def deliver(self, count: int) -> None:
        """Frames reach the hub."""

        async def take() -> None:
            for seq, message in self.script.outbox[self.script.sent :][:count]:
                source = Source(0, PID, seq)
                apply(self.live, source, message)
                frame = Frame(source, message, 1, self.script.acknowledged, pytest.fail)
                self.keeper.take("abcdefgh", frame, urgent=isinstance(message, URGENT))
                self.script.sent += 1

        self.run(take())

    def commit(self) -> None:
        self.run(self.keeper._commit_all(float("inf")))

    def lose_the_connection(self, for_long: bool) -> None:
        self.wire.clear()

        async def leave() -> None:
            self.live.left(self.hello)

        self.run(leave())
        self.connected = False
        if not for_long and not self.ended:
            self.connect()

    def connect_anew(self) -> None:
        self.connect()

    def another_hub(self, orderly: bool, for_long: bool) -> None:
        """The hub ends, or is killed: then what is on disk at this moment is all that the next one has."""
        target = self.folder / f"life{self.lives + 1}"

        async def end() -> None:
            for live in self.registry.sessions.values():
                live.commands.agreement.close()
            await self.keeper.close()

        if not orderly:
            shutil.copytree(self.folder / f"life{self.lives}", target)
            self.keeper._queues.clear()  # what it had not committed it never will, and acknowledges nothing
        self.run(end() if orderly else self.keeper.close())
        if orderly:
            shutil.copytree(self.folder / f"life{self.lives}", target)
        self.lives += 1
        seen["kills"] += not orderly
        self.begin()
        if not for_long and not self.ended:
            self.connect()
        for identifier in self.told:
            self.ask(self.sent[identifier])

    def end_of_the_script(self) -> None:
        """Its process answers what waits there, as it has to, and says goodbye."""
        for command in self.script.queue:
            self.script.done[command.id] = answer = Answer(id=command.id, n=command.n, status="refused",
                                                           step=self.script.step, reason="ended")  # fmt: skip
            self.script.say(Answered(answer=answer))
        self.script.queue.clear()
        self.script.state("ended")
        self.ended = True
        self.deliver(10**6)
        self.commit()

    def teardown(self) -> None:
        """When all has arrived, all is settled, and each thing is there once."""
        try:
            self.settle()
        finally:
            self.run(self.keeper.close())
            self.loop.close()
            shutil.rmtree(self.folder)
        seen["commands"] += len(self.sent)
        seen["done"] += len(self.script.order)

    def settle(self) -> None:
        if not self.connected and not self.ended:
            self.connect()
        for _ in range(3):
            if self.connected:
                self.arrive(10**6)
                if not self.ended:
                    self.script.reach()
                self.deliver(10**6)
            self.commit()
        assert self.script.order == sorted(self.script.order), "not in the order of acceptance"
        assert not self.live.commands._waiting, "left without an answer"
        for identifier, done in self.script.done.items():
            found = self.run(commands.submit(self.keeper, self.live, self.sent[identifier]))
            self.heard(found)
            assert (found.status, found.step) == (done.status, done.step)
            assert self.live.commands.answer(found.n) == found
        with pytest.raises(NoSuchSession):
            self.live.commands.answer(10**6)
        kept = self.run(self.keeper.read(self.live, lambda cursor: read(cursor, "abcdefgh", None)))
        assert [change.point for change in kept.entries] == self.script.changes


@pytest.mark.timeout(3600 if FULL else 120)
def test_row_19_whatever_comes_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "ANSWER_SECONDS", 0.0)
    monkeypatch.setattr(dispatch, "COMMIT_SECONDS", 1000.0)
    run_state_machine_as_test(Interleaving, settings=settings(
        max_examples=INTERLEAVINGS, stateful_step_count=20, deadline=None, database=None, derandomize=not FULL,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        print_blob=True,
    ))  # fmt: skip
    note("row 19", interleavings=INTERLEAVINGS, **seen)
    assert seen["done"] > INTERLEAVINGS / 2
