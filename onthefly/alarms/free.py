"""The watchdogs that cost nothing but arithmetic: fed with the messages that go to the hub anyway.

On the training thread, once for each block of records or of steps. Memory is read once a block: 4 us for the process,
and for an accelerator what torch's allocator counts, which waits for nothing.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import torch

from onthefly.alarms import memory, nonfinite, spikes, stalls
from onthefly.alarms.table import BY_NAME, ROWS
from onthefly.core.newest import losses
from onthefly.errors import UsageError
from onthefly.protocol import Records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onthefly.alarms.finding import Finding
    from onthefly.alarms.memory import MemoryGrowth
    from onthefly.protocol import Metrics

FREE = tuple(row.name for row in ROWS if row.cost == "free")


def default() -> dict[str, dict[str, Any]]:
    """The free watchdogs that are on unless somebody says otherwise, without parameters of their own."""
    return {row.name: {} for row in ROWS if row.on and row.cost == "free"}


class FreeWatchdogs:
    """Those that were chosen, for one training."""

    def __init__(self, chosen: Mapping[str, Mapping[str, Any]]) -> None:
        """``chosen``: parameters by name; :class:`~onthefly.errors.UsageError` where one is not known or not free."""
        made: dict[str, dict[str, Any]] = {}
        for name, parameters in chosen.items():
            if name not in FREE:
                raise UsageError(f"{name!r} is no watchdog that is free", f"known: {', '.join(FREE)}")
            made[name] = BY_NAME[name].settings(parameters)
        self._nonfinite = nonfinite.NonfiniteLoss() if nonfinite.LOSS in made else None
        self._spike = spikes.LossSpike(**made[spikes.LOSS]) if spikes.LOSS in made else None
        self._stall = stalls.LoaderStall(**made[stalls.STALL]) if stalls.STALL in made else None
        self._memory: dict[str, MemoryGrowth] | None = {} if memory.NAME in made else None
        self._growing = made.get(memory.NAME, {})

    def take(self, message: Records | Metrics) -> list[Finding]:
        """What this message shows, in order of steps as far as one watchdog goes."""
        found = self._of_records(message) if isinstance(message, Records) else self._of_metrics(message)
        return [finding for finding in found if finding is not None]

    def _of_records(self, records: Records) -> list[Finding | None]:
        found: list[Finding | None] = []
        if self._nonfinite is not None:
            found.append(self._nonfinite.take(records))
        if self._spike is not None:
            found += [self._spike.take(loss.step, loss.value) for loss in losses(records)]
        return found

    def _of_metrics(self, metrics: Metrics) -> list[Finding | None]:
        if metrics.complete or "step_ms" not in metrics.values:
            return []  # logged by the script, or of validation
        found: list[Finding | None] = []
        steps = array("q", metrics.step)
        if self._stall is not None:
            columns = (array("d", metrics.values[name]) for name in ("data_ms", "step_ms"))
            found += [self._stall.take(*row) for row in zip(steps, array("i", metrics.epoch), *columns)]
        if self._memory is not None and steps:
            for of, used in _memories().items():
                watch = self._memory.get(of)
                if watch is None:
                    watch = self._memory[of] = memory.MemoryGrowth(of, **self._growing)
                found.append(watch.take(steps[-1], used))
        return found


def _memories() -> dict[str, int]:
    """Bytes by what they are memory of."""
    found: dict[str, int] = {}
    resident = memory.resident()
    if resident is not None:
        found["resident memory"] = resident
    if torch.cuda.is_initialized():
        device = torch.cuda.current_device()
        found[f"memory of cuda:{device}"] = torch.cuda.memory_allocated(device)
    return found
