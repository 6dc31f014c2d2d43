"""What the instruments saw becomes calls, groups and messages: the room's one door.

All methods run on the training thread. The recorder counts steps and backward calls, ties losses to batches, and works
calls off when there are enough of them, when they are old, or when somebody is about to look.
"""

from __future__ import annotations

import weakref
from collections import deque
from itertools import groupby
from threading import get_ident
from time import perf_counter_ns, time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onthefly.capture.batches import Batch, LoaderRecord, RecentBatches
from onthefly.capture.group import CHANGED, Call, Group, Worked, intact, work
from onthefly.capture.probation import Probation
from onthefly.capture.quiet import intercepted, undisturbed
from onthefly.capture.reading import Reading, Unreadable
from onthefly.capture.steps import StepTable
from onthefly.capture.tail import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from onthefly.core.meter import Meter
    from onthefly.protocol import Metrics, Records

BLOCK_CALLS = 64
BLOCK_NS = 50_000_000
BLOCK_BYTES = 64 * 1024
"""A tensor larger than this is reduced at once instead of being kept."""


_modes: Any = torch._C._len_torch_dispatch_stack  # pyright: ignore[reportPrivateUsage]


class Recorder:
    """Turns what happens in the script into records, and hands them on in blocks."""

    def __init__(
        self, emit: Callable[[Records | Metrics], None], notice: Callable[[str, str], None], meter: Meter, run: str
    ) -> None:
        """``emit`` takes messages without blocking; ``notice(text, remedy)`` tells the user something, once."""
        self.run = run
        self.step = 0
        self.epoch = 0
        self.backwards = 0
        self._emit = emit
        self._notice = notice
        self._meter = meter
        self._thread = 0
        self._loaders: weakref.WeakKeyDictionary[Any, LoaderRecord] = weakref.WeakKeyDictionary()
        self._batches = RecentBatches()
        self._calls: list[Call] = []
        self._oldest = 0
        self._groups: deque[Group] = deque()
        self._probation = Probation()
        self._steps = StepTable()
        self._counted: weakref.ref[Optimizer] | None = None
        self._step_ended = perf_counter_ns()
        self._samples = 0
        """Rows seen since the last step."""

    def is_training_thread(self) -> bool:
        """Whether this is the thread whose calls are recorded: the first that made one."""
        thread = get_ident()
        if thread == self._thread:
            return True
        if self._thread:
            self._notice("a second thread trains in this process: its steps and losses are not recorded", "")
            return False
        self._thread = thread
        return True

    def open_source(self, loader: Any) -> LoaderRecord:
        """Where an iterator of this loader delivers to."""
        record = self._loaders.get(loader)
        if record is None:
            record = LoaderRecord(len(self._loaders), loader, self._batches.add, self.work_off)
            self._loaders[loader] = record
        else:
            record.renew(loader)
        return record

    def observe(self, tensors: Any, gradients: Any) -> None:
        """A backward call is about to run.

        On the hot path, so it is written flat: in a real loop each call of a Python function costs about 1 us here.
        """
        if get_ident() != self._thread and not self.is_training_thread():
            return
        start = perf_counter_ns()
        if gradients is None and type(tensors) is Tensor and not tensors.dim() and not _modes():
            root, reading = tensors.detach(), read(tensors)
        else:
            root, reading = _find(tensors, gradients)
        worked, kept = None, -1
        batch = self._batches.plain(reading.tensors[1]) if type(reading) is Reading else None
        if batch is not None:
            loader, self.epoch = batch.loader, batch.epoch
        else:
            reading, batch, loader = self._look_closer(reading)
        if type(reading) is Reading:
            source, target = reading.tensors[:2]
            self._samples += target.shape[0]
            if not self._probation.passed or source.numel() * source.element_size() > BLOCK_BYTES:
                worked = self._work_at_once(reading)
            else:
                kept = root._version + source._version + target._version  # pyright: ignore[reportOptionalMemberAccess]
        if not self._calls:
            self._oldest = start
        self._calls.append(
            Call(self.backwards, self.step, self.epoch, time(), root, reading, batch, loader, kept, worked)
        )
        self.backwards += 1
        if len(self._calls) > BLOCK_CALLS:  # no optimizer steps here (hand-written SGD): nothing else would
            self.work_off()
        self._meter.ours_ns += perf_counter_ns() - start

    def stepped(self, optimizer: Optimizer) -> None:
        """An outermost optimizer step ended. Steps of the first optimizer that stepped are the ones that count."""
        start = perf_counter_ns()
        counted = self._counted() if self._counted is not None else None
        if counted is None:
            self._counted, counted = weakref.ref(optimizer), optimizer
        if counted is optimizer:
            meter = self._meter
            self._steps.add(self.step, self.epoch, start, start - self._step_ended, meter.waiting_ns, meter.ours_ns,
                            self._samples, optimizer.param_groups)  # fmt: skip
            meter.waiting_ns = meter.ours_ns = self._samples = 0
            self._step_ended = start
            self.step += 1
        if len(self._calls) >= BLOCK_CALLS or (self._calls and start - self._oldest >= BLOCK_NS):
            self.work_off()
        self._meter.ours_ns += perf_counter_ns() - start

    def held(self) -> None:
        """The script was held at the gate: that time belongs to no step."""
        self._step_ended = perf_counter_ns()

    def work_off(self, *, wait: bool = False) -> None:
        """Send what there is; with ``wait`` also what is still under way from an accelerator."""
        if self._calls and not intercepted():
            calls, self._calls = self._calls, []
            if not intact(calls):
                self._probation.fail()
                calls = [call if intact([call]) else call.refused(CHANGED) for call in calls]
            with undisturbed():
                self._groups.extend(Group(list(group)) for _, group in groupby(calls, Call.kind))
        while self._groups and (wait or self._groups[0].ready()):
            self._finish(self._groups.popleft())
        if len(self._steps):
            self._emit(self._steps.take(self.run))

    def _work_at_once(self, reading: Reading) -> Worked:
        with undisturbed():
            self._probation.watch(reading)
            return work([reading])

    def _finish(self, group: Group) -> None:
        verdicts = group.verdicts()
        if not group.suspects(verdicts):
            self._emit(group.records(self.run, verdicts))
            return
        # Memory shared with NumPy changes behind the version counter; what was read then is not that step's.
        self._probation.fail()
        for call, verdict in zip(group.calls, verdicts):
            with undisturbed():
                alone = Group([call if verdict.reproduced else call.refused(CHANGED)])
            self._emit(alone.records(self.run, alone.verdicts()))

    def _look_closer(
        self, reading: Reading | Unreadable
    ) -> tuple[Reading | Unreadable, Batch | None, LoaderRecord | None]:
        """For a loss that is not plainly the newest batch's: what it belongs to, and what to tell the user."""
        newest = self._batches.newest
        batch, loader = None, newest.loader if newest is not None else None
        if not isinstance(reading, Unreadable):
            batch, loader, epoch, doubt, refusal = self._batches.tie(reading.target)
            self.epoch = epoch if epoch >= 0 else self.epoch
            if refusal:
                reading = Unreadable(refusal)
            elif doubt:
                self._notice(f"samples have no index: {doubt}", "")
        elif newest is not None:
            self.epoch = newest.epoch
        if isinstance(reading, Unreadable):
            self._notice(f"per-sample losses are not captured: {reading.reason}", "")
        return reading, batch, loader


def _find(tensors: Any, gradients: Any) -> tuple[Tensor | None, Reading | Unreadable]:
    """The number that is back-propagated, detached, and what can be read below it."""
    if type(tensors) is not Tensor:
        if isinstance(tensors, (tuple, list)) and len(tensors) == 1:  # pyright: ignore[reportUnknownArgumentType]
            tensors = tensors[0]  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(tensors, Tensor):
            return None, Unreadable("backward was called on several tensors")
    if tensors.numel() != 1:
        return None, Unreadable("the loss is not a single number")
    root = tensors.detach()
    if root.dim():
        root = root.reshape(())
    if gradients is not None and gradients not in ((None,), [None]):
        return root, Unreadable("a gradient was passed to backward, so the loss is not the number that was propagated")
    if intercepted():
        return None, Unreadable("a dispatch mode was active (fake tensors, or a counter of operations)")
    return root, read(tensors)
