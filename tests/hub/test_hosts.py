"""Row 6: other users of this machine, and other machines."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from onthefly.errors import ExitCode
from onthefly.hub.connections import names, reached_at
from onthefly.link.discovery import read_hub
from onthefly.settings import Settings
from tests.conftest import Home, wait_for
from tests.hub.running import Running, running_hub
from tests.reporting import note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onthefly.protocol import HubFile

pytestmark = pytest.mark.alone

STRANGER = """
import http.client, json, os, sys
paths, port, agent_port, routes = json.loads(sys.argv[1])
seen = {"uid": os.getuid(), "read": [], "statuses": []}
for path in paths:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").read()
        seen["read"].append(path)
    except OSError:
        pass
for method, route in routes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, route, headers={"Content-Type": "application/json"})
    seen["statuses"].append([method, route, connection.getresponse().status])
    connection.close()
print(json.dumps(seen))
"""


@pytest.fixture
def open_home() -> Iterator[Home]:
    """A home below a folder that everybody may enter: what keeps strangers out is ours."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    home = Home(folder)
    yield home
    home.close()
    shutil.rmtree(folder)


def as_nobody(*command: str) -> str:
    """What that prints when another user runs it."""
    done = subprocess.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--", *command],
                          capture_output=True, text=True, timeout=60, check=False, cwd="/")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs_two_users() -> str:
    """Why this machine cannot play another user; empty if it can."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return "needs root and setpriv to become another user"
    try:
        as_nobody(sys.executable, "-c", "")
    except AssertionError as error:
        return f"another user cannot run this Python: {error}"
    return ""


def look_as_nobody(home: Home, file: HubFile) -> dict[str, list[str]]:
    """What another user reads of our folders, and what each route answers him."""
    routes = [("GET", f"/api/v1/{path}") for path in (
        "sessions", "sessions/last", "sessions/last/runs", "sessions/last/metrics", "sessions/last/backwards",
        "sessions/last/samples", "sessions/last/histogram", "sessions/last/logs", "sessions/last/commands/0", "hub",
        "ws", "nothing",
    )]  # fmt: skip
    routes += [("POST", "/api/v1/sessions/last/commands"), ("DELETE", "/api/v1/sessions/last"), ("PUT", "/api/v1/x")]
    below = [str(path) for folder in (home.runtime, home.data) for path in [folder, *folder.rglob("*")]]
    asked = json.dumps([below, file.port, file.agent_port, routes])
    seen = json.loads(as_nobody(sys.executable, "-c", STRANGER, asked))
    assert seen["uid"] != os.geteuid()
    assert len(below) >= 5
    return seen


def session_with_records(home: Home) -> HubFile:
    """A hub with an ended session."""
    home.watched("-c", "import torch; torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1).step()")
    return wait_for("the hub", lambda: read_hub(Settings(home.environment)))


def test_another_user_sees_and_asks_nothing(open_home: Home) -> None:
    reason = needs_two_users()
    if reason:
        pytest.skip(reason)
    mask = os.umask(0)  # of a user who is careless
    try:
        file = session_with_records(open_home)
    finally:
        os.umask(mask)
    seen = look_as_nobody(open_home, file)
    assert seen["read"] == []
    assert {status for _, _, status in seen["statuses"]} == {401}, seen["statuses"]
    note("F6", another_user=len(seen["statuses"]), another_user_let_in=0)
    open_home.runtime.chmod(0o755)
    (open_home.runtime / "hub.json").chmod(0o644)
    assert look_as_nobody(open_home, file)["read"], "the look would not have seen an open folder"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "10.0.0.1"])
def test_other_machines_are_kept_out_with_advice(home: Home, host: str) -> None:
    ended = home.python("-m", "onthefly", "hub", "--host", host)
    assert ended.code == ExitCode.REFUSED
    assert b"ssh -L 47700:127.0.0.1:47700" in ended.err
    assert b"--i-know" in ended.err
    assert home.hub_file() is None


def test_what_is_no_address_is_named(home: Home) -> None:
    ended = home.python("-m", "onthefly", "hub", "--host", "gpu1.example")
    assert ended.code == ExitCode.USAGE
    assert b"gpu1.example" in ended.err
    ended = home.python("-m", "onthefly", "hub", "--host", "192.0.2.1", "--i-know")
    assert ended.code != 0
    assert b"192.0.2.1" in ended.err


def test_names_that_are_ours() -> None:
    assert names("127.0.0.1") == names("::1") == []
    assert names("192.0.2.1") == ["192.0.2.1", platform.node()]
    assert names("2001:db8::1")[0] == "[2001:db8::1]"
    assert (reached_at("0.0.0.0"), reached_at("::"), reached_at("192.0.2.1")) == ("127.0.0.1", "::1", "192.0.2.1")


def own_address() -> str:
    """An address of this machine that is not the loopback's; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def test_with_i_know_exactly_that_address_is_served(home: Home) -> None:
    address = own_address()
    if not address or address.startswith("127."):
        pytest.skip("this machine has no other address than the loopback's")
    home.start(sys.executable, "-m", "onthefly", "hub", "--host", address, "--i-know")
    file: HubFile = wait_for("the hub", lambda: read_hub(Settings(home.environment)))
    assert file.host == address
    running = Running(None, file)  # type: ignore[arg-type]
    for host, token, status in (
        (f"{address}:{file.port}", f"Bearer {file.token}", 200),
        (f"{platform.node()}:{file.port}", f"Bearer {file.token}", 200),
        (f"{address}:{file.port}", None, 401),
        (f"{address}:{file.port}", "Bearer x", 401),
        (f"evil.example:{file.port}", f"Bearer {file.token}", 421),
        (address, f"Bearer {file.token}", 421),
    ):
        assert running.request(Host=host, Authorization=token)[0] == status, (host, token)
    own, foreign = f"http://{address}:{file.port}", f"http://127.0.0.1:{file.port}"
    assert running.request(Host=f"{address}:{file.port}", Origin=own)[0] == 200
    assert running.request(Host=f"{address}:{file.port}", Origin=foreign)[0] == 403
    # Commands and scripts find it there.
    assert b"no sessions" in home.python("-m", "onthefly", "ps").out.lower() or home.run(
        sys.executable, "-m", "onthefly", "ps", "--json").code == 0  # fmt: skip
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", file.port), timeout=5):
        pass


def test_the_loopback_hub_does_not_answer_to_the_machines_name(tmp_path: Path) -> None:
    with running_hub(tmp_path, 47995) as running:
        assert running.request(Host=f"{platform.node()}:{running.file.port}")[0] == 421
