"""A hub behind an editor's proxy: it answers to the name that the holder of its token tells, and to no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from onthefly.hub.auth import MAX_ADMITTED, Guardian
from tests.hub.running import Running, running_hub
from tests.hub.test_doors import sockets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EDITOR = "https://editor.example"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    with running_hub(tmp_path, 47960) as running:
        yield running


def admit(hub: Running, origin: object = EDITOR, **headers: str | None) -> int:
    """Have the hub answer to that origin; the status of its answer."""
    return hub.request("POST", "/api/v1/origins", json.dumps({"origin": origin}), **headers)[0]


def test_it_answers_behind_the_proxy_once_it_was_told(hub: Running) -> None:
    token = hub.file.token
    assert hub.request(Host="editor.example")[0] == 421
    assert sockets(hub, origin=EDITOR, host="editor.example", token=token) == 421
    assert admit(hub) == 200
    assert hub.request(Host="editor.example")[0] == 200
    assert hub.request(Host="editor.example", Origin=EDITOR)[0] == 200
    assert sockets(hub, origin=EDITOR, host="editor.example", token=token) == 101
    assert hub.request(path="/", Host="editor.example", Authorization=None)[0] in (200, 503)


def test_all_else_is_refused_there_as_before(hub: Running) -> None:
    assert admit(hub) == 200
    own = f"127.0.0.1:{hub.file.port}"
    assert hub.request(Host="editor.example", Authorization=None)[0] == 401
    assert sockets(hub, origin=EDITOR, host="editor.example", token="wrong") == 401
    for host, origin in [
        ("editor.example", "http://editor.example"), ("editor.example", "https://evil.example"), (own, EDITOR),
        ("editor.example", f"http://{own}"), ("editor.example", "null"), ("editor.example", f"{EDITOR}:443"),
    ]:  # fmt: skip
        assert hub.request(Host=host, Origin=origin)[0] == 403, (host, origin)
    for host in ("evil.example", "editor.example.evil", "EDITOR.example", "editor.example:443", "sub.editor.example"):
        assert hub.request(Host=host)[0] == 421, host


def test_only_who_holds_the_token_may_tell(hub: Running) -> None:
    assert admit(hub, Authorization=None) == 401
    assert admit(hub, Authorization="Bearer wrong") == 401
    assert admit(hub, Origin="https://evil.example") == 403
    assert admit(hub, Host="evil.example") == 421
    assert admit(hub, Content_Type="text/plain") == 415
    assert hub.request(Host="editor.example")[0] == 421


@pytest.mark.parametrize("origin", [
    "", "null", "*", "https://", "https://*", "https://a b", "https://editor.example/", "https://u@editor.example",
    "file:///x", "vscode-webview://x", "https://EDITOR.example", "https://a\nb", f"https://{'a' * 400}", 7, None, ["x"],
])  # fmt: skip
def test_what_is_no_origin_is_not_taken(hub: Running, origin: object) -> None:
    assert admit(hub, origin) == 400


def test_the_oldest_of_too_many_is_forgotten() -> None:
    guardian = Guardian("t")
    for number in range(MAX_ADMITTED + 3):
        guardian.admit(f"https://editor{number}.example")
    guardian.admit("https://editor5.example")
    assert len(guardian._admitted) == MAX_ADMITTED
    assert list(guardian._admitted)[-1] == "https://editor5.example"
    assert "https://editor2.example" not in guardian._admitted
