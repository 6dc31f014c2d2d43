"""A hub in this process, on its own loop in a thread: so that tests reach into it, and take a protection away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

from onthefly.hub.server import Hub
from onthefly.link.discovery import read_hub, runtime_folder
from onthefly.settings import Settings
from tests.conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from onthefly.protocol import HubFile


class Running:
    """The hub and how to speak to it."""

    def __init__(self, hub: Hub, file: HubFile, stop: Callable[[], object] = bool) -> None:
        self.hub = hub
        self.file = file
        self.stop: Callable[[], object] = stop
        """Have it end, as SIGTERM would."""

    def raw(self, request: str | bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes as they are; status, headers and body of the answer."""
        with socket.create_connection((self.file.host, self.file.port), timeout=10) as connection:
            connection.sendall(request if isinstance(request, bytes) else request.encode("latin-1"))
            answer = b""
            while b"\r\n\r\n" not in answer:
                chunk = connection.recv(65536)
                if not chunk:
                    break
                answer += chunk
            head, _, body = answer.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            while request[:5] not in ("HEAD ", b"HEAD ") and len(body) < int(headers.get("content-length", 0)):
                body += connection.recv(65536)
            return (int(lines[0].split()[1]) if lines[0] else 0), headers, body

    def request(
        self, method: str = "GET", path: str = "/api/v1/sessions", body: str = "", **headers: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        """A request with our own Host, token and content type, unless ``headers`` says otherwise (None: without)."""
        given: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.file.port}",
            "Authorization": f"Bearer {self.file.token}",
            "Content-Type": "application/json",
            "Connection": "close",
        }
        given.update({name.replace("_", "-"): value for name, value in headers.items()})
        if body:
            given["Content-Length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value is not None)
        return self.raw(f"{method} {path} HTTP/1.1\r\n{lines}\r\n{body}")

    def json(self, path: str) -> Any:
        """A good request's answer, decoded."""
        status, _, body = self.request(path=f"/api/v1/{path}")
        assert status == 200, body
        return json.loads(body)


@contextlib.contextmanager
def running_hub(folder: Path, port: int = 47900) -> Generator[Running, None, None]:
    """Serve in a thread until the block ends."""
    settings = Settings(
        {
            "ONTHEFLY_RUNTIME_DIR": str(folder / "runtime"),
            "ONTHEFLY_DATA_DIR": str(folder / "data"),
            "ONTHEFLY_PORT": str(port),
        }
    )
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    hub = Hub(settings)
    thread = threading.Thread(target=lambda: loop.run_until_complete(hub.serve(runtime_folder(settings), stop)))
    before = read_hub(settings)  # of one that is about to end
    thread.start()
    try:
        file = wait_for("the hub", lambda: (file := read_hub(settings)) is not None and file != before and file)
        yield Running(hub, file, lambda: loop.call_soon_threadsafe(stop.set))
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
