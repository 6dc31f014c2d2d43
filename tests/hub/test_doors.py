"""Rows 1 to 5: who may ask. Every request of a stranger is refused, and each protection is seen to be one."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest

from onthefly.hub.auth import ENTRY_ROUTE, OPEN_ROUTES, Guardian
from onthefly.protocol import Command
from tests.hub.agent import Agent
from tests.hub.running import Running, running_hub
from tests.reporting import note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Authorization": None,
    "Content-Type": None,
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running, Agent(running.file) as agent:
        agent.state("running")
        agent.saved(1)
        yield running
        agent.state("ended")
        agent.saved(2)


def origins(port: int) -> list[str | None]:
    """Origins that are not ours, some of which look like it."""
    return [
        "https://evil.example", "null", f"http://127.0.0.1:{port}.evil.example", f"http://evil127.0.0.1:{port}",
        f"http://127.0.0.1:{port + 1}", "http://127.0.0.1", f"https://127.0.0.1:{port}", f"http://localhost:{port}0",
        f"http://user@127.0.0.1:{port}", f"http://127.0.0.1:{port}/", f"http://LOCALHOST:{port}", "file://", "",
        f"http://localhost:{port}", f"http://127.0.0.1:{port} http://evil.example", "vscode-webview://x",
    ]  # fmt: skip


def hosts(port: int) -> list[str | None]:
    """Host headers that are not ours."""
    return [
        f"rebind.it:{port}", f"127.0.0.1.evil:{port}", "", f"LOCALHOST:{port}", f"127.0.0.1:{port + 1}", "127.0.0.1",
        f"0.0.0.0:{port}", f"127.0.0.1:{port}@evil", f"127.1:{port}", f"[::]:{port}", None,
    ]  # fmt: skip


def tokens(token: str) -> list[str | None]:
    """Tokens that are none."""
    return [
        None, "", "Bearer", "Bearer ", f"Bearer {token[:-1]}", f"Bearer {token}x", f"bearer {token}", f"Basic {token}",
        token, f"Bearer {token[::-1]}", "Bearer \xfc\xe9", f"Bearer  {token}", f"Bearer {'x' * 5000}",
    ]  # fmt: skip


def sockets(running: Running, *, origin: str | None, host: str | None, token: str) -> int:
    """The status of an upgrade."""
    protocols = f"onthefly.v1, onthefly.token.{token}" if token else "onthefly.v1"
    headers = {**UPGRADE, "Origin": origin, "Host": host, "Sec-WebSocket-Protocol": protocols}
    return running.request("GET", "/api/v1/ws", "", **headers)[0]


def test_row_1_a_socket_of_another_page(hub: Running) -> None:
    port, good = hub.file.port, f"127.0.0.1:{hub.file.port}"
    tried = [
        sockets(hub, origin=origin, host=host, token=token)
        for origin, host, token in itertools.product(
            origins(port), (good, f"localhost:{port}", *hosts(port)[:3]), (hub.file.token, "", "wrong")
        )
        if not (origin == f"http://localhost:{port}" and host == f"localhost:{port}" and token == hub.file.token)
    ]
    assert len(tried) >= 120
    assert {status // 100 for status in tried} == {4}
    note("F6", sockets_tried=len(tried), sockets_accepted=0)
    assert sockets(hub, origin=f"http://{good}", host=good, token=hub.file.token) == 101
    assert sockets(hub, origin=None, host=good, token=hub.file.token) == 101


def test_row_2_nothing_changes_by_a_simple_request(hub: Running) -> None:
    path = "/api/v1/sessions/abcdefgh/commands"
    body = json.dumps({"id": "x", "name": "stop"})
    for origin, kind in itertools.product(
        ("https://evil.example", "null", None),
        ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", None),
    ):
        assert hub.request("POST", path, body, Origin=origin, Content_Type=kind)[0] in (403, 415)
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "TRACE"):
        assert hub.request(method, path)[0] >= 400
    cookie = hub.request("POST", path, body, Authorization=None, Cookie=f"token={hub.file.token}")
    assert cookie[0] == 401
    assert hub.request("DELETE", "/api/v1/sessions/abcdefgh", Content_Type="text/plain")[0] == 415
    assert hub.json("sessions/abcdefgh")["state"] == "running"
    with pytest.raises(AssertionError):
        hub.json("sessions/abcdefgh/commands/0")


def test_row_3_another_name_for_this_address(hub: Running) -> None:
    for path, host in itertools.product(
        ("/", "/healthz", "/api/v1/sessions", "/assets/x.js", "/no"), hosts(hub.file.port)
    ):
        status = hub.request(path=path, Host=host)[0]
        assert status in (400, 421), (path, host)
    twice = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{hub.file.port}\r\nHost: evil\r\nConnection: close\r\n\r\n"
    assert hub.raw(twice)[0] in (400, 421)
    absolute = f"GET http://evil/ HTTP/1.1\r\nHost: 127.0.0.1:{hub.file.port}\r\nConnection: close\r\n\r\n"
    assert hub.raw(absolute)[0] in (400, 421)


def test_row_4_no_token_no_answer(hub: Running) -> None:
    for route in hub.hub.app.router.routes():
        if route.name in {*OPEN_ROUTES, "socket", ENTRY_ROUTE} or route.resource is None:
            continue
        path = route.resource.canonical.replace("{id}", "abcdefgh").replace("{n}", "0")
        for token in tokens(hub.file.token):
            assert hub.request(route.method, path, Authorization=token)[0] in (400, 401), (path, token)
    assert hub.request(path="/api/v1/nothing", Authorization=None)[0] == 401
    assert hub.request(path="/api/v1/nothing")[0] == 404


def test_row_4_the_open_routes_hold_no_data(hub: Running) -> None:
    assert hub.request(path="/healthz", Authorization=None)[::2] == (200, b"")
    status, headers, page = hub.request(path="/", Authorization=None)
    assert status in (200, 503)
    assert b"abcdefgh" not in page
    assert hub.file.token.encode() not in page
    assert hub.request(path="/assets/..%2f..%2fserver.py", Authorization=None)[0] in (400, 401, 404)
    assert "default-src 'none'" in headers["content-security-policy"]


def test_row_5_headers_on_every_answer(hub: Running) -> None:
    for path, token in itertools.product(
        ("/", "/healthz", "/api/v1/sessions", "/no"), (None, f"Bearer {hub.file.token}")
    ):
        _, headers, _ = hub.request(path=path, Authorization=token, Origin=f"http://127.0.0.1:{hub.file.port}")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert not [name for name in headers if name.startswith("access-control")]
        assert "server" not in headers


def test_refusals_are_written_down_without_the_token(hub: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "onthefly.hub"):
        hub.request(Origin="https://evil.example")
        hub.request(Authorization=f"Bearer {hub.file.token}x")
    assert "foreign_origin" in caplog.text
    assert "no_token" in caplog.text
    assert hub.file.token not in caplog.text


@pytest.mark.parametrize("part", ["host", "origin", "token", "content"])
def test_without_its_protection_each_attack_succeeds(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = Guardian.refusal
    codes = {"host": "wrong_host", "origin": "foreign_origin", "token": "no_token", "content": "content_type"}

    def weakened(self: Guardian, request: object) -> object:
        refused = refusal(self, request)  # type: ignore[arg-type]
        return None if refused is not None and refused[1].code == codes[part] else refused

    monkeypatch.setattr(Guardian, "refusal", weakened)
    with running_hub(tmp_path, 47950) as running, Agent(running.file) as agent:
        agent.state("running")
        agent.saved(1)
        good = f"127.0.0.1:{running.file.port}"
        if part == "host":
            assert running.request(Host="rebind.it")[0] == 200
        elif part == "origin":
            assert sockets(running, origin="https://evil.example", host=good, token=running.file.token) == 101
        elif part == "token":
            assert running.request(Authorization=None)[0] == 200
        else:
            path, body = "/api/v1/sessions/abcdefgh/commands", json.dumps({"id": "x", "name": "stop"})
            assert running.request("POST", path, body, Content_Type="text/plain")[0] == 200
            assert agent.wait(Command).name == "stop"
        agent.state("ended")
