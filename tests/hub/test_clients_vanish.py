"""Row 18: a client is gone at a drawn byte of its conversation; a pause stays, and who comes back sees all of it.

The client speaks through a proxy that forwards so many bytes, either way, and then resets both connections, or falls
silent, as a cable that was pulled. It comes back, compares what it is told with what the hub says to others, and sends
the command again that it has no answer for, with the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest

from tests.conftest import FULL, wait_for
from tests.hub.dashboard import Socket, connected
from tests.hub.ranks import FakeRank, training
from tests.hub.running import Running, running_hub
from tests.reporting import note

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

SEED = int(os.environ.get("ONTHEFLY_SEED", "0"))
SECONDS = 20
CONVERSATION = 9000
"""About so many bytes are exchanged, both ways together, by a client that nobody cuts off."""

COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("pause", {}), ("set", {"name": "lr", "value": 0.25}), ("step", {"steps": 3}), ("pause", {}),
    ("set", {"name": "lr", "value": 0.5}), ("resume", {}), ("pause", {}),
]  # fmt: skip
SETTLED = ("applied", "refused", "failed")


class Sent(NamedTuple):
    """A command with the id that the client chose."""

    id: str
    name: str
    args: dict[str, Any]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    with running_hub(tmp_path, 47980) as running:
        yield running


class Cable:
    """Forwards so many bytes between a client and the hub, and no more."""

    def __init__(self, port: int, length: int, *, silent: bool) -> None:
        self.left = length
        self._port = port
        self._silent = silent
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.port = 0

    async def __aenter__(self) -> Cable:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *reason: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_hub = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, to_hub]
        self._tasks += [asyncio.ensure_future(self._forward(*pair)) for pair in ((reader, to_hub), (there, writer))]

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(1 << 16):
            part, self.left = part[: self.left], self.left - len(part[: self.left])
            writer.write(part)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            if not self.left:
                break
        if not self._silent or self.left:
            for each in self._writers:
                each.transport.abort()


@contextlib.asynccontextmanager
async def through(cable: Cable, hub: Running) -> AsyncGenerator[Socket, None]:
    """A client at the other end of the cable, that has its first snapshot."""
    own = f"127.0.0.1:{hub.file.port}"
    async with aiohttp.ClientSession() as http:
        opening = http.ws_connect(
            f"http://127.0.0.1:{cable.port}/api/v1/ws", headers={"Host": own},
            protocols=("onthefly.v1", f"onthefly.token.{hub.file.token}"),
        )  # fmt: skip
        async with await asyncio.wait_for(opening, 2) as socket:
            client = Socket(socket)
            assert await client.take(2)
            yield client


class Gone(Exception):
    """The connection is."""


def answer_in(client: Socket, identifier: str) -> dict[str, Any] | None:
    """How the command with that id was settled, if the client was told."""
    answers = [event["answer"] for event in client.events if event["type"] == "answer"]
    return next((one for one in answers if one["id"] == identifier and one["status"] in SETTLED), None)


async def command(client: Socket, sent: Sent, patience: float) -> dict[str, Any]:
    """Send it and wait for its end; :class:`Gone` where the connection is, or nothing comes."""
    await client.send(type="command", session="last", id=sent.id, name=sent.name, args=sent.args, by="test")
    while answer_in(client, sent.id) is None:
        try:
            if await client.take(patience) is None:
                raise Gone
        except asyncio.TimeoutError as error:
            raise Gone from error
    found = answer_in(client, sent.id)
    assert found
    return found


async def talk(hub: Running, cable: Cable, todo: list[Sent]) -> list[dict[str, Any]]:
    """Send commands one after the other until the cable is cut; the answers that came."""
    answers: list[dict[str, Any]] = []
    with contextlib.suppress(Gone, aiohttp.ClientError, ConnectionError, AssertionError, asyncio.TimeoutError):
        async with through(cable, hub) as client:
            await client.send(type="subscribe", session="last", metrics=["loss"], points=50)
            for sent in todo:
                answers.append(await command(client, sent, 1.5))  # noqa: PERF401 - one by one: what came is kept
    return answers


async def come_back(hub: Running, rank: FakeRank, todo: list[Sent], before: list[dict[str, Any]]) -> None:
    """Connect anew, see the truth, and have the rest done."""
    async with connected(hub.file) as client:
        await client.send(type="subscribe", session="last", metrics=["loss"], points=50)
        await agrees(client, hub)
        for sent, answer in zip(todo, before):  # asked again, it is the same answer, and is not done twice
            assert await command(client, sent, SECONDS) == answer
        for sent in todo[len(before) :]:
            answer = await command(client, sent, SECONDS)
            assert answer["status"] == "applied" or "not paused" in answer["reason"], answer
        await agrees(client, hub)
        assert (rank.paused, rank.lr) == (True, 0.5)
        assert (await asyncio.to_thread(hub.json, "sessions/last"))["state"] == "paused"


async def agrees(client: Socket, hub: Running) -> None:
    """Until the client has the state that the hub tells everybody: which, by whom, and since when."""

    def shown() -> list[Any]:
        seen = [event["session"] for event in client.events if event["type"] in ("session", "snapshot")]
        return [seen[-1][name] for name in ("id", "state", "by", "since")] if seen and seen[-1] else []

    limit = asyncio.get_running_loop().time() + SECONDS
    while asyncio.get_running_loop().time() < limit:
        said = await asyncio.to_thread(hub.json, "sessions/last")
        with contextlib.suppress(asyncio.TimeoutError):
            await client.read(lambda said=said: shown() == [said[name] for name in ("id", "state", "by", "since")], 1)
            return
    raise AssertionError("it is told something else than others")


async def scene(hub: Running, rank: FakeRank, length: int, *, silent: bool) -> int:
    """One client that vanishes and comes back; how many answers it had before."""
    todo = [Sent(str(uuid.uuid4()), *one) for one in COMMANDS]
    done = len(rank.done)
    async with Cable(hub.file.port, length, silent=silent) as cable:
        answers = await talk(hub, cable, todo)
    await come_back(hub, rank, todo, answers)
    assert [one.id for one in rank.done[done:]] == [sent.id for sent in todo], "each of them once, in their order"
    return len(answers)


@pytest.mark.parametrize("points", [6, pytest.param(100, marks=FULL)])
def test_row_18_a_client_that_vanishes_comes_back_to_what_is(hub: Running, points: int) -> None:
    chance = random.Random(SEED)
    had: list[int] = []
    with training(hub.file, 1, SEED) as ranks:
        wait_for("the session", lambda: hub.json("sessions/last")["state"] == "running")
        for number in range(points):
            length = chance.randrange(1, CONVERSATION)
            had.append(asyncio.run(asyncio.wait_for(
                scene(hub, ranks[0], length, silent=number % 5 == 4), 4 * SECONDS)))  # fmt: skip
    # A busy hub tells several changes at once: then a conversation is shorter, and six cuts fall into few places.
    assert len(set(had)) > (2 if points > 6 else 1), "they vanish at different commands"
    note("F5", clients_gone=points, answers_before=json.dumps(had))
