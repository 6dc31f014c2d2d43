"""What was changed, what is under control, what commands were answered: kept, bounded, there for the next hub."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from onthefly.hub import controls, dispatch, keeper
from onthefly.protocol import (
    Answer,
    Answered,
    Command,
    Controlled,
    Controls,
    Denied,
    Journaled,
    JournalEntry,
    ParameterGroup,
    PlannedPause,
    TrialInfo,
)  # fmt: skip
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAN = float("nan")


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "ANSWER_SECONDS", 0.02)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    with running_hub(tmp_path, 47640) as running:
        yield running


def entry(step: int, **changes: Any) -> JournalEntry:
    given: dict[str, Any] = {
        "time": time.time(), "run": "baseline", "step": step, "epoch": 0, "backward": step, "point": step,
        "name": "set", "args": {"name": "lr", "value": 0.1}, "before": {"lr": [1.0]}, "after": {"lr": [0.1]},
        "by": "ana",
    }  # fmt: skip
    return JournalEntry(**{**given, **changes})


def send(hub: Running, identifier: str, command: str, /, **args: Any) -> dict[str, Any]:
    """The answer to a command."""
    body = json.dumps({"id": identifier, "name": command, "args": args, "by": "test"})
    status, _, answer = hub.request("POST", "/api/v1/sessions/last/commands", body)
    assert status == 200, answer
    return json.loads(answer)


def test_entries_are_kept_in_order_and_once(hub: Running) -> None:
    with Agent(hub.file) as agent, Agent(hub.file, hello(pid=2**31 - 1, rank=1)) as other:
        for step in range(3):
            agent.say(Journaled(entry=entry(step)))
        other.say(Journaled(entry=entry(7)))
        agent.saved(3)
        other.saved(1)
        found = hub.json("sessions/last/journal")
        assert found["session"] == "abcdefgh"
        assert sorted((row["rank"], row["step"]) for row in found["entries"]) == [(0, 0), (0, 1), (0, 2), (1, 7)]
        assert [row["step"] for row in hub.json("sessions/last/journal?rank=0")["entries"]] == [0, 1, 2]
        assert hub.request(path="/api/v1/sessions/last/journal?rank=x")[0] == 400
        assert hub.json("sessions/last")["journal"] == 4
    with Agent(hub.file) as again:  # after a broken connection: two that the hub has, and one that it lacks
        for step in (1, 2, 3):
            again.say(Journaled(entry=entry(step)), seq=step + 1)
        again.saved(4)
        assert [row["step"] for row in hub.json("sessions/last/journal?rank=0")["entries"]] == [0, 1, 2, 3]


def test_an_entry_that_was_acknowledged_outlives_the_hub(tmp_path: Path) -> None:
    with running_hub(tmp_path, 47645) as first, Agent(first.file) as agent:
        agent.say(Journaled(entry=entry(5, before={"lr": [NAN]})))
        agent.saved(1)
        wanted = first.json("sessions/last/journal")
    with running_hub(tmp_path, 47645) as second:
        assert second.json("sessions/last/journal") == wanted
        assert wanted["entries"][0]["before"] == {"lr": [None]}


@pytest.mark.parametrize("bad", [{"time": NAN}, {"args": {"x": "y" * (1 << 20)}}])
def test_an_entry_that_cannot_be_told_costs_its_agent_the_connection(hub: Running, bad: dict[str, Any]) -> None:
    with Agent(hub.file) as agent:
        agent.say(Journaled(entry=entry(1, **bad)))
        assert isinstance(agent.wait(Denied), Denied)
        assert hub.json("sessions/last/journal")["entries"] == []


def test_a_store_of_before_gets_the_tables(tmp_path: Path) -> None:
    with running_hub(tmp_path, 47646) as first, Agent(first.file) as agent:
        agent.state("running")
        agent.saved(1)
    path = tmp_path / "data" / "sessions" / "abcdefgh" / "store.duckdb"
    database = duckdb.connect(str(path))
    database.execute("DROP TABLE journal")
    database.execute("DROP TABLE answers")
    database.close()
    with running_hub(tmp_path, 47646) as second, Agent(second.file) as agent:
        agent.say(Journaled(entry=entry(1)), seq=2)
        agent.saved(2)
        assert len(second.json("sessions/last/journal")["entries"]) == 1


def shown(hub: Running) -> dict[str, Any]:
    return hub.json("sessions/last")["controls"]


def test_what_is_under_control_is_shown_and_outlives_the_hub(tmp_path: Path) -> None:
    said = Controls(pauses=[PlannedPause(text="step 9", by="ana")], clip="norm 1", frozen=["encoder.*"])
    with running_hub(tmp_path, 47647) as first, Agent(first.file) as agent:
        agent.state("running")
        agent.say(Controlled(controls=said))
        agent.saved(2)
        assert shown(first)["clip"] == "norm 1"
        agent.say(Controlled(controls=Controls(clip="value 2")))
        agent.saved(3)
        assert (shown(first)["clip"], shown(first)["pauses"]) == ("value 2", [])
    with running_hub(tmp_path, 47647) as second:
        assert shown(second)["clip"] == "value 2"


def test_controls_of_ranks_are_those_of_the_first(hub: Running) -> None:
    with Agent(hub.file, hello(rank=1, pid=2**31 - 1)) as one, Agent(hub.file) as zero:
        one.say(Controlled(controls=Controls(clip="one")))
        one.saved(1)
        assert shown(hub)["clip"] == "one"
        zero.say(Controlled(controls=Controls(clip="zero")))
        zero.saved(1)
        one.say(Controlled(controls=Controls(clip="one again")))
        one.saved(2)
        assert shown(hub)["clip"] == "zero"


def test_controls_are_bounded() -> None:
    group = ParameterGroup(optimizer=0, kind="SGD", group=0, parameters=1, values={"lr": NAN, "betas": [0.9, NAN],
                           "eps": 1.0})  # fmt: skip
    trial = TrialInfo(steps=2, change="x", phase="with", start=0, without=[1.0, NAN], changed=[2.0] * 5000,
                      effect=float("inf"))  # fmt: skip
    said = Controls(
        pauses=[PlannedPause(text="x" * 10_000, by="b") for _ in range(5000)], groups=[group] * 3, trial=trial,
        keep={"every": 5, "odd": {"deep": [1]}, "memory": NAN},
    )  # fmt: skip
    kept = controls.bounded(said)
    assert len(kept.pauses) == controls.MAX_ROWS["pauses"]
    assert len(kept.pauses[0].text) == controls.MAX_TEXT
    assert kept.groups[0].values == {"eps": 1.0}
    assert kept.trial is not None
    assert kept.trial.without == [1.0, None]
    assert (len(kept.trial.changed), kept.trial.effect) == (controls.MAX_TRIAL, None)
    assert kept.keep == {"every": 5}
    values: dict[str, Any] = {f"{number}" * 200: 1.0 for number in range(50)}
    groups = [ParameterGroup(optimizer=0, kind="SGD", group=g, parameters=1, values=values) for g in range(200)]
    with pytest.raises(ValueError, match="over the limit"):
        controls.bounded(Controls(groups=groups))


def test_an_answer_is_shown_when_it_is_saved_and_known_to_the_next_hub(tmp_path: Path) -> None:
    identifier = str(uuid.uuid4())
    with running_hub(tmp_path, 47648) as first, Agent(first.file) as agent:
        agent.state("running")
        agent.saved(1)
        waiting = wait_for("acceptance", lambda: send(first, "one that waits", "step", steps=3))
        assert (waiting["status"], waiting["durability"]) == ("accepted", "accepted")
        command = agent.wait(Command)
        send(first, identifier, "set", name="lr", value=0.5)
        second_command = agent.wait(Command)
        agent.say(Answered(answer=Answer(id=identifier, n=second_command.n, status="applied", step=7,
                                         result={"before": NAN})))  # fmt: skip
        answer = wait_for("it", lambda: (now := send(first, identifier, "set"))["status"] == "applied" and now)
        assert (answer["step"], answer["durability"], answer["result"]) == (7, "saved", {"before": None})
    with running_hub(tmp_path, 47648) as second:
        assert send(second, identifier, "pause") == answer, "whatever it is called now"
        assert send(second, "one that waits", "step", steps=3)["status"] == "accepted"
        with Agent(second.file) as agent:
            assert agent.wait(Command) == command, "sent again to one that has not answered"
            agent.say(Answered(answer=Answer(id=command.id, n=command.n, status="applied", step=9)), seq=3)
            wait_for("it", lambda: send(second, command.id, "step")["status"] == "applied")
            assert send(second, "a new one", "resume")["n"] > second_command.n
            assert agent.wait(Command).name == "resume"


def test_an_answer_does_not_wait_for_a_disk_that_is_away(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "COMMIT_SECONDS", 0.05)
    monkeypatch.setattr(keeper, "FIRST_RETRY", 0.3)
    from onthefly.hub.store import Store

    def full(self: Store, frames: Any) -> Any:
        raise OSError("no space left on device")

    with Agent(hub.file) as agent:
        agent.state("running")
        agent.saved(1)
        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", full)
            send(hub, "a", "resume")
            n = agent.wait(Command).n
            agent.say(Answered(answer=Answer(id="a", n=n, status="applied", step=7)))
            told = wait_for("it", lambda: (now := send(hub, "a", "resume"))["status"] == "applied" and now)
            assert told["durability"] == "accepted"
        wait_for("the disk", lambda: send(hub, "a", "resume")["durability"] == "saved")


WRONG = {
    "paus": ({}, "unknown command 'paus'", "did you mean pause?"),
    "set": ({"name": "lr"}, "missing required field `value`", "set takes name: str, value: float"),
    "step": ({"steps": 0}, ">= 1", "step takes [steps]: int"),
    "resume": ({"now": True}, "unknown field `now`", "resume takes nothing"),
    "pause": ({"step": "x"}, "Expected `int | null`", "pause takes"),
    "subset": ({"mode": "exclude", "samples": [-1]}, ">= 0", "subset takes mode: exclude|include|weights|all"),
    "trial": ({"steps": 5, "name": "set", "args": {"name": "lr", "valu": 1}}, "unknown field `valu`", "set takes"),
    "watch": ({"alarm": "spike", "action": "shout"}, "'shout'", "action: off|log|pause|rewind"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_at_the_door(hub: Running, name: str) -> None:
    args, reason, remedy = WRONG[name]
    with Agent(hub.file) as agent:
        agent.state("running")
        agent.saved(1)
        answer = send(hub, "x", name, **args)
        assert answer["status"] == "refused"
        assert reason in answer["reason"]
        assert remedy in answer["remedy"]
        send(hub, "y", "resume")
        assert agent.wait(Command).id == "y", "it never reached the script"
