"""Fixtures that all tests share: a home of its own for each test, scripts run plain and watched, and a hub."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

os.environ.setdefault("ONTHEFLY_SEED", str(int(time.time())))  # tests that are drawn by chance: the same in all workers

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, and tests send it

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests that run side by side share the cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
FULL = pytest.mark.skipif(not os.environ.get("ONTHEFLY_FULL"), reason="of the full tier: make faults")
"""Marks what `make test` leaves out."""

DIGITS = REPOSITORY / "examples" / "digits.py"


def wait_for(what: str, test: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Poll until ``test()`` is truthy, and return that; fail with ``what`` after the deadline."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        found = test()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {what}")


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: bytes
    err: bytes

    def err_without_ours(self) -> bytes:
        """Standard error without the one line that we may say."""
        return b"".join(
            line for line in self.err.splitlines(keepends=True) if not line.startswith(b"onthefly: session")
        )


class Home:
    """Runtime and data folders of a test, and the processes that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = folder / "runtime"
        self.data = folder / "data"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("ONTHEFLY_", "PYTHON"))}
        self.environment.update(
            ONTHEFLY_RUNTIME_DIR=str(self.runtime),
            ONTHEFLY_DATA_DIR=str(self.data),
            ONTHEFLY_PORT="47700",
            OMP_NUM_THREADS="1",
        )
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, stdin: int = subprocess.DEVNULL, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command here."""
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env={**self.environment, **environment},
            # A shell that runs the tests in its background has them ignore Ctrl-C, and so would this process.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._started.append(process)
        return process

    def run(self, *command: str, timeout: float = 100.0, stdin: bytes = b"", **environment: str) -> Ended:
        """Run a command here to its end."""
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
            cwd=self.folder,
            env={**self.environment, **environment},
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def python(self, *arguments: str, **options: Any) -> Ended:
        """Run plain Python."""
        return self.run(sys.executable, *arguments, **options)

    def watched(self, *arguments: str, **options: Any) -> Ended:
        """Run ``python -m onthefly``; our own errors are loud."""
        options.setdefault("ONTHEFLY_STRICT", "1")
        return self.run(sys.executable, "-m", "onthefly", *arguments, **options)

    def hub_file(self) -> dict[str, Any] | None:
        """What ``hub.json`` says now."""
        try:
            return json.loads((self.runtime / "hub.json").read_bytes())
        except (OSError, ValueError):
            return None

    def hub(self) -> dict[str, Any]:
        """The hub's file, waited for."""
        return wait_for("hub.json", self.hub_file)

    def get(self, path: str) -> Any:
        """``GET /api/v1/<path>``, decoded."""
        hub = self.hub()
        request = urllib.request.Request(
            f"http://127.0.0.1:{hub['port']}/api/v1/{path}", headers={"Authorization": f"Bearer {hub['token']}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: Any) -> Any:
        """``POST /api/v1/<path>``, decoded."""
        hub = self.hub()
        request = urllib.request.Request(
            f"http://127.0.0.1:{hub['port']}/api/v1/{path}", json.dumps(body).encode(),
            {"Authorization": f"Bearer {hub['token']}", "Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def session(self) -> dict[str, Any] | None:
        """The newest session, None before there is one."""
        try:
            return self.get("sessions/last")
        except (urllib.error.URLError, ConnectionError):
            return None

    def wait_state(self, *states: str, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until the newest session is in one of these states."""
        return wait_for(
            f"state {states}", lambda: (now := self.session()) is not None and now["state"] in states and now, seconds
        )

    def wait_step(self, step: int, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until the newest session has taken so many steps."""
        return wait_for(
            f"step {step}", lambda: (now := self.session()) is not None and now["step"] >= step and now, seconds
        )

    def stop_hub(self, number: int = signal.SIGTERM) -> None:
        """End the hub, if one runs."""
        hub = self.hub_file()
        if hub is not None:
            try:
                os.kill(hub["pid"], number)
            except ProcessLookupError:
                return
            wait_for("the hub's end", lambda: not running(hub["pid"]))

    def close(self) -> None:
        """End everything that was started here."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
        # A hub may be starting still, and ranks outlive the launcher that would end them, and hold its output open:
        # found by the folder in their environment, which is this test's alone.
        mine = f"ONTHEFLY_RUNTIME_DIR={self.runtime}\0".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mine in (folder / "environ").read_bytes():
                    os.kill(int(folder.name), signal.SIGKILL)
            except (OSError, ValueError):
                continue
        for process in self._started:
            process.communicate()


def running(pid: int) -> bool:
    """Whether that process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] != b"Z"


def children(pid: int) -> list[int]:
    """The children of a process."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(name))
    return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Folders of its own for a test, and the end of all that it started."""
    here = Home(tmp_path)
    yield here
    here.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make test` leaves out of the dear tests, to stay within its time."""
    parser.addoption(
        "--dear", type=float, default=1.0, metavar="SHARE",
        help="of the dear tests (that start processes, or are marked so) run that share, drawn by ONTHEFLY_SEED",
    )  # fmt: skip


def pytest_report_header(config: pytest.Config) -> str:
    """How to draw the same again."""
    return f"ONTHEFLY_SEED={os.environ['ONTHEFLY_SEED']}, --dear {config.getoption('--dear'):.2g}"


def _left_out(item: pytest.Item) -> bool:
    """Whether it is skipped, as those of the full tier are."""
    return any(mark.args and mark.args[0] is True for mark in item.iter_markers("skipif"))


def drawn(items: list[pytest.Item], share: float, seed: str) -> list[pytest.Item]:
    """All but the dear ones of each folder that are not among its share, rounded up: others with each seed."""
    folders: dict[Path, list[pytest.Item]] = {}
    for item in items:
        dear = "home" in getattr(item, "fixturenames", ()) or item.get_closest_marker("dear")
        if dear and not item.get_closest_marker("always") and not _left_out(item):
            folders.setdefault(item.path.parent, []).append(item)
    chance = random.Random(seed)
    kept = {one for dear in folders.values() for one in chance.sample(dear, math.ceil(share * len(dear)))}
    left = {one for dear in folders.values() for one in dear} - kept
    return [item for item in items if item not in left]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Quick tests first, so that a broken tree shows at once; of the dear ones those that were drawn."""
    share: Any = config.getoption("--dear")
    if share < 1:
        kept = drawn(items, share, os.environ["ONTHEFLY_SEED"])  # all workers draw the same
        config.hook.pytest_deselected(items=list(set(items).difference(kept)))
        items[:] = kept
    slow = ("e2e", "notebook", "purity", "faults", "fidelity")
    items.sort(key=lambda item: any(part in item.nodeid for part in slow))
