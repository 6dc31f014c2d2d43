"""Checkpoints at signals and by the clock: made first, and then everything is as under plain Python."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, get_args

import pytest
import torch

from onthefly.actions import checkpoints, signals
from onthefly.bundle import folder
from onthefly.cli import run as cli
from onthefly.core.signal_names import NAMES, parse
from onthefly.errors import UsageError
from onthefly.link.client import Client
from onthefly.protocol.commands import SignalName
from onthefly.settings import Settings
from onthefly.state.files import read_form
from tests.actions.desk import Commander, desk
from tests.conftest import wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from onthefly.state.form import Form
    from tests.conftest import Home

pytestmark = pytest.mark.dear

FULL = os.environ.get("ONTHEFLY_FULL") == "1"
THREE = {"SIGTERM": signal.SIGTERM, "SIGUSR1": signal.SIGUSR1, "SIGINT": signal.SIGINT}
INTERRUPTED = (-signal.SIGINT, 1) if find_spec("tabulate") else (-signal.SIGINT,)  # see tests/parity/test_signals

SCRIPT = """
import os, signal, sys
{handlers}
import torch
w, v = torch.nn.Parameter(torch.zeros(1000)), torch.nn.Parameter(torch.zeros(3))
optimizer = torch.optim.SGD([w, v], 1.0)
step = 0
try:
    while not os.path.exists("stop"):
        optimizer.zero_grad()
        (w.sum() + v.sum()).backward()
        optimizer.step()
        step += 1
        if step == 3:
            print("step", flush=True)
        if step == {rests}:
            print("rests", flush=True)
            sys.stdin.readline()
            print("goes on", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
finally:
    print("finally", flush=True)
"""
OWN = "for n in (10, 15, 2): signal.signal(n, lambda n, f: print('caught', n, f is not None, flush=True))"


class Script:
    """The script under us."""

    def __init__(self, home: Home, *options: str, handlers: str = "", rests: int = 0, pauses: bool = False) -> None:
        self.home = home
        (home.folder / "s.py").write_text(SCRIPT.format(handlers=handlers, rests=rests))
        self.process: subprocess.Popen[bytes] = home.start(
            sys.executable, "-m", "onthefly", *options, "s.py", stdin=-1, ONTHEFLY_STRICT="1"
        )
        self.lines: list[str] = []
        self.line("rests" if rests else "step")
        if pauses:
            with Client(Settings(home.environment)) as client:
                session = wait_for("the session", lambda: (home.session() or {}).get("id"))
                client.command(session, {"id": "p", "name": "pause", "args": {}, "by": "test"})
                home.wait_state("paused")

    def line(self, expected: str) -> None:
        """Read up to that line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip().decode())
            if self.lines[-1] == expected:
                return
        raise AssertionError(f"ended before {expected!r}: {self.process.communicate()[1].decode()}")

    def send(self, name: str) -> None:
        """Send it a signal."""
        self.process.send_signal(getattr(signal, name))

    def saved(self) -> list[Form]:
        """What is on the disk, oldest first; each of one single step."""
        found = [read_form(path) for path in sorted(self.home.data.glob("sessions/*/checkpoints/[!.]*"))]
        for form in found:
            for tensor in form.sections["tensors"].values():
                assert set(tensor.tolist()) == {-float(form.place.step)}, "of no single step"
        return sorted(found, key=lambda form: form.place.step)

    def wait_saved(self, count: int) -> None:
        """Until so many checkpoints are on the disk."""
        wait_for(f"{count} checkpoints", lambda: len(self.saved()) >= count)

    def why(self) -> list[str]:
        """Why each of them was made, oldest first."""
        about = [folder.manifest(path) for path in self.home.data.glob("sessions/*/checkpoints/[!.]*")]
        return [one["reason"] for one in sorted(about, key=lambda one: one["step"])]

    def ends(self, *lines: str) -> int:
        """Its exit code; what it printed since the last line that was read must be this."""
        assert self.process.stdout is not None
        assert [line.strip().decode() for line in self.process.stdout] == list(lines)
        return self.process.wait(20)


def test_user_signals_only_save_and_a_terminated_script_ends_as_plain(home: Home) -> None:
    script = Script(home, "--save-on", "USR1", "--save-on=SIGTERM")
    script.send("SIGUSR1")
    script.wait_saved(1)
    script.send("SIGTERM")
    assert script.ends() == -signal.SIGTERM  # at once: no `finally`
    assert [row.place.step > 3 for row in script.saved()] == [True, True]


