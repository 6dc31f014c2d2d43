"""A debugger's client: speaks the Debug Adapter Protocol to debugpy, as an editor does."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Message = dict[str, Any]


class Adapter:
    """One conversation, over two streams."""

    def __init__(self, reads: IO[bytes], writes: IO[bytes]) -> None:
        self._reads, self._writes = reads, writes
        self._number = 0
        self._heard: queue.Queue[Message] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            length = 0
            while (line := self._reads.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            if not length:
                return
            self._heard.put(json.loads(self._reads.read(length)))

    def _write(self, message: Message) -> None:
        self._number += 1
        body = json.dumps({"seq": self._number, **message}).encode()
        self._writes.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._writes.flush()

    def ask(self, command: str, **arguments: Any) -> None:
        """Send a request."""
        self._write({"type": "request", "command": command, "arguments": arguments})

    def until(self, what: str, test: Callable[[Message], bool], seconds: float = 40.0) -> Message:
        """The next message that fits; requests of the other side are granted on the way."""
        limit = time.monotonic() + seconds
        while True:
            try:
                message = self._heard.get(timeout=max(0.01, limit - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not within {seconds:g} s: {what}") from None
            if message["type"] == "request":
                self._write({"type": "response", "request_seq": message["seq"], "command": message["command"],
                             "success": True})  # fmt: skip
            if test(message):
                return message

    def begin(self, how: str, configuration: Message, source: str, line: int) -> None:
        """Launch or attach, with one breakpoint."""
        self.ask("initialize", adapterID="debugpy", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
        self.until("initialize", lambda message: message.get("command") == "initialize")
        self.ask(how, **configuration)
        self.until("initialized", lambda message: message.get("event") == "initialized")
        self.ask("setBreakpoints", source={"path": source}, breakpoints=[{"line": line}])
        self.ask("configurationDone")


def start() -> tuple[subprocess.Popen[bytes], Adapter]:
    """The adapter of debugpy, and the conversation with it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "debugpy.adapter"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    return process, Adapter(process.stdout, process.stdin)


def attach(address: Message) -> tuple[socket.socket, Adapter]:
    """A second conversation, about the process that the first became."""
    connection = socket.create_connection((address["host"], address["port"]))
    return connection, Adapter(connection.makefile("rb"), connection.makefile("wb"))
