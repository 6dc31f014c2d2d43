"""Row 34: ranks act at one step, whatever comes when; nobody is left holding, and nobody waits for a dead one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.hub import agreement, dispatch, processes
from onthefly.protocol import Answer, Answered, Asked, Command, Decision, Propose, Proposed, StateChanged
from tests.conftest import FULL, wait_for
from tests.hub.agent import Agent, hello
from tests.hub.ranks import FIRST_PID, training
from tests.hub.running import Running, running_hub
from tests.reporting import note

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from tests.hub.ranks import FakeRank

SEED = int(os.environ.get("ONTHEFLY_SEED", "0"))
SETTLED = ("applied", "refused", "failed")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    with running_hub(tmp_path, 47650) as running:
        yield running


def send(hub: Running, command: str, /, *, identifier: str = "", **args: Any) -> dict[str, Any]:
    """Send a command, and wait until it is settled."""
    body = json.dumps({"id": identifier or str(uuid.uuid4()), "name": command, "args": args, "by": "test"})

    def ask() -> Any:
        status, _, answer = hub.request("POST", "/api/v1/sessions/last/commands", body)
        assert status == 200, answer
        found = json.loads(answer)
        return found if found["status"] in SETTLED else None

    return wait_for(f"the answer to {command}", ask)


def state(hub: Running) -> str:
    return hub.json("sessions/last")["state"]


def notices(hub: Running) -> str:
    return " ".join(notice["text"] for notice in hub.json("sessions/last")["notices"])


def assert_alike(ranks: list[FakeRank]) -> None:
    """All did the same at the same steps, each thing once."""
    first = ranks[0].done
    assert len({done.id for done in first}) == len(first)
    for rank in ranks[1:]:
        assert rank.done == first


def drive(hub: Running, ranks: list[FakeRank], cycles: int, chance: random.Random) -> dict[str, int]:
    """Commands at random moments from two clients at once; how they were answered."""
    counts: dict[str, int] = {}
    answers: dict[str, dict[str, Any]] = {}

    def client(seed: int) -> None:
        own = random.Random(seed)
        for _ in range(cycles // 2):
            name = own.choice(["pause", "pause", "resume", "resume", "step", "set"])
            args: dict[str, Any] = {
                "set": {"name": "lr", "value": own.random()},
                "step": {"steps": own.randrange(1, 9)},
            }
            answer = send(hub, name, **args.get(name, {}))
            answers[answer["id"]] = answer
            counts[f"{name} {answer['status']}"] = counts.get(f"{name} {answer['status']}", 0) + 1
            threading.Event().wait(own.random() * 0.03)

    clients = [threading.Thread(target=client, args=(chance.randrange(10**9),)) for _ in range(2)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert not [rank for rank in ranks if rank.failed]
    assert_alike(ranks)
    steps = {done.id: done.step for done in ranks[0].done}
    for identifier, answer in answers.items():
        assert answer["status"] != "failed", answer
        assert answer["step"] == steps[identifier], answer
        assert answer["status"] == "applied" or "not paused" in answer["reason"], answer
    assert len(answers) == 2 * (cycles // 2)
    return counts


@pytest.mark.parametrize(("world", "cycles"), [(2, 30), (4, 30), pytest.param(2, 200, marks=FULL),
                                               pytest.param(4, 200, marks=FULL)])  # fmt: skip
def test_row_34_all_ranks_act_at_one_step(hub: Running, world: int, cycles: int) -> None:
    chance = random.Random(SEED + world)
    with training(hub.file, world, SEED) as ranks:
        counts = drive(hub, ranks, cycles, chance)
        note(
            "ranks",
            world=world,
            commands=cycles,
            seed=SEED,
            **{name.replace(" ", "_"): n for name, n in counts.items()},
        )
        send(hub, "pause")
        wait_for("the pause", lambda: state(hub) == "paused")
        assert len({rank.step for rank in ranks}) == 1
        assert send(hub, "set", name="lr", value=0.5)["status"] == "applied"
        assert {rank.lr for rank in ranks} == {0.5}
        assert send(hub, "resume")["status"] == "applied"
        stopped = send(hub, "stop")
        assert stopped["status"] == "applied", stopped
        wait_for("the end", lambda: state(hub) == "stopped")
        assert_alike(ranks)


class ByHand:
    """Ranks whose every word a test says, and a command that was sent for them."""

    def __init__(self, hub: Running, agents: list[Agent]) -> None:
        self.hub = hub
        self.agents = agents
        self.answers: list[dict[str, Any]] = []

    def state(self, state: Any, step: int, *which: int) -> None:
        for number in which or range(len(self.agents)):
            agent = self.agents[number]
            agent.say(StateChanged(state=state, step=step, epoch=0, time=time.time()))
            agent.saved(agent.seq)

    def send(self, command: str, **args: Any) -> threading.Thread:
        """Send it from a client that waits for its answer meanwhile."""
        thread = threading.Thread(target=lambda: self.answers.append(send(self.hub, command, **args)))
        thread.start()
        return thread

    def all(self, kind: type[Any]) -> Any:
        """The message of that kind that all of them got."""
        first, *others = [agent.wait(kind) for agent in self.agents]
        assert all(other == first for other in others)
        return first

    def vote(self, n: int, *steps: int, accepted: bool = True) -> None:
        for agent, step in zip(self.agents, steps):
            agent.say(Proposed(n=n, accepted=accepted, step=step))

    def answer(self, command: Command, *steps: int, status: Any = "applied", reason: str = "") -> None:
        for agent, step in zip(self.agents, steps):
            agent.say(Answered(answer=Answer(id=command.id, n=command.n, status=status, step=step, reason=reason)))


@contextlib.contextmanager
def by_hand(hub: Running, world: int = 2, **first: Any) -> Generator[ByHand, None, None]:
    """So many ranks that run."""
    with contextlib.ExitStack() as stack:
        agents: list[Agent] = []
        for number in range(world):
            given: dict[str, Any] = {"rank": number, "pid": FIRST_PID + number, "world_size": world,
                                     "process": f"rank {number}", **first}  # fmt: skip
            agents.append(stack.enter_context(Agent(hub.file, hello(**given))))
        ranks = ByHand(hub, agents)
        ranks.state("running", 10)
        yield ranks


def test_a_step_is_proposed_until_none_is_past_it(hub: Running) -> None:
    with by_hand(hub) as ranks:
        thread = ranks.send("pause")
        first = ranks.all(Propose)
        assert first.step == 10 + agreement.MARGIN
        assert (state(hub), hub.json("sessions/last")["by"]) == ("pausing", "test")
        ranks.agents[0].say(Proposed(n=first.n, accepted=True, step=12))
        ranks.agents[1].say(Proposed(n=first.n, accepted=False, step=15))
        assert not ranks.all(Decision).go
        second = ranks.all(Propose)
        assert second.step == 15 + 2 * agreement.MARGIN
        ranks.vote(second.n, 16, 16)
        command = ranks.all(Command)
        assert (command.name, command.at, command.n) == ("pause", second.step, second.n)
        assert ranks.all(Decision).go
        ranks.state("paused", second.step, 0)
        assert state(hub) == "pausing"
        ranks.state("paused", second.step, 1)
        assert state(hub) == "paused"
        ranks.answer(command, second.step, second.step)
        thread.join()
        assert (ranks.answers[0]["status"], ranks.answers[0]["step"]) == ("applied", second.step)
        assert ranks.answers[0]["durability"] == "saved"
        thread = ranks.send("set", name="lr", value=1)
        command = ranks.all(Command)
        assert command.at == -1, "all are paused: no step has to be agreed upon"
        ranks.answer(command, second.step, second.step + 1)
        thread.join()
        assert ranks.answers[1]["status"] == "failed"
        assert "rank 1 after step 24" in ranks.answers[1]["reason"]


def test_an_answer_of_all_is_the_worst(hub: Running) -> None:
    with by_hand(hub) as ranks:
        ranks.state("paused", 10)
        cases: Any = (
            (("refused", "refused"), "refused", "no such group"),
            (("applied", "refused"), "failed", "rank 1: no such group (done by rank 0)"),
            (("failed", "applied"), "failed", "rank 0: no such group (done by rank 1)"),
        )
        for how, status, reason in cases:
            thread = ranks.send("set", name="lr", value=1)
            command = ranks.all(Command)
            for agent, word in zip(ranks.agents, how):
                agent.say(Answered(answer=Answer(id=command.id, n=command.n, status=word, step=10,
                                                 reason="" if word == "applied" else "no such group")))  # fmt: skip
            thread.join()
            assert (ranks.answers[-1]["status"], ranks.answers[-1]["reason"]) == (status, reason)


def test_ranks_that_come_to_rest_before_that_step_do_it_there(hub: Running) -> None:
    """As after `step 3`: the next command is for a step that they will not reach."""
    with by_hand(hub) as ranks:
        thread = ranks.send("resume")
        proposal = ranks.all(Propose)
        ranks.vote(proposal.n, 11, 11)
        assert ranks.all(Command).at == proposal.step
        assert ranks.all(Decision).go
        ranks.state("paused", 12)
        assert not ranks.all(Decision).go
        command = ranks.all(Command)
        assert command.at == -1
        ranks.state("running", 12)
        ranks.answer(command, 12, 12)
        thread.join()
        assert (ranks.answers[0]["status"], ranks.answers[0]["step"]) == ("applied", 12)


def test_one_that_connects_anew_is_told_again(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "alive", lambda pid: True)
    with by_hand(hub) as ranks:
        thread = ranks.send("set", name="lr", value=1)
        proposal = ranks.all(Propose)
        ranks.vote(proposal.n, 11, 11)
        command = ranks.all(Command)
        ranks.all(Decision)
        ranks.agents[1].connection.close()
        wait_for("the loss", lambda: not hub.json("sessions/last")["ranks"][1]["connected"])
        with Agent(hub.file, ranks.agents[1].hello) as again:
            assert again.wait(Command) == command
            assert again.wait(Decision).go
            ranks.answer(command, 14)
            again.say(Answered(answer=Answer(id=command.id, n=command.n, status="applied", step=14)), seq=9)
            thread.join()
        assert ranks.answers[0]["status"] == "applied"


def test_one_that_stays_away_fails_it(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "alive", lambda pid: True)
    with by_hand(hub) as ranks:
        thread = ranks.send("set", name="lr", value=1)
        proposal = ranks.all(Propose)
        ranks.vote(proposal.n, 11, 11)
        command = ranks.all(Command)
        monkeypatch.setattr(agreement, "VOTE_SECONDS", 0.2)
        ranks.agents[1].connection.close()
        ranks.answer(command, 14)
        thread.join()
        assert ranks.answers[0]["status"] == "failed"
        assert "rank 1: its connection was lost" in ranks.answers[0]["reason"]


def test_the_end_of_the_hub_leaves_nobody_holding(tmp_path: Path) -> None:
    with running_hub(tmp_path, 47655) as hub, by_hand(hub) as ranks:
        thread = ranks.send("pause")
        ranks.all(Propose)
        later = ranks.send("resume")
        wait_for("both", lambda: len(hub.hub.registry.find("last").commands._waiting) == 2)
        hub.stop()
        assert not ranks.all(Decision).go
        for waiting in (thread, later):
            waiting.join()
    assert {answer["status"] for answer in ranks.answers} == {"refused"}
    assert "the hub has ended" in ranks.answers[0]["reason"]


def test_a_rank_that_is_missing_is_named(hub: Running) -> None:
    with Agent(hub.file, hello(rank=0, world_size=3, pid=FIRST_PID)) as zero, \
            Agent(hub.file, hello(rank=2, world_size=3, pid=FIRST_PID + 2)) as two:  # fmt: skip
        for agent in (zero, two):
            agent.state("running")
            agent.saved(1)
        answer = send(hub, "pause")
        assert answer["status"] == "refused"
        assert "rank 1 does not train yet" in answer["reason"]
        two.state("ended")
        two.saved(2)
        assert send(hub, "pause")["reason"].endswith("and rank 1 does not train yet"), "one that has ended is done"
        assert state(hub) == "running"


def test_a_launcher_and_a_child_that_trains_are_no_ranks(hub: Running) -> None:
    with Agent(hub.file, hello(pid=FIRST_PID + 7)) as launcher, by_hand(hub) as ranks, \
            Agent(hub.file, hello(rank=-1, pid=FIRST_PID + 8, process="Process-1")) as child:  # fmt: skip
        child.state("running")
        child.saved(1)
        thread = ranks.send("set", name="lr", value=1)
        proposal = ranks.all(Propose)
        ranks.vote(proposal.n, 11, 11)
        ranks.answer(ranks.all(Command), 14, 14)
        thread.join()
        assert ranks.answers[0]["status"] == "applied"
        stop = ranks.send("stop", now=True)
        ranks.answer(ranks.all(Command), 15, 15)
        assert child.wait(Command).name == "stop", "at once means all that train"
        child.say(Answered(answer=Answer(id="x", n=0, status="applied")))
        child.state("stopped")
        stop.join()
        assert not launcher.inbox


def test_children_that_train_each_get_it(hub: Running) -> None:
    with Agent(hub.file) as parent, by_hand(hub, rank=-1, world_size=1) as children:
        thread = children.send("pause")
        command = children.all(Command)
        assert command.at == -1
        children.answer(command, 11, 17)
        thread.join()
        assert children.answers[0]["status"] == "applied"
        assert children.answers[0]["result"] == {"processes": 2}
        assert children.answers[0]["step"] == 17
        assert not parent.inbox
        parent.state("ended")


def test_a_rank_that_says_nothing_is_named_and_nobody_holds(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "VOTE_SECONDS", 0.3)
    with training(hub.file, 2, SEED) as ranks:
        ranks[1].deaf = True
        answer = send(hub, "pause")
        assert (answer["status"], "rank 1 did not answer" in answer["reason"]) == ("refused", True)
        reached = ranks[0].step
        wait_for("it to go on", lambda: ranks[0].step > reached + 50)
        ranks[1].deaf = False
        assert send(hub, "pause")["status"] == "applied"
        assert ranks[0].step == ranks[1].step


def test_a_connection_that_breaks_meanwhile(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "alive", lambda pid: True)
    with training(hub.file, 2, SEED) as ranks:
        ranks[1].deaf = True
        answers: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: answers.append(send(hub, "pause")))
        thread.start()
        wait_for("the proposal", lambda: ranks[0].asked)
        ranks[1].reconnect()
        thread.join()
        assert "the connection of rank 1 was lost" in answers[0]["reason"]
        ranks[1].deaf = False
        assert send(hub, "pause")["status"] == "applied"
        for rank in ranks:  # a pause outlasts its connection
            rank.reconnect()
        wait_for("both", lambda: state(hub) == "paused")
        assert send(hub, "resume")["status"] == "applied"
        assert_alike(ranks)


def test_a_pause_of_some_only_is_undone(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "PARTIAL_SECONDS", 0.3)
    with training(hub.file, 2, SEED) as ranks:
        wait_for("a report", lambda: ranks[1].step > 60)
        with ranks[0]._news:  # as if the decision had reached this one alone
            ranks[0]._direct.append(Command(n=99, id="lost", name="pause", args={}, by="test"))
        wait_for("the notice", lambda: "rank 0 was paused and others were not" in notices(hub))
        reached = ranks[0].step
        wait_for("it to go on", lambda: ranks[0].step > reached + 50)
        assert send(hub, "pause")["status"] == "applied"
        assert ranks[0].step == ranks[1].step


def test_a_rank_that_dies_while_others_are_paused_is_named_and_the_others_stop(hub: Running) -> None:
    with training(hub.file, 3, SEED) as ranks:
        assert send(hub, "pause")["status"] == "applied"
        ranks[1].kill()
        wait_for("the end of the others", lambda: ranks[0].stopped and ranks[2].stopped, 30)
        assert "rank 1 is gone while others are paused" in notices(hub)
        assert ranks[0].done[-1].name == "stop"
        wait_for("the end", lambda: state(hub) == "stopped")


def test_what_a_rank_asks_for_is_for_all(hub: Running) -> None:
    with training(hub.file, 2, SEED) as ranks:
        ranks[1].say(Asked(name="pause", by="ana", reason="loss < 0.1"))
        wait_for("the pause", lambda: state(hub) == "paused")
        assert ranks[0].step == ranks[1].step
        assert ranks[0].done[0].id == ranks[1].done[0].id
        ranks[0].say(Asked(name="paus", by="ana", reason="loss < 0.2"))
        wait_for("the notice", lambda: "loss < 0.2: paus is refused" in notices(hub))


def test_commands_are_held_back_while_many_wait(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "MAX_WAITING_COMMANDS", 2)
    monkeypatch.setattr(dispatch, "ANSWER_SECONDS", 0.02)
    with by_hand(hub) as ranks:
        body = json.dumps({"id": "same", "name": "resume"})
        threads = [ranks.send("pause") for _ in range(2)]
        wait_for("both", lambda: len(hub.hub.registry.find("last").commands._waiting) == 2)

        def ask() -> dict[str, Any]:
            return json.loads(hub.request("POST", "/api/v1/sessions/last/commands", body)[2])

        assert ask()["status"] == "busy"
        command = Command(n=-1, id="", name="", args={}, by="")
        for _ in range(2):
            proposal = ranks.all(Propose)
            ranks.vote(proposal.n, *[proposal.step - 1] * 2)
            command = ranks.all(Command)
            ranks.answer(command, command.at, command.at)
        for thread in threads:
            thread.join()
        assert ask()["status"] == "accepted", "the same id, when there is room"
        assert ranks.all(Propose).n > command.n