def test_an_interrupt_is_raised_after_the_checkpoint(home: Home) -> None:
    script = Script(home, "--save-on", "INT")
    script.send("SIGINT")
    assert script.ends("interrupted", "finally") in INTERRUPTED
    assert len(script.saved()) == 1


def test_the_scripts_own_handlers_are_called_after_the_checkpoint(home: Home) -> None:
    script = Script(home, "--save-on", "INT,TERM,USR1", handlers=OWN, rests=4000)
    script.process.stdin.write(b"\n")  # type: ignore[union-attr]
    script.process.stdin.flush()  # type: ignore[union-attr]
    script.line("goes on")
    for count, (name, number) in enumerate(THREE.items(), 1):
        script.send(name)
        script.line(f"caught {number:d} True")
        assert len(script.saved()) == count
    script.process.kill()


@pytest.mark.parametrize("name", THREE if FULL else ["SIGINT"])
def test_while_paused_it_saves_at_once(home: Home, name: str) -> None:
    script = Script(home, "--save-on", "INT,TERM,USR1", pauses=True)
    script.send(name)
    if name == "SIGUSR1":
        script.wait_saved(1)
        assert home.wait_state("paused", "running")["state"] == "paused"
        script.send("SIGTERM")
    end = script.ends("interrupted", "finally") if name == "SIGINT" else script.ends()
    assert end in (INTERRUPTED if name == "SIGINT" else (-signal.SIGTERM,))
    assert len(script.saved()) == 1 + (name == "SIGUSR1")


@pytest.mark.parametrize("name", THREE if FULL else ["SIGTERM"])
@pytest.mark.parametrize("own", [False, True] if FULL else [False])
def test_a_second_signal_is_passed_on_at_once(home: Home, name: str, own: bool) -> None:
    script = Script(home, "--save-on", "INT,TERM,USR1", handlers=OWN if own else "", rests=4000)
    script.send(name)
    assert script.process.poll() is None
    # Both in one moment would be one signal: the first has been noted when it is told that a step is waited for.
    assert script.process.stderr is not None
    wait_for("the wait", lambda: b"again: at once" in script.process.stderr.readline())  # type: ignore[union-attr]
    started = time.monotonic()
    script.send(name)
    if own:
        for _ in range(2):
            script.line(f"caught {THREE[name]:d} True")
    elif name == "SIGUSR1":
        script.process.stdin.write(b"\n")  # type: ignore[union-attr]
        script.process.stdin.flush()  # type: ignore[union-attr]
        script.line("goes on")
        script.wait_saved(1)
    else:
        lines = ["interrupted", "finally"] if name == "SIGINT" else []
        assert script.ends(*lines) in (INTERRUPTED if name == "SIGINT" else (-signal.SIGTERM,))
        assert not script.saved()
    assert time.monotonic() - started < 5
    script.process.kill()


def test_autosave_saves_by_the_clock_at_a_signal_and_at_the_end(home: Home) -> None:
    script = Script(home, "--autosave", "1s")
    script.wait_saved(1)
    script.send("SIGUSR1")
    wait_for("the checkpoint at the signal", lambda: "signal" in script.why())
    step = script.saved()[-1].place.step
    wait_for("the next step", lambda: home.wait_step(step + 1))
    (home.folder / "stop").touch()
    assert script.ends("finally") == 0
    assert script.why()[-1] == "end"
    assert script.why().count("signal") == 1
    assert set(script.why()) == {"every", "signal", "end"}
    shown = home.session()
    assert shown is not None
    assert shown["controls"]["keep"] == {
        "every": 0, "seconds": 1.0, "on_pause": False, "on_signal": "SIGTERM, SIGUSR1",
    }  # fmt: skip
    assert shown["controls"]["checkpoints"][-1]["why"] == "end"
    assert shown["controls"]["checkpoints"][-1]["state"] == "durable"


# In this process, where signals can be timed


class Loop:
    """Steps whose number is in the parameter."""

    def __init__(self) -> None:
        self.w = torch.nn.Parameter(torch.zeros(3))
        self.optimizer = torch.optim.SGD([self.w], 1.0)

    def step(self, raising: int = 0) -> None:
        """One step; a signal comes before it ends."""
        self.optimizer.zero_grad()
        self.w.sum().backward()
        if raising:
            signal.raise_signal(raising)
        self.optimizer.step()


@pytest.fixture
def handlers() -> Iterator[dict[int, Any]]:
    """What stands at each signal now, and again after the test."""
    before = {int(number): signal.getsignal(number) for number in THREE.values()}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def _kept(commander: Commander) -> list[tuple[int, str]]:
    return [(row.step, row.why) for row in commander.kept.session._control.checkpoints.rows()]


