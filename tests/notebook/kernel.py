"""A real kernel for a test: cells go in, outputs come out; paused, interrupted and killed like one of Jupyter's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

from tests.conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.conftest import Home

TRAINS = """
import asyncio, sys, threading, time, torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

def steps(epochs, seconds=0.0):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loader = DataLoader(TensorDataset(torch.randn(64, 3), torch.randint(0, 2, (64,))), 8, shuffle=True)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            time.sleep(seconds)
            yield

def train(epochs, seconds=0.0):
    for _ in steps(epochs, seconds):
        pass
"""

FOREVER = 10**6


class Cell:
    """A cell that runs, or has run."""

    def __init__(self, kernel: Kernel, source: str) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.reply: dict[str, Any] = {}
        self._kernel = kernel
        self._id = kernel.client.execute(source)

    def wait(self, seconds: float = 60.0) -> Cell:
        """Until it has ended."""
        limit = time.monotonic() + seconds
        while True:
            message = self._kernel.client.get_iopub_msg(timeout=limit - time.monotonic())
            if message["parent_header"].get("msg_id") != self._id:
                continue
            content, kind = message["content"], message["msg_type"]
            if kind == "status" and content["execution_state"] == "idle":
                break
            if kind in ("stream", "display_data", "execute_result", "error"):
                self.outputs.append({"kind": kind, **content})
        while self.reply.get("parent_header", {}).get("msg_id") != self._id:
            self.reply = self._kernel.client.get_shell_msg(timeout=limit - time.monotonic())
        return self

    @property
    def ok(self) -> bool:
        """It ended without an error."""
        return self.reply["content"]["status"] == "ok"

    @property
    def text(self) -> str:
        """What it wrote and showed, as text, and the errors that it ended with."""
        return "".join(
            f"{output['ename']}: {output['evalue']}\n" if output["kind"] == "error"
            else output.get("text") or output["data"]["text/plain"] + "\n"
            for output in self.outputs
        )  # fmt: skip

    @property
    def html(self) -> str:
        """What it showed."""
        return "".join(output["data"].get("text/html", "") for output in self.outputs if "data" in output)


class Kernel:
    """One kernel."""

    def __init__(self, home: Home, **environment: str) -> None:
        self.home = home
        self.manager = KernelManager(kernel_name="python3")
        self.cells: list[Cell] = []
        self.manager.start_kernel(
            env={**home.environment, "ONTHEFLY_STRICT": "1", "JPY_SESSION_NAME": "some/my notes.ipynb",
                 "IPYTHONDIR": str(home.folder / "ipython"), **environment},
            cwd=str(home.folder),
        )  # fmt: skip
        self.client: Any = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    @property
    def pid(self) -> int:
        """Of the kernel."""
        return self.manager.provisioner.pid  # type: ignore[union-attr]

    def start(self, source: str) -> Cell:
        """Begin to run a cell."""
        cell = Cell(self, source)
        self.cells.append(cell)
        return cell

    def run(self, source: str) -> Cell:
        """Run a cell to its end."""
        return self.start(source).wait()

    def value(self, expression: str) -> str:
        """What that prints."""
        cell = self.run(f"print({expression})")
        assert cell.ok, cell.text
        return cell.text.strip()

    def interrupt(self) -> None:
        """As "Kernel > Interrupt" does."""
        self.manager.interrupt_kernel()

    def kill(self) -> None:
        """End it without a word."""
        os.kill(self.pid, signal.SIGKILL)

    def shutdown(self) -> None:
        """As "Kernel > Shut down" does."""
        self.client.stop_channels()
        self.manager.shutdown_kernel()


@contextlib.contextmanager
def running_kernel(home: Home, **environment: str) -> Generator[Kernel, None, None]:
    """A kernel, and its end."""
    kernel = Kernel(home, **environment)
    try:
        yield kernel
    finally:
        kernel.client.stop_channels()
        kernel.manager.shutdown_kernel(now=True)


def command(home: Home, name: str) -> None:
    """Have the newest session do that, once it trains."""
    wait_for("a session that trains", lambda: (now := home.session()) is not None and now["state"] == "running")
    hub = home.hub()
    request = urllib.request.Request(
        f"http://127.0.0.1:{hub['port']}/api/v1/sessions/last/commands",
        json.dumps({"id": f"{name}-{time.time()}", "name": name, "by": "dashboard"}).encode(),
        {"Authorization": f"Bearer {hub['token']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert json.loads(answer.read())["status"] in ("accepted", "applied")
