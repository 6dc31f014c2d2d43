"""A fork on a selection: the hub says which samples are meant, once for each command, or why none are."""

from __future__ import annotations

import contextlib
import json
import threading
from array import array
from typing import TYPE_CHECKING, Any

from onthefly.hub import forks, keeper
from onthefly.protocol import Answer, Answered, Branch, CheckpointInfo, Command, Controlled, Controls, Described
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello, records
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import pytest

ROWS = 20


class Script:
    """A paused session with losses, which takes every command."""

    def __init__(self, hub: Running, agent: Agent) -> None:
        self.hub, self.agent = hub, agent
        self.got: list[Command] = []
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()

    def _listen(self) -> None:
        self.agent.patient()
        with contextlib.suppress(OSError):
            while True:
                command = self.agent.wait(Command)
                self.got.append(command)
                self.agent.say(Answered(answer=Answer(id=command.id, n=command.n, status="applied", step=3)))

    def fork(self, identifier: str = "", /, **args: Any) -> Any:
        """Its answer."""
        body = {"id": identifier or f"id-{len(self.got)}-{args}"[:100], "name": "fork", "args": args, "by": "ana"}
        status, _, answer = self.hub.request("POST", "/api/v1/sessions/abcdefgh/commands", json.dumps(body))
        assert status == 200, answer
        return json.loads(answer)


@contextlib.contextmanager
def playing(folder: Path, port: int, *said: Any) -> Generator[Script, None, None]:
    with running_hub(folder, port) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        agent.state("paused")
        for message in said:
            agent.say(message)
        agent.saved(agent.seq)
        script = Script(hub, agent)
        try:
            yield script
        finally:
            agent.connection.hang_up()
            script.thread.join()


def keyed() -> Any:
    """Records of a stream, whose samples have no index."""
    return records(0, 1, 4, identity=bytes([2]), sample=array("q", [-1] * 4).tobytes(),
                   key=array("i", range(4)).tobytes(), keys=list("abcd"))  # fmt: skip


def test_a_selection_waits_for_what_has_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "BATCH_SECONDS", 5.0)
    with playing(tmp_path, 47937, records(0, 1, ROWS)) as script:
        # The last step before the pause turns the order around, and would not be committed by itself for a while.
        script.agent.say(records(1, 1, ROWS, sample_loss=array("f", range(ROWS, 0, -1)).tobytes()))
        before = script.hub.json("sessions/abcdefgh")["since"]
        script.agent.state("paused")  # which is told at once
        wait_for("both to be there", lambda: script.hub.json("sessions/abcdefgh")["since"] != before)
        assert script.fork(select="worst=1", steps=5)["status"] == "applied"
        assert script.got[0].args["samples"] == [0]


def test_the_script_gets_the_samples_and_the_words(tmp_path: Path) -> None:
    with playing(tmp_path, 47933, records(0, 2, ROWS)) as script:
        assert script.fork(select="worst=3", steps=5)["status"] == "applied"
        assert script.got[0].args == {"select": "worst=3", "steps": 5, "samples": [17, 18, 19]}
        assert script.fork(select="loss=:4 !sample=2", loader="loader0")["status"] == "applied"
        assert script.got[1].args["samples"] == [0, 1, 3, 4]
        assert script.fork(samples=[4, 5])["status"] == "applied"
        assert script.fork(steps=2)["status"] == "applied"
        assert [command.args for command in script.got[2:]] == [{"samples": [4, 5]}, {"steps": 2}], "handed on as it is"


def test_the_same_command_means_the_same_samples(tmp_path: Path) -> None:
    with playing(tmp_path, 47934, records(0, 1, ROWS)) as script:
        first = script.fork("a", select="worst=1")
        script.agent.say(records(1, 1, ROWS, sample_loss=array("f", range(ROWS, 0, -1)).tobytes()))
        wait_for("them", lambda: script.hub.json("sessions/last")["samples"] == 2 * ROWS)
        assert script.fork("a", select="worst=1") == first
        assert script.fork("b", select="worst=1")["status"] == "applied"
        assert [command.args["samples"] for command in script.got] == [[19], [0]]
        refused = script.fork("c", select="loss=99:")
        script.agent.say(records(2, 1, ROWS, sample_loss=array("f", [100] * ROWS).tobytes()))
        wait_for("them", lambda: script.hub.json("sessions/last")["samples"] == 3 * ROWS)
        assert script.fork("c", select="loss=99:") == refused, "though it would mean something by now"
        assert script.hub.json(f"sessions/last/commands/{refused['n']}") == refused


def test_a_fork_from_a_checkpoint_goes_by_the_losses_of_its_run(tmp_path: Path) -> None:
    kept = CheckpointInfo(
        name="c1", run="baseline", step=1, epoch=0, time=1.0, why="run", memory=1, disk=0, state="memory"
    )
    other = records(1, 1, ROWS, run="fork1", sample_loss=array("f", range(ROWS, 0, -1)).tobytes())
    said = (records(0, 1, ROWS), Described(name="n", project="", run="fork1", parent="baseline", step=1), other,
            Controlled(controls=Controls(checkpoints=[kept])))  # fmt: skip
    with playing(tmp_path, 47935, *said) as script:
        assert script.fork(select="worst=1")["status"] == "applied"
        assert script.fork(select="worst=1", checkpoint="c1")["status"] == "applied"
        assert [command.args["samples"] for command in script.got] == [[0], [19]]


def test_a_merge_that_has_not_trained_goes_by_the_losses_of_the_run_before_it(tmp_path: Path) -> None:
    merge = Branch(run="merge1", parent="fork1", parents=["baseline", "fork1"], step=3, kind="merge")
    said = (records(0, 1, ROWS), Described(name="n", project="", run="fork1", parent="baseline", step=1),
            records(1, 1, 3, run="fork1"), Described(name="n", project="", run="merge1", branch=merge))  # fmt: skip
    with playing(tmp_path, 47938, *said) as script:
        assert script.fork(select="worst=1")["status"] == "applied"
        assert script.got[0].args["samples"] == [2], "of fork1"


def test_what_cannot_be_meant_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "MAX_CHOSEN", 10)
    with playing(tmp_path, 47936, records(0, 1, ROWS)) as script:
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"select": "loss=99:"}, "no sample is meant by 'loss=99:'"),
            ({"select": "size=3"}, "is no term of a selection"),
            ({"select": "  "}, "the selection has no term"),
            ({"select": "worst=3", "samples": [1]}, "both given"),
            ({"select": "loss=0:"}, "20 samples are meant, at most 10 can be"),
            ({"select": "worst=3", "loader": "other"}, "'other' is no loader of these (loader0)"),
            ({"select": "class=1"}, "classes of samples are not recorded"),
            ({"select": "worst=3", "steps": 0}, "fork: Expected `int` >= 1"),
        ]  # fmt: skip
        for args, reason in wrong:
            answer = script.fork(**args)
            assert (answer["status"], reason in answer["reason"]) == ("refused", True), (args, answer)
            assert answer["remedy"], args
        monkeypatch.setattr(forks, "ROOM", forks.MAX_FRAME)
        assert "too many for one message" in script.fork(select="worst=3")["reason"]
        assert script.got == [], "nothing has reached the script"


def test_samples_without_an_index_are_none_to_train_on(tmp_path: Path) -> None:
    with playing(tmp_path, 47937, keyed()) as script:
        answer = script.fork(select="worst=2")
        assert (answer["status"], answer["reason"]) == (
            "refused", "2 of the samples that are meant have no index in the data set",
        )  # fmt: skip
        assert script.got == []
