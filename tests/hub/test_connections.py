"""Row 16: a thousand connections, slow headers and bodies, bombs. The hub answers beside them, and stays small."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import resource
import socket
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from onthefly.hub import auth, connections
from onthefly.link.discovery import read_hub
from onthefly.settings import Settings
from tests.conftest import wait_for
from tests.hub.running import Running, running_hub
from tests.hub.test_clients import frame, rss, upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onthefly.protocol import HubFile
    from tests.conftest import Home

pytestmark = pytest.mark.dear


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    with running_hub(tmp_path, 47970) as running:
        yield running


def closed_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the hub ends this connection in time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        return True
    except socket.timeout:
        return False
    return True


SLOW = {
    "says nothing": b"",
    "half a request line": b"GET /hea",
    "headers without end": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-A: 1\r\n",
    "idle after an answer": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n",
    "a body without end": b"POST /api/v1/sessions/last/commands HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    b"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    "a body without end, of a stranger": b"POST /api/v1/sessions/last/commands HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
}


def opened(running: Running, kind: str) -> socket.socket:
    """A connection that has said that and no more."""
    connection = socket.create_connection(("127.0.0.1", running.file.port))
    said = SLOW[kind].replace(b"{port}", str(running.file.port).encode())
    connection.sendall(said.replace(b"{token}", running.file.token.encode()))
    return connection


def test_slow_peers_are_ended(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALLED_SECONDS", 0.5)
    monkeypatch.setattr(auth, "BODY_SECONDS", 0.5)
    with contextlib.ExitStack() as stack:
        held = {kind: stack.enter_context(opened(hub, kind)) for kind in SLOW}
        assert [kind for kind, connection in held.items() if not closed_within(connection, 10)] == []
    monkeypatch.setattr(connections, "STALLED_SECONDS", 1000.0)
    monkeypatch.setattr(auth, "BODY_SECONDS", 1000.0)
    with contextlib.ExitStack() as stack:
        held = {kind: stack.enter_context(opened(hub, kind)) for kind in SLOW}
        first, *others = held
        ended = [first] if closed_within(held[first], 2) else []
        ended += [kind for kind in others if closed_within(held[kind], 0.01)]
        assert ended == [], "they are ended without our bounds too"


def test_a_reader_of_a_big_answer_may_be_slow_but_not_still(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALLED_SECONDS", 1.0)
    body = b"x" * 20_000_000
    monkeypatch.setattr(connections, "SEND_BUFFER", 4096)

    async def big(request: object) -> object:
        from aiohttp import web

        return web.Response(body=body)

    route = next(route for route in hub.hub.app.router.routes() if route.name == "sessions" and route.method == "GET")
    monkeypatch.setattr(route, "_handler", big)
    head = f"Host: 127.0.0.1:{hub.file.port}\r\nAuthorization: Bearer {hub.file.token}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", hub.file.port)) as slow:
        slow.sendall(f"GET /api/v1/sessions HTTP/1.1\r\n{head}".encode())
        start, got = time.monotonic(), 0
        while got < len(body):
            got += len(slow.recv(65536))
            if got < 3_500_000:
                time.sleep(0.04)  # a slow network: not an event that could be waited for
        assert time.monotonic() - start > 2
    with socket.create_connection(("127.0.0.1", hub.file.port)) as still:
        still.sendall(f"GET /api/v1/sessions HTTP/1.1\r\n{head}".encode())
        wait_for("the hub to give up", lambda: not hub.hub._connections._seen)


def test_a_thousand_connections(home: Home) -> None:
    home.start(sys.executable, "-m", "onthefly", "hub")
    settings = Settings(home.environment)
    file: HubFile = wait_for("the hub", lambda: read_hub(settings))
    home.get("sessions")
    before = rss(file.pid)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    with contextlib.ExitStack() as stack:
        for number in range(1000):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", file.port)))
            with contextlib.suppress(OSError):
                connection.sendall(b"GET / HTTP/1.1\r\nX-" + b"a" * (number * 8 % 8000))
        start = time.monotonic()
        assert home.get("sessions") == {"sessions": []}
        assert time.monotonic() - start < 2
        files = Path(f"/proc/{file.pid}/fd")
        wait_for("room", lambda: len(list(files.iterdir())) < connections.MAX_CONNECTIONS + 64, 5)
    assert rss(file.pid) - before < 32


@pytest.mark.parametrize("bounded", [True, False])
def test_the_longest_silent_makes_room(bounded: bool, hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    if bounded:
        monkeypatch.setattr(connections, "MAX_CONNECTIONS", 4)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(opened(hub, "half a request line")) for _ in range(8)]
        assert hub.json("sessions") == {"sessions": []}
        ended = [closed_within(connection, 0.5) for connection in held]
    assert any(ended) == bounded
    assert sum(ended) < 8


def test_bodies_of_a_mebibyte_and_more(home: Home) -> None:
    home.start(sys.executable, "-m", "onthefly", "hub")
    settings = Settings(home.environment)
    file: HubFile = wait_for("the hub", lambda: read_hub(settings))
    running = Running(None, file)  # type: ignore[arg-type]
    before = rss(file.pid)
    path = "/api/v1/sessions/last/commands"
    for _ in range(20):
        assert running.request("POST", path, "[" * (1024 * 1024 - 1))[0] == 400
        assert running.request("POST", path, "x" * (1024 * 1024 + 1))[0] == 413
    bomb = gzip.compress(b" " * 50_000_000).decode("latin-1")
    assert running.request("POST", path, bomb, Content_Encoding="gzip")[0] == 400
    assert home.get("sessions") == {"sessions": []}
    assert rss(file.pid) - before < 32


def bomb(size: int) -> bytes:
    """A deflated text frame, as permessage-deflate would send it."""
    deflate = zlib.compressobj(wbits=-15)
    return frame(1, (deflate.compress(b" " * size) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4], first=0xC0)


HOSTILE_FRAMES = {
    "an oversize message": (frame(1, b'"' + b"x" * 70_000), 1009),
    "an oversize length": (b"\x81\xff" + (2**62).to_bytes(8, "big"), None),
    "oversize in parts": (frame(1, b"x" * 60_000, first=0) + frame(0, b"x" * 60_000), 1009),
    "a deflate bomb": (bomb(30_000_000), 1002),
    "binary": (frame(2, b"\x00\x01"), 1003),
    "bad UTF-8": (frame(1, b'{"type": "\xff\xfe"}'), 1007),
    "an unknown opcode": (frame(5, b"x"), 1002),
    "a long ping": (frame(9, b"x" * 200), 1002),
    "a continuation of nothing": (frame(0, b"x"), None),
    "a close with half a code": (frame(8, b"\x03"), 1002),
    "reserved bits": (frame(1, b"{}", first=0xB0), 1002),
}


def close_code(answer: bytes) -> int | None:
    """The code of the close frame at the end of what the hub sent."""
    place, code = 0, None
    while place + 2 <= len(answer):
        length, place = answer[place + 1], place + 2
        opcode = answer[place - 2] & 15
        if length == 126:
            length, place = int.from_bytes(answer[place : place + 2], "big"), place + 2
        elif length == 127:
            length, place = int.from_bytes(answer[place : place + 8], "big"), place + 8
        if opcode == 8:
            code = int.from_bytes(answer[place : place + 2], "big")
        place += length
    return code


@pytest.mark.parametrize("kind", HOSTILE_FRAMES)
def test_bad_frames_close_cleanly(hub: Running, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    data, code = HOSTILE_FRAMES[kind]
    with socket.create_connection(("127.0.0.1", hub.file.port), timeout=10) as connection:
        connection.sendall(
            upgrade(hub.file).replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
        assert b"permessage-deflate" not in answer
        connection.sendall(data)
        with contextlib.suppress(ConnectionError, socket.timeout):
            while chunk := connection.recv(65536):
                answer += chunk
    found = close_code(answer.partition(b"\r\n\r\n")[2])
    assert found == code if code is not None else found in (None, 1002, 1009), found
    assert hub.json("sessions") == {"sessions": []}
    assert not [record for record in caplog.records if record.exc_info]


def test_a_slow_start_does_not_hold_others_up(hub: Running) -> None:
    """Thirty requests of the same moment are all served."""

    async def ask() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.file.port)
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{hub.file.port}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return int(answer.split()[1])

    async def scene() -> list[int]:
        return list(await asyncio.gather(*(ask() for _ in range(100))))

    assert set(asyncio.run(scene())) == {200}
