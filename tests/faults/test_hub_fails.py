"""Rows 14 and 27: a hub that freezes, hangs or is replaced, and a link of ours that breaks, cost the script nothing."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from onthefly.link.descriptors import Own
from tests.conftest import DIGITS, FULL, running, wait_for
from tests.lean import LEAN

if TYPE_CHECKING:
    from tests.conftest import Home

TRAINS = f"""
{LEAN}
import os, sys, time
torch.set_num_threads(1)
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
x, y = torch.ones(4, 3), torch.tensor([0, 1, 1, 0])
def train(steps):
    for _ in range(steps):
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
"""
FROZEN = f"""
import atexit, time
atexit.register(lambda: print(time.monotonic() - ended))  # before torch: it runs after ours
{TRAINS}
train(200)
print("ready", flush=True)
sys.stdin.readline()
train(2000)
ended = time.monotonic()
"""


def test_a_frozen_hub_delays_the_end_by_two_seconds_at_most(home: Home) -> None:
    (home.folder / "s.py").write_text(FROZEN)
    reader, writer = os.pipe()
    process = home.start(sys.executable, "-m", "onthefly", "s.py", stdin=reader)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    home.wait_step(1)
    hub = home.hub()["pid"]
    os.kill(hub, signal.SIGSTOP)
    try:
        os.write(writer, b"\n")
        assert process.wait(30) == 0
        assert float(process.stdout.read()) < 2.3
    finally:
        os.kill(hub, signal.SIGCONT)
        os.close(reader)
        os.close(writer)
    # What the hub had not taken waited on disk, and it takes it in now.
    home.wait_state("ended")
    wait_for("all of it", lambda: (now := home.session()) is not None and now["backwards"] == 2200)
    rows = home.get("sessions/last/backwards")
    assert [row["backward"] for row in rows] == list(range(2200))


@FULL
def test_a_hub_that_hangs_ends_itself_and_is_replaced(home: Home) -> None:
    hangs = (
        "import time\nfrom onthefly.hub import server\nfrom onthefly.settings import Settings\n"
        "server.Watchdog.__init__.__defaults__ = (1.0,)\n"
        "server.Hub._status = lambda self: time.sleep(600)\nserver.run(Settings())\n"
    )
    hub = home.start(sys.executable, "-c", hangs)
    first = home.hub()["pid"]
    process = home.start(sys.executable, "-m", "onthefly", str(DIGITS), "--epochs", "30")
    home.wait_step(20)
    with pytest.raises(Exception):  # noqa: B017 - whatever the connection says when the hub goes
        home.get("hub")
    assert hub.wait(20) == 1
    assert b"event loop hangs" in hub.communicate()[1]
    wait_for("another hub", lambda: (found := home.hub_file()) is not None and found["pid"] != first)
    assert process.wait(90) == 0
    session = home.wait_state("ended")
    assert session["backwards"] == 30 * 45
    assert session["samples"] == 30 * 1437


def test_the_watchdog_lets_a_living_hub_live(home: Home) -> None:
    """One that was stopped and goes on (a laptop's lid) has missed many beats, and is well."""
    lives = (
        "from onthefly.hub import server\nfrom onthefly.settings import Settings\n"
        "server.Watchdog.__init__.__defaults__ = (0.2,)\nserver.run(Settings())\n"
    )
    hub = home.start(sys.executable, "-c", lives)
    pid = home.hub()["pid"]
    for _ in range(5):
        os.kill(pid, signal.SIGSTOP)
        wait_for("it to stop", lambda: b" T " in Path(f"/proc/{pid}/stat").read_bytes())
        os.kill(pid, signal.SIGCONT)
        assert home.get("sessions")["sessions"] == []
    assert running(pid)
    assert hub.poll() is None


@pytest.mark.parametrize(("failures", "recorded"), [(1, True), (3, False)])
def test_a_link_that_breaks_is_begun_anew_then_given_up(home: Home, failures: int, recorded: bool) -> None:
    breaks = f"""
from onthefly.link.link import Link
exchange, left = Link._exchange, [{failures}]
def fails(self):
    if self._welcomed and left[0]:
        left[0] -= 1
        raise RuntimeError("injected")
    exchange(self)
Link._exchange = fails
train(3000)
from onthefly.sessions import _session
if {failures} == 3:
    _session._link._thread.join(20)
print(len(_session._link._fresh), _session._link._thread.is_alive())
"""
    (home.folder / "s.py").write_text(TRAINS + breaks)
    ours = home.run(sys.executable, "-m", "onthefly", "s.py")
    assert ours.code == 0
    assert b"RuntimeError: injected" in ours.err
    assert ours.out == (b"0 True\n" if recorded else b"0 False\n")
    assert ours.err.count(b"\n") == (2 if recorded else 3)
    if recorded:
        assert home.wait_state("ended")["backwards"] == 3000
    else:
        assert b"switched off after 3 failures" in ours.err


def test_the_port_of_a_killed_hub_is_free_at_once(home: Home) -> None:
    """Workers of a script hold no listening socket of ours: the next hub has the same port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = home.start(sys.executable, "-m", "onthefly", str(DIGITS), "--epochs", "1000", "--workers", "2",
                         ONTHEFLY_PORT=str(port))  # fmt: skip
    home.wait_step(20)
    assert home.hub()["port"] == port
    first = home.hub()["pid"]
    home.stop_hub(signal.SIGKILL)
    again = wait_for("another hub", lambda: (found := home.hub_file()) and found["pid"] != first and found)
    assert again["port"] == port
    home.wait_step(30)
    assert process.poll() is None


DAEMON = f"""
import os, resource
{TRAINS}
train(300)
time.sleep(0.5)
os.closerange(3, 400)
files = [os.open(f"file{{n}}", os.O_RDWR | os.O_CREAT) for n in range(12)]
for _ in range(20):
    train(100)
    time.sleep(0.03)
print([os.fstat(file).st_size for file in files], len(set(files)))
"""


def test_a_script_that_closes_what_it_does_not_know(home: Home) -> None:
    """A daemon's habit: our descriptors are gone, and their numbers are those of its files."""
    (home.folder / "s.py").write_text(DAEMON)
    ours = home.run(sys.executable, "-m", "onthefly", "s.py")
    assert (ours.code, ours.out) == (0, f"{[0] * 12} 12\n".encode())
    home.wait_state("ended")
    wait_for("all of it", lambda: (now := home.session()) is not None and now["backwards"] == 2300)


@pytest.mark.parametrize("protected", [True, False])
def test_a_number_that_has_become_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:
    if not protected:
        monkeypatch.setattr(Own, "intact", lambda self: True)
    ours, other = socket.socketpair()
    own = Own(ours)
    number = own.socket.fileno()
    os.close(number)
    theirs = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    if theirs != number:
        os.dup2(theirs, number)
        os.close(theirs)
    own.close()
    other.close()
    spared = True
    try:
        os.close(number)
    except OSError:
        spared = False
    assert spared == protected


def test_a_script_with_many_open_files(home: Home) -> None:
    many = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
files = [open("/dev/null") for _ in range(1100)]
"""
    (home.folder / "s.py").write_text(many + TRAINS + "train(500)\n")
    ours = home.run(sys.executable, "-m", "onthefly", "s.py")
    assert (ours.code, ours.err.count(b"\n")) == (0, 1), ours.err.decode()
    home.wait_state("ended")
    wait_for("all of it", lambda: (now := home.session()) is not None and now["backwards"] == 500)
