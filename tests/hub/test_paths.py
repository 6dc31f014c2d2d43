"""Row 9: no text of a request becomes a path. Nothing outside the data folder is read, written or removed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from onthefly.hub.folder import DataFolder
from onthefly.hub.registry import Registry
from onthefly.protocol import Hello, Welcome
from tests.hub.agent import Agent, hello, records
from tests.hub.dashboard import connected
from tests.hub.running import Running, running_hub
from tests.reporting import note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = b"the-contents-of-a-private-file"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (tmp_path / "secret.duckdb").write_bytes(SECRET)
    with running_hub(tmp_path, 47990) as running:
        yield running


def tree(folder: Path) -> str:
    """A hash over every name and content below a folder, but for the hub's own two."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).parts[0] not in ("data", "runtime"):
            content = path.read_bytes() if path.is_file() else b""
            found.update(f"{path} {path.is_symlink()}".encode() + content)
    return found.hexdigest()


def traversals(folder: Path) -> list[str]:
    """Sixty ways to say ``../outside/secret``."""
    plain = [
        "..", ".", "../outside/secret", "../../outside/secret", "../../../etc/passwd", "....//outside/secret",
        "..;/outside/secret", "./../outside/secret", "abcdefgh/../../../outside/secret", "abcdefgh/..", "abcdefgh/.",
        "abcdefgh/store.duckdb", "abcdefgh/../abcdefgh", str(folder / "outside" / "secret"), "/etc/passwd",
        "//etc/passwd", "file:///etc/passwd", "~/.ssh/id_rsa", "..\\outside\\secret", "..\\..\\outside\\secret",
        "C:\\Windows\\win.ini", "\\\\host\\share", "abcdefgh\0", "abcdefgh\0.json", "../outside/secret\0.parquet",
        "\uff0e\uff0e\uff0foutside\uff0fsecret", "\u2025/outside/secret", "..\u2215outside\u2215secret",
        "abcdefgh\u200b", "\u202eabcdefgh", "CON", "NUL", "abcdefgh:stream", "abcdefgh ", " abcdefgh", "abcdefgh\n",
        "*", "?", "[a-z]*", "%", "$(id)", "`id`", "'; DROP TABLE samples; --", "' OR '1'='1",
        "abcdefgh' UNION SELECT * FROM read_text('/etc/passwd') --", "x' ATTACH '/tmp/x' AS y; --",
    ]  # fmt: skip
    encoded = [quote(text, safe="") for text in plain[:10]]
    twice = [quote(text, safe="") for text in encoded[:5]]
    overlong = ["%c0%ae%c0%ae%c0%afoutside", "%2e%2e%2foutside%2fsecret", "..%00/outside", "%u002e%u002e%u2215"]
    return [*plain, *encoded, *twice, *overlong]


def test_there_are_sixty(tmp_path: Path) -> None:
    assert len(set(traversals(tmp_path))) >= 60


ROUTES = [
    "/assets/{}", "/api/v1/sessions/{}", "/api/v1/sessions/{}/runs", "/api/v1/sessions/{}/metrics",
    "/api/v1/sessions/{}/backwards", "/api/v1/sessions/{}/samples", "/api/v1/sessions/{}/histogram",
    "/api/v1/sessions/{}/logs", "/api/v1/sessions/{}/commands/0", "/api/v1/sessions/abcdefgh/commands/{}",
    *(f"/api/v1/sessions/abcdefgh/samples?{name}={{}}" for name in ("run", "phase", "epoch", "format", "order")),
    "/api/v1/sessions/abcdefgh/samples?limit={}",
    "/api/v1/sessions/abcdefgh/metrics?points=10&run={}", "/api/v1/sessions/abcdefgh/metrics?points=10&name={}",
    "/api/v1/sessions/abcdefgh/metrics?name={}", "/api/v1/sessions/abcdefgh/histogram?run={}",
    "/api/v1/sessions/abcdefgh/logs?search={}", "/healthz?nonce={}", "/{}",
]  # fmt: skip


def forms(text: str) -> list[str]:
    """As it stands where that can be sent, and encoded."""
    raw = text.isascii() and not any(ord(letter) < 33 for letter in text)
    return [quote(text, safe=""), *([text] if raw else [])]


def ask_everything(hub: Running, folder: Path) -> int:
    """Each text in each place of a request; how many were asked. Fails when something leaks or breaks."""
    asked = 0
    for text in traversals(folder):
        for route in ROUTES:
            for form in forms(text):
                status, _, body = hub.request(path=route.format(form))
                asked += 1
                assert status in (200, 400, 401, 404, 405, 421), (route, form, status, body)
                assert SECRET not in body
                assert b"root:" not in body
        for form in forms(text):
            if form.split("/")[0].split("?")[0] not in ("abcdefgh", "."):
                assert hub.request("DELETE", f"/api/v1/sessions/{form}")[0] in (400, 404, 405), form
        body = json.dumps({"id": text, "name": text, "args": {"path": text, "file": text}, "by": text})
        status, _, answer = hub.request("POST", "/api/v1/sessions/abcdefgh/commands", body)
        assert status == 200, (text, answer)
        assert json.loads(answer)["status"] == "refused"
    return asked


def welcomed(hub: Running, first: Hello) -> bool:
    """Whether the agents' port takes this first frame."""
    agent = Agent(hub.file, first)
    with contextlib.closing(agent.connection):
        try:
            return isinstance(agent.wait(Welcome), Welcome)
        except OSError:
            return False


