"""``--resume``: which session, which checkpoint, what is refused, and what the process that goes on is told."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import onthefly.cli.resume
from onthefly.bundle import folder
from onthefly.cli.main import main
from onthefly.cli.resume import Reference
from onthefly.core import expected
from onthefly.core.undo import Undo
from onthefly.errors import ExitCode, UsageError
from onthefly.protocol import Answer, Answered, Command, Described, Journaled, JournalEntry, Receipted, ReceiptInfo
from onthefly.settings import Settings
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello, records
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.conftest import Home

pytestmark = pytest.mark.dear

ID = "abcdefgh"


class Ended:
    """A session that has ended, with 40 backward calls in run baseline, and rewind1 from step 6 on."""

    def __init__(self, hub: Running, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hub = hub
        self.folder = data / "sessions" / ID
        self.started: list[tuple[list[str], Mapping[str, str], set[int]]] = []

        def run(command: list[str], overrides: Mapping[str, str], taken: set[int]) -> int:
            self.started.append((command, overrides, taken))
            return 42

        monkeypatch.setattr(onthefly.cli.resume, "run", run)

    def checkpoint(self, name: str, run: str, step: int, **about: Any) -> Path:
        """One on the disk."""
        given: dict[str, Any] = {"resume": "", "backward": step, "epoch": 0, "time": float(step), **about}
        members: dict[str, list[bytes]] = {"state.json": [b"{}"]}
        return folder.write(
            self.folder / "checkpoints", name, members, {"kind": "checkpoint", "run": run, "step": step, **given}
        ).path

    def told(self) -> tuple[str, expected.Expected]:
        """The checkpoint's folder that the process was given, and what it goes on as."""
        _, overrides, _ = self.started[-1]
        settings = Settings(overrides)
        assert settings.session == ID
        return os.path.basename(settings.resume), expected.read(settings.resume_expected)


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ended]:
    """A hub of its own with such a session."""
    monkeypatch.setenv("ONTHEFLY_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("ONTHEFLY_DATA_DIR", str(tmp_path / "data"))
    with running_hub(tmp_path, 47965) as hub:
        with Agent(hub.file, hello(ID, name="digits", project="p")) as agent:
            agent.state("running")
            agent.say(records(0, 40, 1))
            agent.say(Described(name="digits", project="p", run="rewind1", parent="baseline", step=6))
            agent.say(records(6, 4, 1, run="rewind1"))
            agent.state("ended")
            agent.saved(agent.seq)
        yield Ended(hub, tmp_path / "data", monkeypatch)


def test_references() -> None:
    assert Reference.of("last") == ("last", "", None)
    assert Reference.of("abc@rewind1") == ("abc", "rewind1", None)
    assert Reference.of("abc@rewind1:12") == ("abc", "rewind1", 12)
    assert Reference.of("a/b.otf@:0") == ("a/b.otf", "", 0)
    for text in ("abc@", "@run", "abc@r:", "abc@r:-1", "abc@r:x", "abc@a b", "abc@:", "abc@r:1:2"):
        with pytest.raises(UsageError, match="no moment"):
            Reference.of(text)


def test_a_bundle_with_an_at_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a@b.otf").touch()
    assert Reference.of("a@b.otf") == ("a@b.otf", "", None)
    assert Reference.of("a@b.otf@run:1") == ("a@b.otf", "run", 1)


def test_the_newest_is_taken_and_the_process_is_told(ended: Ended) -> None:
    ended.checkpoint("baseline-30", "baseline", 30)
    ended.checkpoint("baseline-10", "baseline", 10)
    assert main(["run", "--quiet", "--resume", "abc", "--", "python", "train.py", "--resume", "x"]) == 42
    command, overrides, taken = ended.started[0]
    assert command == ["python", "train.py", "--resume", "x"]
    assert taken == {os.getpid()}
    assert (overrides["ONTHEFLY_NAME"], overrides["ONTHEFLY_PROJECT"]) == ("digits", "p")
    assert overrides["ONTHEFLY_QUIET"] == "1"
    name, given = ended.told()
    assert name == "baseline-30"
    assert given.run == "resume1"
    assert set(given.runs) == {"baseline", "rewind1"}
    assert given.origin == (ID, "baseline", 30, 30, "baseline-30")
    assert given.losses == [(call, call, float(call)) for call in range(30, 40)]


def test_a_run_a_step_and_what_there_is_instead(ended: Ended, capsys: pytest.CaptureFixture[str]) -> None:
    for run, step in (("baseline", 5), ("baseline", 10), ("rewind1", 8)):
        ended.checkpoint(f"{run}-{step}", run, step)
    for reference, name in (
        ("last@baseline", "baseline-10"),
        ("last@baseline:5", "baseline-5"),
        ("last@:8", "rewind1-8"),
    ):
        assert main(["--resume", reference, "train.py"]) == 42
        assert ended.told()[0] == name
    assert [expected.read(overrides["ONTHEFLY_RESUME_EXPECTED"]).run for _, overrides, _ in ended.started] == [
        "resume1"
    ] * 3
    assert ended.told()[1].losses == [(call, call, float(call)) for call in (8, 9)]
    assert main(["--resume", "last@baseline:7", "train.py"]) == ExitCode.NO_SESSION
    assert "baseline:5, baseline:10" in capsys.readouterr().err
    assert main(["--resume", "last@fork1", "train.py"]) == ExitCode.NO_SESSION
    assert "baseline, rewind1" in capsys.readouterr().err
    assert main(["--resume", "zzzz", "train.py"]) == ExitCode.NO_SESSION
    assert len(ended.started) == 3


def test_what_cannot_be_resumed_is_refused(ended: Ended, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        assert main([*words]) == ExitCode.REFUSED
        assert ended.started == []
        return capsys.readouterr().err

    assert f"onthefly ctl {ID} checkpoint" in refused("--resume", "last", "train.py")
    ended.checkpoint("baseline-3", "baseline", 3, resume=None)
    assert "version that could not resume" in refused("--resume", "last", "train.py")
    good = ended.checkpoint("baseline-1", "baseline", 1)
    ended.checkpoint("baseline-2", "baseline", 2, resume="a generator of C code")
    text = refused("--resume", "last@:2", "train.py")
    assert "a generator of C code" in text
    assert "baseline:1" in text
    assert "several ranks" in refused("run", "--resume", "last@:1", "--", "torchrun", "train.py")
    assert "several ranks" in refused("run", "--resume", "last@:1", "--", "python", "-m", "torch.distributed.run", "x")
    (tmp_path / "a.otf").touch()
    assert "too short for a bundle" in refused("--resume", str(tmp_path / "a.otf"), "train.py")
    (good / "manifest.json").write_text("{}")
    assert "left out" in refused("--resume", "last", "train.py")
    assert main(["--resume", "last@:1", "train.py"]) == ExitCode.NO_SESSION


def test_one_that_runs_is_refused(ended: Ended, capsys: pytest.CaptureFixture[str]) -> None:
    ended.checkpoint("baseline-1", "baseline", 1)
    with Agent(ended.hub.file, hello(ID, pid=os.getppid())) as agent:
        agent.state("running")
        wait_for("it runs", lambda: ended.hub.json(f"sessions/{ID}")["state"] == "running")
        assert main(["--resume", "last", "train.py"]) == ExitCode.REFUSED
    assert f"onthefly ctl {ID} stop" in capsys.readouterr().err
    assert ended.started == []


def test_losses_end_where_somebody_made_a_change(ended: Ended) -> None:
    ended.checkpoint("baseline-30", "baseline", 30)
    place: dict[str, Any] = {"time": 1.0, "run": "baseline", "step": 35, "epoch": 0, "backward": 35, "point": 35}
    entry = JournalEntry(**place, name="set", args={}, before={}, after={}, by="me")
    with Agent(ended.hub.file, hello(ID)) as agent:
        agent.say(Journaled(entry=entry), 100)
        agent.saved(100)
        agent.say(Described(name="digits", project="p", run="baseline"), 101)
        agent.state("ended")
        agent.saved(agent.seq)
    assert main(["--resume", "last@baseline", "train.py"]) == 42
    assert [call for call, _, _ in ended.told()[1].losses] == [30, 31, 32, 33, 34]


def test_without_a_command_the_sessions_own_is_run(
    ended: Ended, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended.checkpoint("baseline-30", "baseline", 30)
    assert main(["run", "--resume", "last"]) == ExitCode.USAGE
    assert f"onthefly run --resume {ID} -- python train.py" in capsys.readouterr().err
    begun = {"command": ["/usr/bin/python3", "train.py", "--lr", "1"], "cwd": str(tmp_path), "hash_seed": "7"}
    (ended.folder / "start.json").write_text(json.dumps(begun))
    monkeypatch.chdir("/")
    assert main(["run", "--resume", "last"]) == 42
    command, overrides, _ = ended.started[0]
    assert command == begun["command"]
    assert overrides["PYTHONHASHSEED"] == "7"
    assert os.getcwd() == str(tmp_path)


def test_what_a_killed_resume_has_left_is_put_right_first(
    ended: Ended, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended.checkpoint("one", "baseline", 6)
    spoilt, lost = tmp_path / "log.csv", tmp_path / "new"
    spoilt.write_text("before")
    undo = Undo(str(ended.folder / "resumes" / "backup-1"))
    undo.writes(str(spoilt), spoilt.lstat(), whole=False)
    undo.makes(str(lost))
    spoilt.write_text("after")
    lost.mkdir()
    (lost / "theirs").touch()  # not the prefix's: it stays, and that is said
    assert main(["--resume", ID, "python", "train.py"]) == 42
    assert spoilt.read_text() == "before"
    assert f"onthefly: {lost} was made, and stays" in capfd.readouterr().err


def test_the_session_goes_on_with_the_new_process(ended: Ended) -> None:
    ended.checkpoint("baseline-30", "baseline", 30)
    assert main(["--resume", "last", "train.py"]) == 42
    agent = hello(ID, pid=os.getppid(), run="resume1", resumes=True, started=2e9)

    def session() -> dict[str, Any]:
        return ended.hub.json(f"sessions/{ID}")

    whence: dict[str, Any] = {"session": ID, "run": "resume1", "from_run": "baseline", "from_step": 30}
    receipt = ReceiptInfo(**whence, compared=3, equal=3, expected=10, text="3 of 10 steps bit-identical", time=2.0)
    with Agent(ended.hub.file, agent) as new:
        new.say(Described(name="digits", project="p", run="resume1", parent="baseline", step=30))
        new.state("running")
        new.say(records(30, 3, 1, run="resume1"))
        new.say(Receipted(receipt=receipt))
        receipt.compared = receipt.equal = 10
        new.say(Receipted(receipt=receipt))
        new.saved(new.seq)
        wait_for("it runs again", lambda: session()["state"] == "running")
        assert session()["ended"] is None
        new.state("stopped")
        wait_for("it is stopped", lambda: session()["state"] == "stopped")
    found = session()
    assert (found["run"], found["resumed"], found["backwards"]) == ("resume1", 2e9, 47)
    assert ("resume1", "baseline", 30) in [(one["run"], one["parent"], one["step"]) for one in found["branches"]]
    assert [(one["run"], one["compared"]) for one in found["receipts"]] == [("resume1", 10)]
    file = json.loads((ended.folder / "resumes" / "1.json").read_text())
    assert file["receipt"]["compared"] == 10
    assert file["from"]["checkpoint"] == "baseline-30"
    ended.checkpoint("resume1-33", "resume1", 33)
    assert main(["--resume", "last", "train.py"]) == 42
    name, given = ended.told()
    assert (name, given.run, given.number) == ("resume1-33", "resume2", 2)


def test_reset_starts_the_sessions_own_script_anew(ended: Ended, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reset", "last"]) == ExitCode.REFUSED
    assert "is not recorded" in capsys.readouterr().err
    begun = {"command": ["/usr/bin/python3", "train.py"], "cwd": str(ended.folder), "hash_seed": None}
    (ended.folder / "start.json").write_text(json.dumps(begun))
    for number in (2, 3):
        assert main(["reset", "last"]) == 42
        command, overrides, _ = ended.started[-1]
        settings = Settings(overrides)
        assert (command, settings.resume, settings.start) == (begun["command"], "", str(ended.folder / "start.json"))
        given = expected.read(settings.resume_expected)
        assert (given.run, given.origin) == (f"baseline-{number}", (ID, "baseline", 0, 0, ""))
        assert len(given.losses) == 40
        with Agent(ended.hub.file, hello(ID, pid=number, run=given.run, resumes=True)) as agent:
            agent.say(Described(name="digits", project="p", run=given.run, parent="baseline", step=0))
            agent.state("ended")
            agent.saved(agent.seq)


def test_reset_of_a_script_that_runs_is_asked_of_it(ended: Ended, capsys: pytest.CaptureFixture[str]) -> None:
    with Agent(ended.hub.file, hello(ID, pid=os.getppid())) as agent:
        agent.state("running")
        wait_for("it runs", lambda: ended.hub.json(f"sessions/{ID}")["state"] == "running")

        def refuse() -> None:
            command = agent.wait(Command)
            asked.append(command.name)
            answer = Answer(id=command.id, n=command.n, status="refused", reason="not in memory", remedy="stop it")
            agent.say(Answered(answer=answer))

        asked: list[str] = []
        thread = threading.Thread(target=refuse)
        thread.start()
        assert main(["reset", "last"]) == ExitCode.REFUSED
        thread.join(10)
    assert asked == ["reset"]
    assert capsys.readouterr().err == "onthefly: reset refused: not in memory\n  stop it\n"
    assert ended.started == []


SCRIPT = """
import os, random, sys
print(random.random(), sorted(name for name in os.environ if name.startswith("ONTHEFLY_RESUME")))
import numpy.random
print(numpy.random.rand(), len(sys.argv))
import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(torch.ones(4, 2)).pow(2).mean().backward()
    optimizer.step()
"""


def test_a_script_begins_as_its_first_process_did(home: Home) -> None:
    (home.folder / "train.py").write_text(SCRIPT)
    first = home.watched("--quiet", "train.py", "a", PYTHONHASHSEED="5")
    assert (first.code, first.err) == (0, b"")
    session = home.wait_state("ended")
    again = home.watched("reset", "last", ONTHEFLY_QUIET="1")
    assert (again.code, again.out) == (0, first.out)
    now = wait_for("its end", lambda: (now := home.get("sessions/last"))["state"] == "ended" and now)
    assert (now["id"], now["name"]) == (session["id"], "train.py")
    assert [(rank["start"], rank["state"]) for rank in now["ranks"]] == [(0, "ended"), (1, "ended")]
    assert {run["name"]: run["backwards"] for run in home.get("sessions/last/runs")["runs"]} == {
        "baseline": 3, "baseline-2": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("script", "said"),
    [("print(1)", "without importing torch"), ("import sys; sys.modules['msgspec'] = None; import torch", "msgspec")],
)
def test_a_process_that_cannot_resume_never_ends_well(home: Home, script: str, said: str) -> None:
    (home.folder / "train.py").write_text(script)
    path = home.folder / "data" / "sessions" / ID / "resumes" / "1.json"
    ended = home.run(sys.executable, "-c", UNDER_THE_SHIM, "train.py", ONTHEFLY_RESUME_EXPECTED=str(path))
    assert ended.code == ExitCode.REFUSED
    assert "not resumed: " in ended.err.decode()
    assert said in ended.err.decode()


UNDER_THE_SHIM = """
import os, sys
from onthefly.launch import shim_folder
os.environ.update(PYTHONPATH=str(shim_folder()), ONTHEFLY_TARGET=str(os.getpid()), ONTHEFLY_SESSION="abcdefgh")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
