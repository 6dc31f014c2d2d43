"""Runs on the command line: what came of a fork, a merge or a comparison, and how runs hang together."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from onthefly.cli import runs
from onthefly.cli.main import main
from onthefly.errors import ExitCode
from onthefly.protocol import (
    Answer,
    Answered,
    Branch,
    Command,
    Controlled,
    Controls,
    Described,
    ProgressInfo,
    RunState,
    StateChanged,
)  # fmt: skip
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello, records
from tests.hub.running import Running, running_hub
from tests.hub.test_comparison import tell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOSS = np.linspace(1.0, 2.0, 40)
WAITS = "two steps of the script"


class Script:
    """A paused session that answers with a result, and then says what it is told to."""

    def __init__(self, hub: Running, agent: Agent) -> None:
        self.hub, self.agent = hub, agent
        self.got: list[Command] = []
        self.result: dict[str, Any] = {}
        self.then: list[Any] = []
        self.answers = True

    def listen(self) -> None:
        self.agent.patient()
        with contextlib.suppress(OSError):
            while True:
                command = self.agent.wait(Command)
                self.got.append(command)
                if self.answers:
                    self.agent.say(Answered(answer=Answer(id=command.id, n=command.n, status="applied", step=41,
                                                          result=self.result)))  # fmt: skip
                for message in self.then:
                    if isinstance(message, tuple):
                        tell(self.agent, *message[:3], **message[3])
                    else:
                        self.agent.say(message)


def state(name: Any, reason: str = "") -> StateChanged:
    return StateChanged(state=name, step=43, epoch=1, time=time.time(), by="ana", reason=reason)


def held(*names: str, progress: ProgressInfo | None = None) -> Controlled:
    """What the script holds; the last of them is the current run."""
    return Controlled(controls=Controls(progress=progress, runs=[
        RunState(run=name, current=name == names[-1], step=40, checkpoint="" if name == names[-1] else f"{name}-40",
                 back=name != "lost", reason="its file is gone" if name == "lost" else "")
        for name in names
    ]))  # fmt: skip


def branch(run: str, **more: Any) -> Described:
    given: dict[str, Any] = {"run": run, "parent": "baseline", "step": 40, "kind": "fork", "selection": "worst=100",
                             "samples": 100, "budget": "200 steps", "trained": 200,
                             "changes": {"lr": 0.01}}  # fmt: skip
    return Described(name="train.py", project="", run=run, branch=Branch(**{**given, **more}))


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setenv("ONTHEFLY_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("ONTHEFLY_DATA_DIR", str(tmp_path / "data"))
    with running_hub(tmp_path, 47943) as hub, Agent(hub.file, hello("abcdefgh", name="train.py")) as agent:
        agent.say(records(0, 40, 2))
        agent.say(held("baseline"))
        agent.state("paused")
        agent.saved(agent.seq)
        playing = Script(hub, agent)
        thread = threading.Thread(target=playing.listen)
        thread.start()
        yield playing
        agent.connection.hang_up()
        thread.join()


def test_compare_prints_a_table_and_the_verdict(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    classes = {"target": np.arange(40) % 2, "predicted": np.zeros(40)}
    script.result = {"evaluations": {"baseline": "test_1", "fork1": "test_2"}, "loader": "loader1"}
    tell(script.agent, "baseline", "test_1", LOSS, **classes)
    tell(script.agent, "fork1", "test_2", LOSS - 0.25, **classes)
    wait_for("them", lambda: len(script.hub.json("sessions/last/evaluations")["evaluations"]) == 2)
    assert main(["ctl", "last", "compare", "baseline", "fork1", "--select", "sample=:9"]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert script.got[-1].args == {"runs": ["baseline", "fork1"]}, "the slice is the hub's"
    assert lines[:2] == ["on loader1: baseline at step 7 (test_1), fork1 at step 7 (test_2)", "slice: sample=:9"]
    assert [line.split()[0] for line in lines[2:8]] == ["PART", "all", "slice", "rest", "class", "class"]
    assert lines[3].split() == [
        "all",
        "40",
        "1.5",
        "50.00%",
        "1.25",
        "50.00%",
        "-0.25",
        "(-0.25",
        "to",
        "-0.25)",
        "40/0",
    ]
    assert lines[8].startswith("fork1 against baseline: better (-0.25, -0.25 to -0.25) on the slice")
    assert main(["ctl", "last", "compare", "baseline", "fork1", "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert [part["name"] for part in found["parts"]] == ["all", "class 0", "class 1"]
    assert main(["ctl", "last", "compare", "baseline", "fork1", "--select", "loss=99:"]) == ExitCode.REFUSED
    assert "no sample is meant by 'loss=99:'" in capsys.readouterr().err


def test_compare_waits_for_the_tests(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script.result = {"waits": WAITS}
    script.then = [state("running"), ("baseline", "test_1", LOSS, {}), ("fork1", "test_2", LOSS, {}), state("paused")]
    assert main(["ctl", "last", "compare", "baseline", "fork1"]) == ExitCode.DONE, capsys.readouterr().err
    assert capsys.readouterr().out.splitlines()[-1] == "fork1 against baseline: the same losses"


def test_a_fork_that_waits_tells_what_came_of_it(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script.result = {"waits": WAITS}
    under_way = held("baseline", progress=ProgressInfo(what="fork1", done=3, of=200))
    script.then = [state("running"), under_way, branch("fork1", verdict="200 steps"), held("baseline", "fork1")]
    assert main(["ctl", "last", "fork", "--samples", "1-3", "--timeout", "20"]) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines() == [
        "fork: applied after step 41", "  run: fork1", "  step: 40", "  trained: 200", "  verdict: 200 steps",
    ]  # fmt: skip
    script.then = [state("running"), held("baseline", "fork1", "merge1"), state("paused")]
    assert main(["ctl", "last", "merge", "uniform", "baseline", "fork1", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["result"] == {"run": "merge1", "step": 40}


def test_what_is_refused_after_the_wait_is_told(
    script: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SETTLING_SECONDS", 0.1)
    script.result = {"waits": WAITS}
    for line in (["fork"], ["merge", "ties", "baseline", "fork1"], ["compare", "baseline", "fork1"]):
        script.then = [state("running"), state("paused", f"{line[0]} was not made: the step cannot be traced")]
        assert main(["ctl", "last", *line]) == ExitCode.REFUSED
        said = capsys.readouterr()
        assert said.err == f"onthefly: {line[0]} refused: {line[0]} was not made: the step cannot be traced\n"
        assert said.out == ""
    script.then = [state("ended")]
    assert main(["ctl", "last", "fork"]) == ExitCode.REFUSED
    assert "the script is ended" in capsys.readouterr().err


def test_while_the_script_works_the_time_is_not_over(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script.answers = False
    script.then = [held("baseline", progress=ProgressInfo(what="fork1", done=3, of=200))]
    codes: list[int] = []
    asking = threading.Thread(target=lambda: codes.append(main(["ctl", "last", "fork", "--timeout", "0.1"])))
    asking.start()
    wait_for("it", lambda: script.hub.json("sessions/last")["controls"]["progress"])
    asking.join(4)
    assert asking.is_alive(), "longer than the hub and the command line wait for a script that does nothing"
    script.agent.say(held("baseline"))
    asking.join(10)
    assert codes == [ExitCode.REFUSED]
    assert "was sent" in capsys.readouterr().err


def test_status_and_ps_show_the_runs(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script.agent.say(branch("fork1"))
    script.agent.say(held("baseline", "lost", "fork1"))
    wait_for("it", lambda: len(script.hub.json("sessions/last")["controls"]["runs"]) == 3)
    assert main(["ctl", "last", "status"]) == ExitCode.DONE
    told = capsys.readouterr().out.splitlines()
    place = told.index("runs:")
    assert told[place + 1 : place + 4] == [
        "  baseline: step 40, kept as baseline-40; can be switched to",
        "  lost: step 40, kept as lost-40; no way to it: its file is gone", "  fork1: step 40; current",
    ]  # fmt: skip
    assert main(["ps"]) == ExitCode.DONE
    heading, row = capsys.readouterr().out.splitlines()[:2]
    assert row[heading.index("RUN") :].startswith("fork1 +2 ")


def test_runs_are_a_tree(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "last"]) == ExitCode.DONE
    assert capsys.readouterr().out == "baseline *  steps 0 to 39\n"
    script.agent.say(branch("fork1", checkpoint="c1"))
    script.agent.say(records(40, 5, 2, run="fork1"))
    script.agent.say(branch("fork2", selection="", samples=0, changes={}, budget="", trained=0))
    script.agent.say(branch("fork3", parent="fork1", step=45, selection="", samples=7, verdict="cancelled"))
    script.agent.say(branch("merge1", kind="merge", parents=["baseline", "fork1"], strategy="fisher", step=45,
                            selection="", samples=0, changes={}, budget="", trained=0, verdict="better"))  # fmt: skip
    script.agent.say(held("baseline", "fork1", "merge1"))
    wait_for("it", lambda: len(script.hub.json("sessions/last")["controls"]["runs"]) == 3)
    wait_for("the steps of fork1", lambda: len(script.hub.json("sessions/last/runs")["runs"]) == 2)
    assert main(["runs", "last"]) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines() == [
        "baseline (held)  steps 0 to 39",
        "├─ fork1 (held)  fork from step 40 (c1); steps 40 to 44; 100 samples: worst=100; lr=0.01; for 200 steps; "
        "200 trained",
        "│  └─ fork3  fork from step 45; 7 samples; lr=0.01; for 200 steps; 200 trained; cancelled",
        "├─ fork2  fork from step 40",
        "└─ merge1 *  fisher merge of baseline, fork1 at step 45; better",
    ]
    assert main(["runs", "last", "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert [(one["run"], one["kind"], one["parents"], one["current"], one["held"]) for one in found] == [
        ("baseline", "", [], False, True), ("fork1", "fork", ["baseline"], False, True),
        ("fork2", "fork", ["baseline"], False, False), ("fork3", "fork", ["fork1"], False, False),
        ("merge1", "merge", ["baseline", "fork1"], True, True),
    ]  # fmt: skip
    assert main(["runs", "zzzz"]) == ExitCode.NO_SESSION