def test_row_9_through_every_door(hub: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def through_the_socket() -> None:
        async with connected(hub.file) as one:
            for number, text in enumerate(traversals(tmp_path)):
                await one.send(type="subscribe", session=text, metrics=[text])
                await one.send(type="ping")
                await one.read(
                    lambda number=number: sum(e["type"] in ("pong", "error") for e in one.events) > 2 * number
                )
            assert SECRET.decode() not in json.dumps(one.events)

    before = tree(tmp_path)
    with Agent(hub.file) as agent:
        agent.say(records(0, 3, 2))
        agent.saved(1)
        agent.state("ended")
        agent.saved(2)
        asked = ask_everything(hub, tmp_path)
        asyncio.run(through_the_socket())
        assert len(hub.json("sessions/abcdefgh/samples")) == 6
    for text in traversals(tmp_path):
        assert not welcomed(hub, hello(text)), f"session {text!r}"
        assert not welcomed(hub, hello("zzzzzzzz", run=text)) or text in ("CON", "NUL"), f"run {text!r}"
    assert tree(tmp_path) == before
    assert {path.name for path in (tmp_path / "data" / "sessions").iterdir()} <= {"abcdefgh", "zzzzzzzz"}
    assert not [record for record in caplog.records if record.exc_info]
    note("F6", paths_tried=asked, paths_leaked=0)


def test_without_the_pattern_a_session_would_be_made_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataFolder, "of", lambda self, session: self.sessions / session)
    monkeypatch.setattr("onthefly.hub.agents.denial", lambda hello: "")
    before = tree(tmp_path)
    with running_hub(tmp_path, 47990) as running, Agent(running.file, hello("../../elsewhere")) as agent:
        agent.say(records(0, 1, 1))
        agent.saved(1)
        agent.state("ended")
        agent.saved(2)
    assert tree(tmp_path) != before


def ended_session(hub: Running) -> None:
    """A session with records, that may be deleted."""
    with Agent(hub.file) as agent:
        agent.say(records(0, 3, 2))
        agent.state("ended")
        agent.saved(2)


def test_deleting_a_link_leaves_what_it_points_at(hub: Running, tmp_path: Path) -> None:
    ended_session(hub)
    folder = tmp_path / "data" / "sessions" / "abcdefgh"
    folder.rename(tmp_path / "outside" / "moved")
    folder.symlink_to(tmp_path / "outside" / "moved")
    (tmp_path / "outside" / "moved" / "inner").symlink_to(tmp_path / "outside" / "secret")
    assert hub.request("DELETE", "/api/v1/sessions/abcdefgh")[0] == 200
    assert not folder.is_symlink()
    assert (tmp_path / "outside" / "moved" / "store.duckdb").exists()
    assert (tmp_path / "outside" / "secret").read_bytes() == SECRET


def test_links_inside_a_session_are_not_followed(hub: Running, tmp_path: Path) -> None:
    ended_session(hub)
    folder = tmp_path / "data" / "sessions" / "abcdefgh"
    (folder / "to-a-folder").symlink_to(tmp_path / "outside")
    (folder / "to-a-file").symlink_to(tmp_path / "outside" / "secret")
    assert hub.request("DELETE", "/api/v1/sessions/abcdefgh")[0] == 200
    assert not folder.exists()
    assert (tmp_path / "outside" / "secret").read_bytes() == SECRET


@pytest.mark.parametrize("safely", [True, False])
def test_a_link_put_in_place_of_a_folder_while_it_is_deleted(
    safely: bool, hub: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the folder and its removal it is swapped for a link to another."""
    folder, outside = tmp_path / "data" / "sessions" / "abcdefgh", tmp_path / "outside"
    looks: list[Path] = []

    def is_symlink(path: Path) -> bool:
        if path == folder and not looks:
            looks.append(folder)
            folder.rename(tmp_path / "data" / "aside")
            folder.symlink_to(outside)
            return False
        return os.path.islink(path)

    ended_session(hub)
    monkeypatch.setattr(type(folder), "is_symlink", is_symlink)
    if not safely:
        monkeypatch.setattr("onthefly.hub.folder.shutil.rmtree", follow)
    status, _, body = hub.request("DELETE", "/api/v1/sessions/abcdefgh")
    assert looks, "the folder was not looked at"
    assert (outside / "secret").exists() == safely
    assert status == (500 if safely else 200)
    assert not safely or b"symbolic link" in body


def follow(folder: Path) -> None:
    """Remove what is there, through links: what must not be done."""
    for path in folder.iterdir():
        path.unlink()


def test_the_registry_takes_no_folder_that_is_none_of_ours(tmp_path: Path) -> None:
    with running_hub(tmp_path, 47990) as running:
        ended_session(running)
    sessions = tmp_path / "data" / "sessions"
    session = json.loads((sessions / "abcdefgh" / "session.json").read_bytes())["session"]
    for name in ("..hidden", "ABCDEFGH", "short", "abcdefg!", "x" * 200):
        (sessions / name).mkdir()
        content = {"node": "x", "hub_pid": 1, "session": {**session, "id": name}}
        (sessions / name / "session.json").write_text(json.dumps(content))
    assert set(Registry(DataFolder(tmp_path / "data")).sessions) == {"abcdefgh"}