def test_without_the_option_no_handler_is_touched(handlers: dict[int, Any]) -> None:
    with desk():
        Loop().step()
        assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_a_handler_is_called_after_the_step_and_all_are_put_back(handlers: dict[int, Any], tmp_path: Path) -> None:
    called: list[tuple[float, Any]] = []
    loop = Loop()
    signal.signal(signal.SIGTERM, own := lambda number, frame: called.append((loop.w.tolist()[0], frame)))  # type: ignore[misc]
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path), ONTHEFLY_SAVE_ON="SIGTERM,SIGUSR1") as commander:
        assert signal.getsignal(signal.SIGTERM) is own  # until there is something to keep
        loop.step()
        assert type(signal.getsignal(signal.SIGTERM)) is signals.Caught
        loop.step(signal.SIGTERM)
        (value, frame), *more = called
        assert (value, more) == (-2.0, [])
        assert frame.f_code.co_filename.endswith("optimizer.py")  # torch's, not ours
        assert _kept(commander) == [(2, "signal")]
        loop.step(signal.SIGUSR1)
        assert _kept(commander) == [(2, "signal"), (3, "signal")]
    assert signal.getsignal(signal.SIGTERM) is own
    assert signal.getsignal(signal.SIGUSR1) is handlers[signal.SIGUSR1]


def test_what_the_scripts_handler_raises_comes_out_as_it_is(handlers: dict[int, Any], tmp_path: Path) -> None:
    def own(number: int, frame: Any) -> None:
        raise TimeoutError("the script's")

    signal.signal(signal.SIGTERM, own)
    loop = Loop()
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path), ONTHEFLY_SAVE_ON="SIGTERM") as commander:
        loop.step()
        with pytest.raises(TimeoutError, match="the script's"):
            loop.step(signal.SIGTERM)
        loop.step()
        assert _kept(commander) == [(2, "signal")]


def test_a_handler_of_later_is_put_behind_ours_and_may_call_the_one_before(
    handlers: dict[int, Any], tmp_path: Path
) -> None:
    called: list[str] = []
    signal.signal(signal.SIGTERM, first := lambda number, frame: called.append("first"))  # type: ignore[misc]
    loop = Loop()
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path), ONTHEFLY_SAVE_ON="SIGTERM") as commander:
        loop.step()
        ours: Any = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda number, frame: (called.append("second"), ours(number, frame)))
        loop.step()
        loop.step(signal.SIGTERM)
        assert called == ["second", "first"]
        assert _kept(commander) == [(3, "signal")]
        signal.signal(signal.SIGTERM, ours)  # the script puts back what it found
        loop.step(signal.SIGTERM)
        assert called == ["second", "first", "first"]
    assert signal.getsignal(signal.SIGTERM) is first


def test_no_step_comes(
    handlers: dict[int, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signals, "SECONDS", 0.1)
    called = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: called.set())
    loop = Loop()
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path), ONTHEFLY_SAVE_ON="SIGTERM") as commander:
        loop.step()
        signal.raise_signal(signal.SIGTERM)
        assert called.wait(10)
        loop.step()
        assert _kept(commander) == []
        assert any("no step has ended" in text for text in commander.kept.notices())


def test_the_disk_is_waited_for_and_a_fault_is_told(
    handlers: dict[int, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
    (tmp_path / "sessions").write_text("in the way")
    loop = Loop()
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path), ONTHEFLY_SAVE_ON="SIGTERM") as commander:
        loop.step()
        loop.step(signal.SIGTERM)
        assert called == [signal.SIGTERM]
        assert any("no checkpoint is on the disk" in text for text in commander.kept.notices())


def test_by_command(handlers: dict[int, Any], tmp_path: Path) -> None:
    loop = Loop()
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        commander.send("keep", on_signal=["SIGTERM"], every=0)
        loop.step()
        assert type(signal.getsignal(signal.SIGTERM)) is signals.Caught
        commander.send("keep", on_signal=[])
        loop.step()
        assert signal.getsignal(signal.SIGTERM) == handlers[signal.SIGTERM]
        commander.send("keep", on_signal=["SIGKILL"])
        loop.step()
        assert [answer.status for answer in commander.answers()] == ["applied", "applied", "refused"]


def test_in_another_thread_it_is_refused(handlers: dict[int, Any], tmp_path: Path) -> None:
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path), ONTHEFLY_SAVE_ON="SIGTERM") as commander:

        def train() -> None:
            loop = Loop()
            loop.step()
            commander.send("keep", on_signal=["SIGTERM"])
            loop.step()

        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        assert "another thread" in commander.answers()[0].reason
        assert any("another thread" in text for text in commander.kept.notices())
    assert signal.getsignal(signal.SIGTERM) == handlers[signal.SIGTERM]


