"""What a fault beside the script costs it: epochs with the fault on and off in turn, all of them watched.

A dashboard that does not read, a hub that is killed again and again, a port that belongs to another program. The ratio
is that of the median epoch in a window with the fault to the median one in the window before it without.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import REPOSITORY, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.conftest import Home

STEPS = str(Path(__file__).with_name("steps.py"))
WINDOW_SECONDS = 1.5
PAIRS = 10


@contextlib.contextmanager
def frozen_dashboard(home: Home) -> Generator[None, None, None]:
    """A page that follows the script and reads nothing: its socket's buffers fill up."""
    hub = home.hub()
    with socket.create_connection(("127.0.0.1", hub["port"]), timeout=5) as page:
        page.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        page.sendall(
            f"GET /api/v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{hub['port']}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: onthefly.v1, onthefly.token.{hub['token']}\r\n\r\n".encode()
        )
        text = json.dumps({"type": "subscribe", "session": "last", "metrics": ["loss", "lr", "step_ms"]}).encode()
        page.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
        yield


@contextlib.contextmanager
def killed_hub(home: Home) -> Generator[None, None, None]:
    """The hub dies at the beginning of each window; the agent starts another one."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(home.hub()["pid"], signal.SIGKILL)
    yield
    wait_for("another hub", lambda: home.session() is not None)


@contextlib.contextmanager
def foreign_port(home: Home) -> Generator[None, None, None]:
    """The file names a port that another program owns, which takes connections and says nothing."""
    hub = home.hub()
    with contextlib.suppress(ProcessLookupError):
        os.kill(hub["pid"], signal.SIGKILL)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(64)
        squatted = {**hub, "pid": os.getpid(), "agent_port": other.getsockname()[1], "port": other.getsockname()[1]}
        (home.runtime / "hub.json").write_text(json.dumps(squatted))
        yield
    (home.runtime / "hub.json").unlink()
    wait_for("a hub again", lambda: home.session() is not None, 60)


FAULTS: dict[str, Callable[[Home], contextlib.AbstractContextManager[None]]] = {
    "a dashboard that does not read": frozen_dashboard,
    "a hub that is killed": killed_hub,
    "a port of another program": foreign_port,
}


def measure(home: Home, fault: Callable[[Home], contextlib.AbstractContextManager[None]]) -> list[float]:
    """Ratios of the windows with the fault to those before them."""
    process = home.start(sys.executable, "-m", "onthefly", STEPS, "small", "watch", PYTHONPATH=str(REPOSITORY))
    home.wait_state("running")
    windows: list[tuple[float, float]] = []
    for _ in range(PAIRS):
        windows.append(_window())
        with fault(home):
            windows.append(_window())
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    epochs: list[tuple[float, float]] = [tuple(json.loads(line)) for line in out.splitlines()]
    medians = [_median(epochs, *window) for window in windows]
    return [faulty / calm for calm, faulty in zip(medians[::2], medians[1::2])]


def _window() -> tuple[float, float]:
    start = time.time()
    time.sleep(WINDOW_SECONDS)
    return start, time.time()


def _median(epochs: list[tuple[float, float]], start: float, end: float) -> float:
    return statistics.median(seconds for when, seconds in epochs if start <= when <= end)


def report(home: Home) -> dict[str, Any]:
    """Print a line for each fault; the medians of the ratios."""
    found: dict[str, Any] = {}
    for name, fault in FAULTS.items():
        ratios = measure(home, fault)
        found[name] = statistics.median(ratios)
        print(f"{name}: median of {len(ratios)} pairs {found[name]:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    return found
