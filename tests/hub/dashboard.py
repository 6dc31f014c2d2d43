"""A dashboard's side of the WebSocket, as a test needs it: what it was told, in plain attributes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from onthefly.protocol import HubFile

Columns = dict[str, Any]


def columns_of(message: bytes) -> tuple[dict[str, Any], Columns]:
    """Header and arrays of a binary message."""
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    place = 4 + length + -(4 + length) % 8
    arrays: Columns = {}
    for column in header["columns"]:
        size = int(column["dtype"][1]) * column["count"]
        arrays[column["name"]] = np.frombuffer(message[place : place + size], column["dtype"].replace("u1", "B"))
        place += size + -size % 8
    return header, arrays


class Socket:
    """One connection; ``read`` until something is true of it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self.socket = socket
        self.closed: int | None = None
        """The code with which the hub said goodbye (aiohttp's own becomes 1006 when its answer to that fails)."""
        self.events: list[dict[str, Any]] = []
        self.steps: dict[str, list[int]] = {}
        """By metric: the steps it holds, histories replaced and deltas appended as a dashboard does."""
        self.values: dict[str, list[float]] = {}
        self.resets: dict[str, int] = {}
        self.arrived: dict[int, float] = {}
        """When the loss of a step came, on the monotonic clock."""

    async def send(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def take(self, seconds: float = 20.0) -> dict[str, Any] | None:
        """Read one message; None when the connection is over."""
        message = await asyncio.wait_for(self.socket.receive(), seconds)
        if message.type is aiohttp.WSMsgType.TEXT:
            event = json.loads(message.data)
            self.events.append(event)
            return event
        if message.type is aiohttp.WSMsgType.CLOSE:
            self.closed = message.data
        if message.type is not aiohttp.WSMsgType.BINARY:
            return None
        header, columns = columns_of(message.data)
        metric = header["metric"]
        if header["reset"]:
            self.steps[metric], self.values[metric] = [], []
            self.resets[metric] = self.resets.get(metric, 0) + 1
        self.steps.setdefault(metric, []).extend(columns["step"].tolist())
        self.values.setdefault(metric, []).extend(columns["value"].tolist())
        if metric == "loss" and not header["reset"]:
            self.arrived.update(dict.fromkeys(columns["step"].tolist(), time.monotonic()))
        return header

    async def read(self, until: Callable[[], Any], seconds: float = 20.0) -> None:
        """Read until that is true; fails after so many seconds, or when the connection ends first."""
        limit = time.monotonic() + seconds
        while not until():
            assert await self.take(limit - time.monotonic()) is not None, f"closed: {self.closed}"

    def last(self, kind: str) -> dict[str, Any] | None:
        """The newest event of that type."""
        return next((event for event in reversed(self.events) if event["type"] == kind), None)


@contextlib.asynccontextmanager
async def connected(hub: HubFile, **options: Any) -> AsyncGenerator[Socket, None]:
    """A logged-in WebSocket that has its first snapshot."""
    async with aiohttp.ClientSession() as http:
        socket = await http.ws_connect(
            f"http://127.0.0.1:{hub.port}/api/v1/ws", protocols=("onthefly.v1", f"onthefly.token.{hub.token}"),
            max_msg_size=0, **options,
        )  # fmt: skip
        async with socket:
            client = Socket(socket)
            await client.take()
            yield client
