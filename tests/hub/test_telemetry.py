"""What the hub reads of a script's processes from outside, and of itself."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pynvml
import pytest

from onthefly.hub import telemetry
from onthefly.hub.telemetry import MEGABYTE, Gpus, Telemetry
from onthefly.version import __version__
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello, records
from tests.hub.running import running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY = """
import sys, subprocess
if len(sys.argv) == 1:
    child = subprocess.Popen([sys.executable, __file__, "child"])
held = bytearray(60 << 20)
print("ready", flush=True)
while True:
    pass
"""


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[int]:
    """A process and its child, both busy, each with 60 MB; its pid."""
    (tmp_path / "busy.py").write_text(BUSY)
    process = subprocess.Popen([sys.executable, str(tmp_path / "busy.py")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline() == b"ready\n"
    yield process.pid
    for child in psutil.Process(process.pid).children():
        child.kill()
    process.kill()
    process.communicate()


def test_processor_and_memory_with_all_descendants(tmp_path: Path, busy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "SAMPLE_SECONDS", 0.2)
    with running_hub(tmp_path) as hub, Agent(hub.file, hello("abcdefgh", pid=busy)) as agent:
        agent.state("running")
        agent.say(records(0, 3, 4))
        agent.saved(2)
        path = "sessions/abcdefgh/metrics?name=cpu"
        rows = wait_for("samples", lambda: len(found := hub.json(path)) > 5 and found)
        assert max(row["value"] for row in rows) > 60, "two busy processes use more than half a core"
        rss = hub.json("sessions/abcdefgh/metrics?name=rss")
        alone = psutil.Process(busy).memory_info().rss / MEGABYTE
        assert rss[-1]["value"] > alone + 55, "the child's memory is in it"
        session = hub.json("sessions/abcdefgh")
        assert {"cpu", "rss"} <= set(session["metrics"])
        assert session["step"] == 2, "a sample is no step"
        agent.state("ended")


def test_a_process_that_is_gone_is_no_fault(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with running_hub(tmp_path) as hub:
        assert Telemetry(hub.hub.registry, hub.hub._keeper)._sample([gone.pid]) == {}


def test_a_gpu_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 3)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    running = {0: [(10, 512), (11, 1024)], 1: [(99, 4096)], 2: [(11, None)]}
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda index: [
        SimpleNamespace(pid=pid, usedGpuMemory=None if mb is None else mb * MEGABYTE) for pid, mb in running[index]
    ])  # fmt: skip
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda index: SimpleNamespace(gpu=[80, 5, 40][index]))
    gpus = Gpus()
    assert gpus.usage({10, 11}) == {"gpu_util": 60.0, "gpu_mem": 1536.0}
    assert gpus.usage({7}) == {}


def test_a_gpu_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

    monkeypatch.setattr(pynvml, "nvmlInit", fails)
    assert Gpus().usage({1}) == {}


def test_the_hub_tells_of_itself(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub, Agent(hub.file, hello("abcdefgh")):
        status = hub.json("hub")
        assert (status["version"], status["pid"], status["node"]) == (__version__, os.getpid(), platform.node())
        assert (status["port"], status["agents"], status["sessions"]) == (hub.file.port, 1, 1)
        assert wait_for("its memory", lambda: hub.json("hub")["rss"] > 20)
        assert status["free"] > 0
