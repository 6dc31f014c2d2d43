"""What is broken around the script costs it nothing: one line says what is lost, and how to mend it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.errors import HubUnavailable
from onthefly.link.client import Client
from onthefly.settings import Settings
from tests.conftest import DIGITS, FULL, Ended, children, running, wait_for
from tests.lean import LEAN, TWO_EPOCHS

if TYPE_CHECKING:
    from tests.conftest import Home

SHORT = ["-c", TWO_EPOCHS]
ENDLESS = f"""
{LEAN}
class Data(torch.utils.data.Dataset):
    def __len__(self): return 10**6
    def __getitem__(self, n): return torch.ones(3), n % 2
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for x, y in torch.utils.data.DataLoader(Data(), 8, num_workers=WORKERS):
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
"""


def start_hub(home: Home) -> dict[str, Any]:
    """A hub without a script; its file."""
    pid = home.start(sys.executable, "-m", "onthefly", "hub").pid
    return wait_for("the hub", lambda: (found := home.hub_file()) and found["pid"] == pid and found)


def assert_trained(ours: Ended, lines: int) -> None:
    """It printed its two epochs, and we at most so many lines."""
    assert ours.code == 0
    assert ours.out.count(b"epoch") == 2
    assert ours.err.count(b"\n") <= lines


def assert_another_hub(home: Home, pid: int) -> None:
    """A script that trains until there is another hub than this one has its records there."""
    waits = TWO_EPOCHS + "input()\n"
    process = home.start(sys.executable, "-m", "onthefly", "-c", waits, stdin=subprocess.PIPE, ONTHEFLY_STRICT="1")
    wait_for("another hub", lambda: (found := home.hub_file()) and found["pid"] != pid)
    out, err = process.communicate(b"\n", 60)
    assert_trained(Ended(process.returncode, out, err), 1)
    # What waited in the spool is read when the session is known to the new hub, perhaps after its end is.
    wait_for("its records", lambda: home.wait_state("ended")["samples"] == 192)


def test_a_taken_port_means_the_next_one(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_trained(home.watched(*SHORT, ONTHEFLY_PORT=str(port)), 1)
        assert port < home.hub()["port"] <= port + 20
    assert home.wait_state("ended")["samples"] == 192


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders of other users are a matter of POSIX")
def test_a_runtime_folder_that_is_not_ours(home: Home) -> None:
    home.runtime.symlink_to(home.folder)
    ours = home.watched(*SHORT)
    assert_trained(ours, 2)
    assert b"is a link" in ours.err
    assert b"ONTHEFLY_RUNTIME_DIR" in ours.err
    home.runtime.unlink()
    # What waited on disk is taken in by the next hub.
    start_hub(home)
    sessions = wait_for("the spool", lambda: [s for s in home.get("sessions")["sessions"] if s["samples"] == 192])
    assert sessions[0]["state"] == "ended"


def test_a_runtime_folder_that_cannot_be_written(home: Home) -> None:
    (home.folder / "file").write_text("")
    ours = home.watched(*SHORT, ONTHEFLY_RUNTIME_DIR=str(home.folder / "file" / "runtime"))
    assert_trained(ours, 2)
    assert b"cannot be used" in ours.err


def test_a_stale_file_is_seen_through(home: Home) -> None:
    hub = start_hub(home)
    home.stop_hub(signal.SIGKILL)
    (home.runtime / "hub.json").write_text(json.dumps(hub))
    assert_another_hub(home, hub["pid"])


def test_a_stale_file_whose_pid_is_alive(home: Home) -> None:
    """The number of the dead hub belongs to another process by now: nothing answers there, nothing hangs."""
    hub = start_hub(home)
    home.stop_hub(signal.SIGKILL)
    other = home.start("sleep", "100")
    (home.runtime / "hub.json").write_text(json.dumps({**hub, "pid": other.pid}))
    assert_another_hub(home, other.pid)


def test_two_hubs_at_once_become_one(home: Home) -> None:
    hubs = [home.start(sys.executable, "-m", "onthefly", "hub") for _ in range(3)]
    winner = home.hub()["pid"]
    wait_for("the others to leave", lambda: sum(process.poll() is None for process in hubs) == 1)
    assert [process.pid for process in hubs if process.poll() is None] == [winner]
    assert all(process.returncode == 0 for process in hubs if process.pid != winner)


@FULL
def test_a_hub_that_dies_is_replaced_and_nothing_is_lost(home: Home) -> None:
    process = home.start(sys.executable, "-m", "onthefly", str(DIGITS), "--epochs", "40")
    for number in (signal.SIGKILL, signal.SIGTERM):
        pid = home.hub()["pid"]
        before = home.wait_step(1)["step"]
        home.stop_hub(number)
        wait_for("another hub", lambda pid=pid: (hub := home.hub_file()) is not None and hub["pid"] != pid)
        home.wait_step(before + 50)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0
    assert out.count(b"epoch") == 40
    assert err.count(b"\n") <= 2
    session = home.wait_state("ended")
    assert session["backwards"] == 40 * 45
    assert session["samples"] == 40 * 1437
    rows = home.get("sessions/last/backwards")
    assert [row["backward"] for row in rows] == list(range(40 * 45))


def test_a_script_that_is_killed_keeps_what_was_shown(home: Home) -> None:
    process = home.start(sys.executable, "-m", "onthefly", "-c", ENDLESS.replace("WORKERS", "0"))
    shown = home.wait_step(200)["backwards"]
    process.kill()
    session = home.wait_state("crashed")
    assert session["reason"] == "the process is gone"
    home.stop_hub(signal.SIGKILL)
    start_hub(home)
    rows = home.get(f"sessions/{session['id']}/backwards")
    assert len(rows) >= shown
    assert [row["backward"] for row in rows] == list(range(len(rows)))


def test_a_squatter_gets_no_token(home: Home) -> None:
    hub = start_hub(home)
    home.stop_hub(signal.SIGKILL)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        wait_for("the dead hub's threads to let go of its port", lambda: bound(squatter, hub["port"]))
        squatter.listen()
        squatter.settimeout(20)
        other = home.start("sleep", "100")
        (home.runtime / "hub.json").write_text(json.dumps({**hub, "pid": other.pid}))
        asks = home.start(sys.executable, "-m", "onthefly", "ps")
        connection, _ = squatter.accept()
        asked = connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-OnTheFly-Proof: 00\r\n\r\n")
        assert connection.recv(4096) == b""
        assert hub["token"].encode() not in asked
        connection.close()
    assert asks.wait(20) == HubUnavailable.exit_code


@FULL
def test_ranks_are_not_paused_one_by_one(home: Home) -> None:
    (home.folder / "s.py").write_text(
        "import torch, sys\nw = torch.ones(3, requires_grad=True)\no = torch.optim.SGD([w], 0.1)\n"
        "while True:\n    (w ** 2).sum().backward()\n    o.step()\n"
    )
    process = home.start(sys.executable, "-m", "onthefly", "s.py", WORLD_SIZE="2", RANK="0")
    home.wait_step(10)
    with Client(Settings(home.environment)) as client:
        answer = client.command("last", {"id": str(uuid.uuid4()), "name": "pause", "by": "test"})
        assert answer["status"] == "refused"
        assert "2 ranks" in answer["reason"]
        assert client.command("last", {"id": str(uuid.uuid4()), "name": "stop", "by": "test"})["status"] == "refused"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT
    assert home.wait_state("stopped")["reason"] == "interrupted (Ctrl-C)"


def test_the_hub_leaves_when_nobody_needs_it(home: Home) -> None:
    hub = home.start(sys.executable, "-m", "onthefly", "hub", ONTHEFLY_IDLE_SECONDS="1")
    assert running(home.hub()["pid"])
    assert hub.wait(20) == 0
    assert home.hub_file() is None


def test_the_token_is_in_no_place_that_others_see(home: Home) -> None:
    process = home.start(sys.executable, "-m", "onthefly", "-c", ENDLESS.replace("WORKERS", "2"))
    home.wait_step(20)
    token = home.hub()["token"].encode()
    workers = children(process.pid)
    assert len(workers) >= 2
    for pid in (home.hub()["pid"], process.pid, *workers):
        for name in ("cmdline", "environ"):
            assert token not in Path(f"/proc/{pid}/{name}").read_bytes()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    home.wait_state("stopped")
    for path in home.folder.rglob("*"):
        if path.is_file() and path.name != "hub.json":
            assert token not in path.read_bytes(), path
    assert (home.runtime / "hub.json").stat().st_mode & 0o777 == 0o600
    assert home.runtime.stat().st_mode & 0o777 == 0o700
    for path in (home.data / "sessions").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def bound(listener: socket.socket, port: int) -> bool:
    """Bind to that port, if it is free."""
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
