"""`onthefly ctl` and `onthefly journal`: every command as it is written on a command line, and what comes of it."""

from __future__ import annotations

import contextlib
import json
import shlex
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.cli import ctl
from onthefly.cli.main import main
from onthefly.errors import ExitCode
from onthefly.protocol import (
    COMMANDS,
    Answer,
    Answered,
    CheckpointInfo,
    Command,
    Controlled,
    Controls,
    Journaled,
    JournalEntry,
    ParameterGroup,
    PlannedPause,
    TrialInfo,
    WatchInfo,
)  # fmt: skip
from onthefly.protocol.commands import MAX_SAMPLES
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Script:
    """A session that answers every command as it is told to."""

    def __init__(self, hub: Running, agent: Agent) -> None:
        self.hub = hub
        self.agent = agent
        self.got: list[Command] = []
        self.status: Any = "applied"
        self.reason = self.remedy = ""
        self.result: dict[str, Any] = {}
        self.silent = False
        self._sending = threading.Lock()

    def listen(self) -> None:
        self.agent.patient()
        with contextlib.suppress(OSError):
            while True:
                command = self.agent.wait(Command)
                self.got.append(command)
                if not self.silent:
                    self.say(Answered(answer=Answer(id=command.id, n=command.n, status=self.status, step=41,
                                      reason=self.reason, remedy=self.remedy, result=self.result)))  # fmt: skip

    def say(self, message: Any) -> None:
        with self._sending:
            self.agent.say(message)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setenv("ONTHEFLY_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("ONTHEFLY_DATA_DIR", str(tmp_path / "data"))
    with running_hub(tmp_path, 47965) as hub, Agent(hub.file, hello("abcdefgh", name="train.py")) as agent:
        agent.state("running")
        agent.saved(1)
        answering = Script(hub, agent)
        thread = threading.Thread(target=answering.listen)
        thread.start()
        yield answering
        answering.agent.connection.hang_up()
        thread.join()


LINES: dict[str, dict[str, Any]] = {
    "pause": {},
    "pause --step 500 --epoch 3 --when 'loss < 0.1 and epoch >= 2'": {
        "step": 500, "epoch": 3, "when": "loss < 0.1 and epoch >= 2"},
    "resume": {},
    "step": {},
    "step 5": {"steps": 5},
    "cancel": {},
    "stop": {},
    "stop --now": {"now": True},
    "set lr 1e-2": {"name": "lr", "value": 0.01},
    "set betas 0.9,0.999 --group 1 --optimizer 2": {
        "name": "betas", "value": [0.9, 0.999], "group": 1, "optimizer": 2},
    "clip": {},
    "clip --norm 1": {"norm": 1.0},
    "clip --value 0.5": {"value": 0.5},
    "freeze 'encoder.*'": {"pattern": "encoder.*"},
    "unfreeze": {},
    "unfreeze 'encoder.*'": {"pattern": "encoder.*"},
    "subset exclude --samples 1,2,5-9": {"mode": "exclude", "samples": [1, 2, 5, 6, 7, 8, 9]},
    "subset weights --samples '3 4' --weights 0.5,2 --loader loader1 --add": {
        "mode": "weights", "samples": [3, 4], "weights": [0.5, 2.0], "loader": "loader1", "add": True},
    "subset all": {"mode": "all"},
    "checkpoint": {},
    "checkpoint best": {"name": "best"},
    "keep --every 100 --no-on-pause --memory 1G --disk 1.5GB": {
        "every": 100, "on_pause": False, "memory": 2**30, "disk": 3 * 2**29},
    "drop best": {"checkpoint": "best"},
    "rewind": {},
    "reset": {},
    "rewind best": {"checkpoint": "best"},
    "trial 100 set lr 0.01": {"steps": 100, "name": "set", "args": {"name": "lr", "value": 0.01}},
    "trial 5 unfreeze": {"steps": 5, "name": "unfreeze", "args": {}},
    "choose with": {"keep": "with"},
    "watch spike pause --parameter z=6 --parameter window=50": {
        "alarm": "spike", "action": "pause", "parameters": {"z": 6.0, "window": 50.0}},
    "diagnose": {},
    "show 7,9-10 --loader loader1": {"samples": [7, 9, 10], "loader": "loader1"},
    "health": {},
    "health numerics memory --seconds 5": {"checks": ["numerics", "memory"], "seconds": 5.0},
    "test --loader valid_loader --mode train --checkpoint c1 --using recipe": {
        "loader": "valid_loader", "mode": "train", "checkpoint": "c1", "using": "recipe"
    },
    "scan --samples 1,4-6 --module encoder.fc": {"samples": [1, 4, 5, 6], "module": "encoder.fc"},
    "fork": {},
    "fork --samples 1,5-7 --steps 200 --set lr=0.01 --set betas=0.9,0.99 --name hard --checkpoint c1 --seed 3": {
        "samples": [1, 5, 6, 7], "steps": 200, "settings": {"lr": 0.01, "betas": [0.9, 0.99]}, "name": "hard",
        "checkpoint": "c1", "seed": 3,
    },
    "fork --epochs 2 --minutes 0.5 --optimizer 1 --loader loader0 --parallel": {
        "epochs": 2.0, "minutes": 0.5, "optimizer": 1, "loader": "loader0", "parallel": True,
    },
    "switch baseline": {"run": "baseline"},
    "compare baseline fork1 --loader valid": {"runs": ["baseline", "fork1"], "loader": "valid"},
    "merge fisher baseline fork1 --parameter samples=256 --weights 1,2": {
        "strategy": "fisher", "runs": ["baseline", "fork1"], "parameters": {"samples": 256.0}, "weights": [1.0, 2.0],
    },
    "merge ties a b c --name soup --loader valid --optimizer mean --seed 4 --force": {
        "strategy": "ties", "runs": ["a", "b", "c"], "name": "soup", "loader": "valid", "optimizer": "mean", "seed": 4,
        "force": True,
    },
}  # fmt: skip


def test_every_command_is_here() -> None:
    assert {line.split()[0] for line in LINES} == set(COMMANDS)


def test_lines_are_what_is_sent(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    for line, args in LINES.items():
        assert main(["ctl", "--by", "ana", "last", *shlex.split(line)]) == ExitCode.DONE
        assert (script.got[-1].name, script.got[-1].args, script.got[-1].by) == (line.split()[0], args, "ana")
        assert capsys.readouterr().out.startswith(f"{line.split()[0]}: applied after step 41")


WRONG = {
    "jump": "unknown command 'jump'\n  known: status, pause, resume",
    "paus": "did you mean pause?",
    "set lr": "required: VALUE",
    "set lr much": "'much' is no value\n  value: a number",
    "set lr nan": "'nan' is no value",
    "step 0": ">= 1",
    "pause --step 1.5": "'1.5' is no step",
    "pause --when": "expected one argument",
    "subset some": "exclude",
    "subset exclude --samples @missing.txt": "missing.txt cannot be read",
    "subset exclude --samples 1-x": "1,2,5-9",
    "keep --memory much": "500M, 1G",
    "drop a/b": "regex",
    "trial 5 stop": "set",
    "trial 5 set lr": "required: VALUE",
    "choose best": "neither",
    "watch spike shout": "rewind",
    "watch spike log --parameter z": "NAME=VALUE",
    "fork --set lr": "lr=0.01",
    "fork --steps 0": ">= 1",
    "switch": "required: RUN",
    "compare baseline": "length >= 2",
    "merge fisher": "required: RUNS",
    "merge fisher a b --optimizer all": "mean",
    "": "required: command",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_told_with_what_is_known(
    line: str, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ctl", "last", *shlex.split(line)]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert said.startswith("onthefly: ")
    assert WRONG[line] in said
    assert script.got == []


def test_answers_tell_what_happened(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script.result = {"before": {"lr": 0.1}, "kept_as": "baseline-41"}
    assert main(["ctl", "last", "set", "lr", "0.2"]) == ExitCode.DONE
    assert capsys.readouterr().out == ('set: applied after step 41\n  before: {"lr": 0.1}\n  kept as: baseline-41\n')
    assert main(["ctl", "last", "set", "lr", "0.2", "--json"]) == ExitCode.DONE
    answer = json.loads(capsys.readouterr().out)
    assert (answer["status"], answer["durability"], answer["result"]) == ("applied", "saved", script.result)
    script.status, script.reason, script.remedy = "refused", "no group has lrr", "known: lr"
    assert main(["ctl", "last", "set", "lrr", "0.2"]) == ExitCode.REFUSED
    assert capsys.readouterr().err == "onthefly: set refused: no group has lrr\n  known: lr\n"
    script.silent = True
    assert main(["ctl", "last", "--timeout", "0.1", "resume"]) == ExitCode.REFUSED
    assert "has not reached its next optimizer step yet" in capsys.readouterr().err
    assert main(["ctl", "zzzz", "resume"]) == ExitCode.NO_SESSION


def test_many_samples_go_in_several_commands(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 2 * MAX_SAMPLES + 5
    (tmp_path / "samples.txt").write_text("\n".join(map(str, range(count))))
    (tmp_path / "weights.txt").write_text(" ".join(["2"] * count))
    line = ["ctl", "last", "subset", "weights", "--samples", f"@{tmp_path}/samples.txt"]
    assert main([*line, "--weights", f"@{tmp_path}/weights.txt"]) == ExitCode.DONE, capsys.readouterr().err
    sent = [command.args for command in script.got]
    assert [len(args["samples"]) for args in sent] == [len(args["weights"]) for args in sent] == [4000, 4000, 5]
    assert [index for args in sent for index in args["samples"]] == list(range(count))
    assert [args.get("add", False) for args in sent] == [False, True, True]
    assert main([*line, "--weights", "2"]) == ExitCode.DONE
    assert [command.args["weights"] for command in script.got[3:]] == [[2.0]] * 3
    script.status = "refused"
    assert main([*line, "--weights", "2"]) == ExitCode.REFUSED
    assert len(script.got) == 7, "what follows one that was refused is not sent"


def test_status(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "last", "status"]) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines()[1].startswith("running for ")
    script.say(Controlled(controls=Controls(
        pauses=[PlannedPause(text="step 500", by="ana")], clip="norm 1", frozen=["encoder.*"], frozen_parameters=1200,
        groups=[ParameterGroup(optimizer=0, kind="AdamW", group=0, parameters=5000,
                               values={"lr": 0.01, "betas": [0.9, 0.999]})],
        checkpoints=[CheckpointInfo(name="a", run="baseline", step=9, epoch=0, time=1.0, why="asked", memory=10**6,
                                    disk=2 * 10**6, state="durable", back=True)],
        keep={"every": 100},
        watches=[WatchInfo(alarm="spike", text="loss far above its median", cost="free", action="pause",
                           parameters={"z": 6.0}, found=2)],
        trial=TrialInfo(steps=5, change="lr 0.1 -> 0.01", phase="choose", start=9, effect=-0.25, low=-0.5, high=0.0,
                        verdict="it may help"),
    )))  # fmt: skip
    wait_for("it", lambda: script.hub.json("sessions/last")["controls"]["clip"])
    assert main(["ctl", "last", "status"]) == ExitCode.DONE
    told = capsys.readouterr().out
    for part in (
        "step 500 (ana)", "clipped by norm 1", "encoder.* frozen (1,200 parameters)",
        "AdamW (optimizer 0) group 0, 5,000 parameters: lr=0.01 betas=0.9,0.999",
        "a: step 9, epoch 0, 2.0 MB, durable; can be rewound to", "every: 100",
        "spike: pause z=6 - loss far above its median (free), found 2",
        "lr 0.1 -> 0.01, 5 steps from step 9: choose", "effect on the loss -0.25 (-0.5 to 0)", "it may help",
    ):  # fmt: skip
        assert part in told, part
    assert main(["ctl", "last", "status", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["clip"] == "norm 1"
    assert script.got == [], "it asks the script nothing"


def test_journal(script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "last"]) == ExitCode.DONE
    assert capsys.readouterr().out == "nothing was changed\n"
    for step in range(3):
        script.say(Journaled(entry=JournalEntry(
            time=time.time(), run="baseline", step=step, epoch=0, backward=step, point=step, name="set",
            args={"name": "lr", "value": 0.1}, before={"lr": [1.0]}, after={"lr": [0.1]}, by="ana",
        )))  # fmt: skip
    wait_for("them", lambda: script.hub.json("sessions/last")["journal"] == 3)
    assert main(["journal", "last"]) == ExitCode.DONE
    assert 'step 2  set  name="lr" value=0.1  lr=[1.0] -> lr=[0.1]  ana' in capsys.readouterr().out.splitlines()[2]
    path = tmp_path / "journal.jsonl"
    assert main(["journal", "last", "-o", str(path)]) == ExitCode.DONE
    capsys.readouterr()
    assert main(["journal", "last", "--json"]) == ExitCode.DONE
    assert capsys.readouterr().out == path.read_text()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2]
    assert main(["journal", "last", "--rank", "3"]) == ExitCode.DONE
    assert capsys.readouterr().out == "nothing was changed\n"


def test_help_is_the_protocols(capsys: pytest.CaptureFixture[str]) -> None:
    for name, kind in COMMANDS.items():
        with pytest.raises(SystemExit):
            ctl.main(["ctl", "last", name, "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert (kind.__doc__ or "").split(":class:")[0].split("`")[0].strip() in said
