"""Signals reach the script wherever it is, as they would without us; Ctrl-C ends it at once, whatever we are doing."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from onthefly.link.client import Client
from onthefly.settings import Settings
from tests.conftest import wait_for
from tests.lean import LEAN
from tests.parity.endings import STOPS
from tests.parity.running import FULL
from tests.parity.test_product import SEED

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.conftest import Home

pytestmark = pytest.mark.dear

SCRIPT = """
import os, signal, sys, time
{handlers}
print("importing", flush=True)
{lean}
class Data(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, n):
        parent = os.getppid()
        while {waits} and n > 3:
            time.sleep(0.05)
            if os.getppid() != parent: os._exit(0)  # torch's own watch over this takes minutes
        return torch.ones(3), 0
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for epoch in range({epochs}):
    for x, y in torch.utils.data.DataLoader(Data(), 2, num_workers={waits:d}):
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        if epoch == 0: print("step", flush=True)
print("ends", flush=True)
"""
EVERY = sorted(set(range(1, 32)) & signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
LETHAL = sorted(
    set(EVERY)
    - STOPS
    - {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGPIPE, signal.SIGXFSZ}
)
CATCHES = "for n in {numbers}: signal.signal(n, lambda n, frame: os.write(1, b'caught %d\\n' % n))"
PLACES = ("import", "step", "loader", "paused")
INTERRUPTED = (-signal.SIGINT, 1) if find_spec("tabulate") else (-signal.SIGINT,)
"""With `tabulate` installed torch's compiler imports it at exit, and Python ends with 1, plain or watched."""


class Script:
    """The script under us, brought to a place where signals come."""

    def __init__(self, home: Home, place: str, handlers: str = "", epochs: int = 10**9) -> None:
        text = SCRIPT.format(lean=LEAN, handlers=handlers, waits=place == "loader", epochs=epochs)
        (home.folder / "s.py").write_text(text)
        self.process: subprocess.Popen[bytes] = home.start(sys.executable, "-m", "onthefly", "s.py")
        self._home = home
        self.line("importing")
        if place != "import":
            self.line("step")
        if (
            place == "loader"
        ):  # interrupted in the last step before it, torch waits 5 s for the worker, plain or watched
            self.line("step")
            wait_for("the wait for a batch", self.sleeps)
        if place == "paused":
            self._pause()

    def line(self, expected: str) -> None:
        """Read up to that line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip().decode() == expected:
                return
        raise AssertionError(f"ended before {expected!r}: {self.process.communicate()[1].decode()}")

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ends(self, seconds: float = 2.0) -> int:
        """Its exit code, which must come so soon (twice that: these machines are slow)."""
        return self.process.wait(2 * seconds)

    def sleeps(self) -> bool:
        """Whether its main thread waits for something, looked at often enough to be sure."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        return all(stat.read_bytes().rpartition(b")")[2].split()[0] == b"S" for _ in range(200))

    def words(self) -> str:
        """What it said on standard error."""
        return self.process.communicate()[1].decode()

    def _pause(self) -> None:
        with Client(Settings(self._home.environment)) as client:
            session = wait_for("the session", lambda: self._mine(client))
            client.command(session, {"id": "p", "name": "pause", "args": {}, "by": "test"})
            wait_for("the pause", lambda: client.json(f"sessions/{session}")["state"] == "paused")

    def _mine(self, client: Client) -> str:
        for session in client.json("sessions")["sessions"]:
            if session["cwd"] == str(self._home.folder) and session["state"] == "running":
                return session["id"]
        return ""


@pytest.mark.parametrize("place", PLACES[1:] if FULL else ["loader", "paused"])
def test_every_signal_reaches_the_scripts_handler(here: Home, place: str) -> None:
    script = Script(here, place, CATCHES.format(numbers=[int(number) for number in EVERY]))
    for number in EVERY:
        script.send(number)
        script.line(f"caught {number:d}")
    script.send(signal.SIGSTOP)
    script.send(signal.SIGCONT)
    script.line(f"caught {signal.SIGCONT:d}")
    script.send(signal.SIGKILL)
    assert script.ends() == -signal.SIGKILL


CASES = [(place, number) for place in PLACES for number in LETHAL]


@pytest.mark.parametrize(("place", "number"), random.Random(SEED).sample(CASES, 40 if FULL else 2))
def test_a_signal_without_a_handler_ends_the_script(here: Home, place: str, number: int) -> None:
    script = Script(here, place)
    script.send(number)
    assert script.ends() in (INTERRUPTED if number == signal.SIGINT else (-number,))


@pytest.mark.parametrize("place", ["step", "paused"] if not FULL else PLACES)
@pytest.mark.parametrize("times", [1, 2] if FULL else [1])
def test_an_interrupt_ends_the_script(here: Home, place: str, times: int) -> None:
    script = Script(here, place)
    for _ in range(times):
        script.send(signal.SIGINT)
    assert script.ends() in INTERRUPTED
    assert script.words().count("KeyboardInterrupt\n") == 1


def _held(script: Script) -> None:
    limit = time.monotonic() + 20
    while script.process.poll() is None and time.monotonic() < limit:
        script.send(signal.SIGINT)
        time.sleep(0.03)  # as the keyboard repeats it


def _once(script: Script) -> None:
    script.send(signal.SIGINT)


@pytest.mark.parametrize("press", [_once, _held])
def test_an_interrupt_while_the_last_records_are_sent(home: Home, press: Callable[[Script], None]) -> None:
    """The hub takes nothing. The script has ended already: once pressed, Ctrl-C ends our wait, and its code stands."""
    assert home.watched("-c", "").code == 0
    hub = home.hub()["pid"]
    script = Script(home, "step", epochs=400)
    wait_for("the session", home.session)
    os.kill(hub, signal.SIGSTOP)
    script.line("ends")
    wait_for("the wait for the hub", script.sleeps)
    press(script)
    # Held, it hits the end of the interpreter too, as it would without us.
    assert script.ends() in ((0,) if press is _once else (0, -signal.SIGINT))
    os.kill(hub, signal.SIGCONT)
    assert "onthefly/" not in script.words()
