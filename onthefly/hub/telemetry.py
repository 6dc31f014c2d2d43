"""What the machine spends on a script: processor, memory and GPU of its processes, read from outside by their pid.

It costs the script nothing. A process is counted with its descendants, so that loader workers are in it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pynvml

from onthefly.hub.keeper import Frame
from onthefly.hub.store import Source
from onthefly.protocol import Metrics

if TYPE_CHECKING:
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession, Registry

log = logging.getLogger("onthefly.hub")

SAMPLE_SECONDS = 2.0
MEGABYTE = 1024 * 1024

HUB_PID = 0
"""The writer of these records, where an agent's stand under its pid."""

Usage = dict[str, float]
"""``cpu`` (percent of one core), ``rss`` (MB, memory that processes share counted for each), and where a GPU answers
``gpu_util`` (percent, mean over the GPUs that it uses) and ``gpu_mem`` (MB)."""


class Process(NamedTuple):
    """A process that is watched."""

    live: LiveSession
    rank: int
    pid: int


class Telemetry:
    """Samples every connected process of this machine every :data:`SAMPLE_SECONDS`, and the hub itself."""

    def __init__(self, registry: Registry, keeper: Keeper) -> None:
        self._registry = registry
        self._keeper = keeper
        self._clocks: dict[int, tuple[float, float]] = {}
        """By pid: when it was looked at, and the processor seconds that it and its descendants had used."""
        self._gpus = Gpus()
        self.hub: Usage = {"cpu": 0.0, "rss": 0.0}

    async def run(self) -> None:
        """Sample for ever."""
        loop = asyncio.get_running_loop()
        while True:
            processes = self._connected()
            pids = [os.getpid(), *(process.pid for process in processes)]
            usages = await loop.run_in_executor(None, self._sample, pids)
            self.hub = usages.get(os.getpid(), self.hub)
            for process in processes:
                if process.pid in usages:
                    self._record(process, usages[process.pid])
            await asyncio.sleep(SAMPLE_SECONDS)

    def _connected(self) -> list[Process]:
        node = platform.node()
        return [
            Process(live, rank.rank, rank.pid)
            for live in self._registry.sessions.values()
            for rank in live.info.ranks
            if rank.connected and rank.node == node and rank.trains
        ]

    def _record(self, process: Process, usage: Usage) -> None:
        info, now = process.live.info, time.time()
        message = Metrics(
            run=info.run,
            step=array("q", [info.step]).tobytes(),
            epoch=array("i", [info.epoch]).tobytes(),
            time=array("d", [now]).tobytes(),
            values={name: array("d", [value]).tobytes() for name, value in usage.items()},
        )
        # Numbered by the clock: another hub may have recorded this session before.
        source = Source(process.rank, HUB_PID, int(now * 1e6))
        self._keeper.take(info.id, Frame(source, message, 0, lambda seq: None, log.error), urgent=False)

    def _sample(self, pids: list[int]) -> dict[int, Usage]:
        usages: dict[int, Usage] = {}
        for pid in pids:
            family = _family(pid)
            if family:
                usages[pid] = {**self._host(pid, family), **self._gpus.usage({process.pid for process in family})}
        self._clocks = {pid: clock for pid, clock in self._clocks.items() if pid in usages}
        return usages

    def _host(self, pid: int, family: list[psutil.Process]) -> Usage:
        seconds, resident = 0.0, 0
        for process in family:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    resident += process.memory_info().rss
                # A worker that has ended counts on in its parent's children's time.
                seconds += times.user + times.system + times.children_user + times.children_system
            except psutil.Error:
                continue  # it has ended meanwhile
        now = time.monotonic()
        then, before = self._clocks.get(pid, (now, seconds))
        self._clocks[pid] = now, seconds
        usage = {"rss": resident / MEGABYTE}
        if now > then:
            usage["cpu"] = max(0.0, seconds - before) / (now - then) * 100
        return usage


def _family(pid: int) -> list[psutil.Process]:
    """A process and its descendants; empty if it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *([] if pid == os.getpid() else process.children(recursive=True))]
    except psutil.Error:
        return []


class Gpus:
    """NVIDIA's GPUs, as far as their library answers."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        try:
            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:  # no driver, no GPU, or no right to ask it
            log.info("no GPU telemetry: %s", error)

    def usage(self, pids: set[int]) -> Usage:
        """What these processes use of all GPUs; empty where they use none."""
        memory, utilization = 0.0, []
        for handle in self._handles:
            try:
                mine = [entry for entry in pynvml.nvmlDeviceGetComputeRunningProcesses(handle) if entry.pid in pids]
                if mine:
                    memory += sum(entry.usedGpuMemory or 0 for entry in mine) / MEGABYTE
                    utilization.append(float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu))
            except pynvml.NVMLError:
                continue  # this one does not answer now
        if not utilization:
            return {}
        return {"gpu_util": sum(utilization) / len(utilization), "gpu_mem": memory}