def test_a_forked_child_has_the_scripts_handlers(handlers: dict[int, Any], tmp_path: Path) -> None:
    loop = Loop()
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path), ONTHEFLY_SAVE_ON="SIGTERM") as commander:
        loop.step()
        pid = os.fork()
        if not pid:
            commander.kept.session.forked()
            os._exit(signal.getsignal(signal.SIGTERM) == handlers[signal.SIGTERM])
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        assert type(signal.getsignal(signal.SIGTERM)) is signals.Caught


def test_the_clock_waits_fifty_times_as_long_as_training_did(
    handlers: dict[int, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    real = checkpoints.Snapshot

    class Slow(real):
        def __init__(self, *given: Any) -> None:
            nonlocal now
            now += 1.0
            super().__init__(*given)

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now

    monkeypatch.setattr(checkpoints, "time", Clock)
    monkeypatch.setattr(checkpoints, "Snapshot", Slow)
    loop = Loop()
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        commander.send("keep", seconds=10.0)
        for _ in range(80):
            loop.step()
            commander.kept.session._control.checkpoints.flush(20)
            now += 1.0
        assert _kept(commander) == [(11, "every"), (61, "every")]
        commander.send("keep", seconds=0.0)
        for _ in range(60):
            loop.step()
            now += 1.0
        assert len(_kept(commander)) == 2


def test_words() -> None:
    assert parse("usr1, SIGTERM,TERM") == ["SIGUSR1", "SIGTERM"]
    assert get_args(SignalName) == NAMES
    for wrong in ("KILL", "STOP", "SEGV", "CHLD", "FOO", "15"):
        with pytest.raises(UsageError):
            parse(f"TERM,{wrong}")
    asked: Callable[[list[str]], Any] = lambda argv: cli._options(argv)[:: len(cli.Options._fields) - 1]  # noqa: E731
    assert asked(["--save-on", "INT", "--save-on=TERM", "s.py"]) == ({"ONTHEFLY_SAVE_ON": "SIGINT,SIGTERM"}, ["s.py"])
    assert asked(["--autosave", "s.py"]) == ({"ONTHEFLY_AUTOSAVE": "300"}, ["s.py"])
    assert asked(["--autosave", "5m", "s.py"]) == ({"ONTHEFLY_AUTOSAVE": "300"}, ["s.py"])
    assert asked(["--autosave=90s", "s.py"]) == ({"ONTHEFLY_AUTOSAVE": "90"}, ["s.py"])
    for wrong in ("--save-on", "--save-on=", "--save-on=KILL", "--autosave=soon", "--autosave=0"):
        with pytest.raises(UsageError):
            cli._options([wrong])


def _train_until_killed(data: Path, told: int) -> None:
    """Under ``--autosave``; tells the steps of checkpoints that are on the disk."""
    last, checkpoints.STALL_SHARE = 0, 0  # as often as the disk takes them
    with desk(ONTHEFLY_DATA_DIR=str(data), ONTHEFLY_AUTOSAVE="0.001") as commander:
        loop, parent = Loop(), os.getppid()
        while os.getppid() == parent:
            loop.step()
            for row in commander.kept.session._control.checkpoints.rows():
                if row.state == "durable" and row.step > last:
                    last = row.step
                    os.write(told, b"%d\n" % last)


@pytest.mark.timeout(400)
def test_killed_at_any_moment_the_newest_acknowledged_loads(handlers: dict[int, Any], tmp_path: Path) -> None:
    seed = int(os.environ.get("ONTHEFLY_SEED", "1"))
    draw = random.Random(seed)
    for number in range(200 if FULL else 4):
        reading, told = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                torch.set_num_threads(1)
                _train_until_killed(tmp_path / str(number), told)
            finally:
                os._exit(1)
        os.close(told)
        with open(reading, "rb") as pipe:
            assert pipe.readline(), "no checkpoint was made"
            time.sleep(draw.random() * 0.3)  # the moment: there is nothing to wait for
            os.kill(pid, signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, f"seed {seed}"
            acknowledged = [int(line) for line in pipe.read().split()]
        forms = [read_form(path) for path in (tmp_path / str(number)).glob("sessions/*/checkpoints/[!.]*")]
        for form in forms:
            assert set(form.sections["tensors"]["loop.w"].tolist()) == {-float(form.place.step)}
        assert max(form.place.step for form in forms) >= max(acknowledged, default=1), f"seed {seed}"
