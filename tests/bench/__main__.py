"""``make bench``: what watching costs, as ratios of one run, with a hub connected and a dashboard subscribed."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench import control, faults, insight
from tests.conftest import REPOSITORY, Home

STEPS = str(Path(__file__).with_name("steps.py"))
TRAINER = str(Path(__file__).with_name("trainer.py"))
IMPORT = "import time; t = time.perf_counter(); import torch; print(time.perf_counter() - t)"
MEMORY = "import torch, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def watch(hub: dict[str, Any], stop: threading.Event) -> None:
    """One client that follows the newest session and reads all it is sent."""

    async def follow() -> None:
        protocols = ("onthefly.v1", f"onthefly.token.{hub['token']}")
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{hub['port']}/api/v1/ws", protocols=protocols) as socket,
        ):
            await socket.send_json({"type": "subscribe", "session": "last", "metrics": ["loss", "lr", "step_ms"]})
            while not stop.is_set():
                try:
                    await socket.receive(timeout=0.2)
                except asyncio.TimeoutError:
                    continue

    asyncio.run(follow())


def pairs_in_one_process(home: Home, what: str, count: int, *command: str) -> None:
    """Epochs of two kinds in turn: ratio of minima, median of ratios."""
    # glibc gives large blocks back and fetches them again, or not, by chance: up to 2 ms of page faults a step.
    steady = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
    options = {"ONTHEFLY_STRICT": "0", "PYTHONPATH": str(REPOSITORY), **steady}
    ended = home.watched(*command, str(count), timeout=500, **options)
    found: list[tuple[float, float]] = json.loads(ended.out)
    plain, armed = min(pair[0] for pair in found), min(pair[1] for pair in found)
    median = statistics.median(b / a for a, b in found)
    extra = statistics.median((b - a) * 1e6 for a, b in found)
    print(
        f"{what:6} step {plain * 1e3:7.3f} ms   "
        f"ratio of minima {armed / plain:.3f} (+{(armed - plain) * 1e6:.0f} us)   "
        f"median of {count} pairs {median:.3f} (+{extra:.0f} us)"
    )


def processes(home: Home, code: str, what: str, unit: str, factor: float) -> None:
    """The same line plain and watched, in fresh processes in turn: the difference of the medians and of the minima."""
    plain, ours = [], []
    for _ in range(7):
        plain.append(float(home.python("-c", code).out) * factor)
        ours.append(float(home.watched("-c", code, ONTHEFLY_STRICT="0").out) * factor)
    print(
        f"{what}: plain {statistics.median(plain):.0f} {unit}, watched {statistics.median(ours):.0f} {unit}, "
        f"difference of medians {statistics.median(ours) - statistics.median(plain):+.0f}, "
        f"of minima {min(ours) - min(plain):+.0f}"
    )


def start_up(home: Home) -> None:
    """From the command to the first line after ``import torch``, whole processes."""
    import time

    def seconds(*command: str) -> float:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "-c", "import torch; print(1, flush=True); import os; os._exit(0)"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=home.environment, cwd=home.folder,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        took = time.perf_counter() - start
        process.communicate()
        return took * 1e3

    plain, ours = [], []
    for _ in range(7):
        plain.append(seconds(sys.executable))
        ours.append(seconds(sys.executable, "-m", "onthefly"))
    print(
        f"past `import torch`: plain {statistics.median(plain):.0f} ms, watched {statistics.median(ours):.0f} ms, "
        f"later by {statistics.median(ours) - statistics.median(plain):+.0f} (minima {min(ours) - min(plain):+.0f})"
    )


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        stop = threading.Event()
        try:
            home.watched("-c", "import torch")
            client = threading.Thread(target=watch, args=(home.hub(), stop))
            client.start()
            pairs_in_one_process(home, "small", 150, STEPS, "small")
            pairs_in_one_process(home, "large", 40, STEPS, "large")
            pairs_in_one_process(home, "Trainer beside the loop by hand,", 20, TRAINER)
            stop.set()
            client.join()
            control.run()
            insight.main()
            faults.report(home)
            start_up(home)
            processes(home, MEMORY, "memory of the script's process", "MB", 1 / 1024)
        finally:
            stop.set()
            home.close()


if __name__ == "__main__":
    main()
