"""What the instruments saw becomes entries, blocks and messages: the room's one door.

All methods run on the training thread. The recorder counts steps and backward calls, ties losses to batches, and works
a block off when it is full, old, or when somebody is about to look.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any

from torch import Tensor

from onthefly.capture.batches import Batch, LoaderRecord, RecentBatches
from onthefly.capture.block import Block
from onthefly.capture.entry import Entry
from onthefly.capture.probation import Probation
from onthefly.capture.quiet import intercepted, undisturbed, without_torch_function
from onthefly.capture.steps import StepTable, learning_rates
from onthefly.capture.tail import Reading, Unreadable, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from onthefly.core.meter import Meter
    from onthefly.protocol import Metrics, Records

BLOCK_CALLS = 32
BLOCK_SECONDS = 0.05
BLOCK_BYTES = 64 * 1024
"""A tensor larger than this is reduced at once instead of being kept."""


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
        self._entries: list[Entry] = []
        self._oldest = 0.0
        self._blocks: deque[Block] = deque()
        self._probation = Probation()
        self._steps = StepTable()
        self._counted: weakref.ref[Optimizer] | None = None
        self._step_ended = perf_counter()
        self._step_rows = 0

    def is_training_thread(self) -> bool:
        """Whether this is the thread whose calls are recorded: the first that made one."""
        thread = threading.get_ident()
        if not self._thread:
            self._thread = thread
        if thread == self._thread:
            return True
        self._notice("a second thread trains in this process: its steps and losses are not recorded", "")
        return False

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
        """A backward call is about to run."""
        if not self.is_training_thread():
            return
        start = perf_counter_ns()
        newest = self._batches.newest
        if newest is not None:
            self.epoch = newest.epoch
        entry = Entry(self.backwards, self.step, self.epoch, time.time())
        self.backwards += 1
        if intercepted():
            entry.refuse("a dispatch mode was active (fake tensors or a counter of operations)")
        else:
            with without_torch_function():
                self._read(entry, _single(tensors), gradients)
        self._append(entry)
        self._meter.add_since(start)

    def stepped(self, optimizer: Optimizer) -> None:
        """An outermost optimizer step ended. Steps of the first optimizer that stepped are the ones that count."""
        counted = self._counted() if self._counted is not None else None
        if counted is None:
            self._counted, counted = weakref.ref(optimizer), optimizer
        if counted is not optimizer:
            return
        start = perf_counter_ns()
        now = perf_counter()
        seconds, self._step_ended = now - self._step_ended, now
        self._meter.add_since(start)
        ours, waiting = self._meter.take()
        values = learning_rates(optimizer)
        values["step_ms"], values["data_ms"], values["onthefly_us"] = seconds * 1e3, waiting, ours
        if self._step_rows:
            values["throughput"], self._step_rows = self._step_rows / max(seconds, 1e-9), 0
        self._steps.add(self.step, self.epoch, time.time(), values)
        self.step += 1
        if self._due(now):
            self.work_off()
        self._meter.ours_ns += perf_counter_ns() - start

    def held(self) -> None:
        """The script was held at the gate: that time belongs to no step."""
        self._step_ended = perf_counter()

    def work_off(self, *, wait: bool = False) -> None:
        """Send what there is; with ``wait`` also what is still under way from an accelerator."""
        if intercepted():
            return
        if self._entries:
            entries, self._entries = self._entries, []
            with undisturbed():
                self._blocks.append(Block(entries))
        while self._blocks and (wait or self._blocks[0].ready()):
            block = self._blocks.popleft()
            self._emit(block.records(self.run))
            if block.changed():
                self._probation.fail()
        if len(self._steps):
            self._emit(self._steps.take(self.run))

    def _append(self, entry: Entry) -> None:
        if not self._entries:
            self._oldest = perf_counter()
        self._entries.append(entry)
        if self._probation.passed and entry.reading is not None and _largest(entry) <= BLOCK_BYTES:
            entry.defer()
        elif entry.reading is not None:
            with undisturbed():
                self._probation.watch(entry)
                entry.work()
        if self._due(perf_counter()):
            self.work_off()

    def _due(self, now: float) -> bool:
        pending = len(self._entries) or len(self._steps)
        return pending >= BLOCK_CALLS or bool(self._entries and now - self._oldest >= BLOCK_SECONDS)

    def _read(self, entry: Entry, root: Tensor | None, gradients: Any) -> None:
        if root is None or root.numel() != 1:
            entry.refuse("backward was called on several numbers" if root is None else "the loss is not a single number")
            return
        entry.root = root.detach().reshape(())
        if _single(gradients) is not None:
            entry.refuse("a gradient was passed to backward, so the loss is not the number that was propagated")
            return
        reading = read(root)
        if isinstance(reading, Unreadable):
            entry.refuse(reading.reason)
            self._notice(f"per-sample losses are not captured: {reading.reason}", "")
        else:
            self._tie(entry, reading)

    def _tie(self, entry: Entry, reading: Reading) -> None:
        """Find the batch that the loss belongs to, and decide whether its rows are samples, and which."""
        target = reading.kept.target
        found = self._batches.find(target)
        batch = found[0] if found is not None else self._batches.newest
        rows = target.shape[0]
        if batch is not None:
            entry.loader = batch.loader.name
            entry.epoch = self.epoch = batch.epoch
            if rows != batch.rows():
                entry.refuse(f"the loss has {rows} rows for a batch of {batch.rows()}: they are not samples")
                self._notice(f"per-sample losses are not captured: {entry.reason}", "")
                return
        entry.reading = reading
        self._step_rows += rows
        why = _why_no_index(target, found, batch)
        if why:
            self._notice(f"samples have no index: {why}", "")
        elif found is not None:
            entry.indices = found[0].indices


def _why_no_index(target: Tensor, found: tuple[Batch, Tensor] | None, newest: Batch | None) -> str:
    if newest is None:
        return "the script uses no DataLoader"
    if found is None:
        return "the loss's target is not a tensor of a batch (it was copied or computed)"
    return found[0].rows_of(target, found[1])


def _single(tensors: Any) -> Tensor | None:
    """The one tensor of an argument that may be a tensor or a sequence of them."""
    if isinstance(tensors, (tuple, list)) and len(tensors) == 1:  # pyright: ignore[reportUnknownArgumentType]
        tensors = tensors[0]  # pyright: ignore[reportUnknownVariableType]
    return tensors if isinstance(tensors, Tensor) else None


def _largest(entry: Entry) -> int:
    return max([tensor.numel() * tensor.element_size() for tensor in entry.tensors()], default=0)
