"""What the instruments saw becomes calls, blocks and messages: the room's one door.

All methods run on the training thread. The recorder counts steps and backward calls, ties losses to batches, has each
call read at its own time, and sends blocks of them when they are full or old, or when somebody is about to look.
"""

from __future__ import annotations

import weakref
from threading import get_ident
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import has_torch_function

from onthefly.capture.accuracy import Accuracies
from onthefly.capture.batches import MADE, RecentBatches, in_order
from onthefly.capture.blocks import Blocks
from onthefly.capture.borrowed import Lender
from onthefly.capture.evaluations import Evaluations, Place
from onthefly.capture.graph import Unreadable, mark_scaled
from onthefly.capture.group import Call
from onthefly.capture.loaders import LoaderRecord, Loaders
from onthefly.capture.logged import LoggedValues
from onthefly.capture.noted import OpenLosses
from onthefly.capture.packing import Packer
from onthefly.capture.persample import PerSample, Samples, known_of, numbers_of, read_plainly, reason_of
from onthefly.capture.quiet import (
    CAPTURED,
    REDISPATCHES,
    DisableTorchFunction,
    Overridden,
    autocasting,
    capturing,
    dispatch_modes,
    function_modes,
    intercepted,
    profiling,
    undisturbed,
)  # fmt: skip
from onthefly.capture.reading import READERS, Reader
from onthefly.capture.steps import metrics, rates
from onthefly.core.threads import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch.optim import Optimizer

    from onthefly.capture.plans import Plan
    from onthefly.core.meter import Meter
    from onthefly.protocol import Metrics, Records

SEND_NS, EPOCH_NS = 200_000_000, 20_000_000
"""How long calls and steps may wait before they are sent, and at the end of an epoch: a dashboard looks live, and few
steps pay for it (some 400 us with cold caches)."""

MAX_CALLS, MAX_ROWS = 128, 65536
"""What may wait at most: 256 KiB of values, 512 KiB of indices."""

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]
graph_task, grad_enabled, set_grad_enabled = _c._current_graph_task_id, torch.is_grad_enabled, _c._set_grad_enabled

NO_BATCH = (None, -1, None, (), {})
"""Stands for the newest batch before there is one."""


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
        self._direct: dict[type, Reader] = {}
        """Readers of losses that are back-propagated as they are, by the type of their node."""
        self._calm = False
        """The script's modes are off already."""
        self._recent = RecentBatches()
        self._loaders = Loaders(self._recent, self._epoch_ended)
        self.loaders = self._loaders.living
        """Gives name and object of the script's loaders, the one that is trained on first."""
        self._evaluations = Evaluations(self._recent, emit, notice, meter, self._where, self.work_off)
        self.evaluated = self._evaluations.note
        """Told of losses that were computed with gradients off."""
        noted = OpenLosses(self.evaluated)
        self._per_sample, self.lender = PerSample(self._recent, noted), Lender(self._recent, noted)
        self._plans = self._per_sample.plans.known
        self.computed = noted.note
        """Told of losses whose graph, if they have one, will not keep their operands."""
        self.scaled = mark_scaled
        """Told of what gradient scalers made of losses."""
        self._accuracies, self._logged = Accuracies(emit), LoggedValues(emit, notice)
        self._accuracy_due = 0
        self._blocks, self._packer = Blocks(emit), Packer(notice)
        self._sent = perf_counter_ns()
        self._steps: list[tuple[Any, ...]] = []
        """Each with the fields of :class:`StepRow`."""
        self._counted: weakref.ref[Optimizer] | None = None
        self.began: Callable[[], None] = lambda: None
        """Called once, before the first backward call."""
        self._step_ended = perf_counter_ns()
        self._samples = 0
        """Rows seen since the last step."""

    def is_training_thread(self) -> bool:
        """Whether this is the thread whose calls are recorded: the first that made one, while it runs."""
        thread = get_ident()
        if thread == self._thread:
            return True
        if self._thread and runs(self._thread):
            self._notice("a second thread trains in this process: its steps and losses are not recorded", "")
            return False
        self._thread = thread
        self.began()
        return True

    def is_busy_elsewhere(self) -> bool:
        """Whether another thread trains, which these records belong to."""
        return self._thread not in (0, get_ident()) and runs(self._thread)

    def open_source(self, loader: Any) -> LoaderRecord:
        """Where an iterator of this loader delivers to."""
        return self._loaders.record(loader)

    def beware_of_hooks(self) -> None:
        """From now on saved tensors may have hooks, which must not be run once more than the script does."""
        self._per_sample.hooked = True
        self._direct.clear()
        self._plans.clear()

    def observe(self, tensors: Any, grad_tensors: Any = None, *rest: Any, **named: Any) -> None:
        """A backward call is about to run."""
        # -1 outside of the engine: checkpointing and custom functions call backward from within a backward.
        if graph_task() != -1 or (get_ident() != self._thread and not self.is_training_thread()):
            return
        start = perf_counter_ns()
        if not self._calm and (
            type(tensors) is not Tensor or grad_tensors is not None
            or dispatch_modes() or function_modes() or autocasting() or profiling()
        ):  # fmt: skip
            self._observe_closely(start, tensors, grad_tensors)
            return
        node = tensors.grad_fn
        plans = self._plans.get(type(node))
        try:
            if plans is None or not self._add_planned(start, plans, node, tensors):
                self._add_read(start, node, tensors)
        except Overridden:
            self._observe_closely(start, tensors, None)
            return
        except (Unreadable, RuntimeError) as error:
            with undisturbed():
                self._add_unread(start, (tensors,), reason_of(error))
        self._observed(start)

    def stepped(self, optimizer: Optimizer) -> None:
        """An outermost optimizer step ended. Steps of the first optimizer that stepped are the ones that count."""
        start = perf_counter_ns()
        counted = self._counted
        if (counted is not None and counted() is optimizer) or self._counts(optimizer):
            meter = self._meter
            groups = optimizer.param_groups
            lr = groups[0].get("lr") if len(groups) == 1 else None
            self._steps.append((
                self.step, self.epoch, start, start - self._step_ended, meter.waiting_ns, meter.ours_ns, self._samples,
                lr if type(lr) is float else rates(groups),
            ))  # fmt: skip
            meter.waiting_ns = meter.ours_ns = self._samples = 0
            self._step_ended = start
            self.step += 1
        if start - self._sent >= SEND_NS or len(self._blocks.calls) >= MAX_CALLS:
            self.work_off()
        self._meter.ours_ns += perf_counter_ns() - start

    def log(self, values: Mapping[str, Any], step: int | None) -> None:
        """Record values that the script logs, by default at the step that comes next."""
        self._logged.note(values, self.step if step is None else step, self.epoch)
        # Nothing else may come by, in a validation. Values may come from any thread; records belong to one.
        if perf_counter_ns() - self._sent >= SEND_NS and not self.is_busy_elsewhere():
            self.work_off()

    def overhear(self, values: Mapping[str, Any], step: int) -> None:
        """Record values that the script logs elsewhere, unless what it measures would show that we look at them."""
        if intercepted() or profiling():
            self._notice("logged values are not recorded: a profiler or dispatch mode was on", "")
        else:
            self.log(values, step)

    def _where(self) -> Place | None:
        """Where training stands, on the thread that trains; within a backward call nowhere."""
        ours = graph_task() == -1 and self._thread in (0, get_ident())
        return Place(self.step, self.epoch, self.backwards) if ours else None

    def copied(self, name: str, source: Tensor, result: Tensor, args: tuple[Any, ...]) -> None:
        """``result`` was made of ``source`` by that function or method, without mixing its samples."""
        if self._thread in (0, get_ident()):
            self._recent.copied(source, result, MADE.get(name, in_order), args)

    def count_anew(self) -> None:
        """Training rests, or begins with other optimizers: the first that steps is the one whose steps count now."""
        self._counted = None

    def rename(self, run: str) -> None:
        """What is recorded from now on belongs to that run."""
        self.work_off(wait=True)
        self.run = run

    def held(self) -> None:
        """The script was held at the gate: that time belongs to no step."""
        self._step_ended = perf_counter_ns()

    def work_off(self, *, wait: bool = False) -> None:
        """Send what there is; with ``wait`` also what is still under way from an accelerator."""
        with DisableTorchFunction():  # the script may have a mode on
            self._blocks.send(self.run, wait=wait)
            if self._steps:
                steps, self._steps = self._steps, []
                self._emit(metrics(self.run, steps))
            if wait or not (intercepted() or profiling()):  # they read tensors, which a profiler counts
                self._evaluations.send(self.run, wait=wait)
                self._accuracies.send(self.run, wait=wait)
                self._logged.send(self.run, wait=wait)
            self._recent.let_go()
        self._sent = perf_counter_ns()

    def _epoch_ended(self) -> None:
        """A loader is through, and nothing more may come for long: but where epochs are short, the next one comes."""
        if perf_counter_ns() - self._sent >= EPOCH_NS:
            self.work_off()
        else:
            self._recent.let_go()

    def _observe_closely(self, start: int, tensors: Any, gradients: Any) -> None:
        """A call that is not plainly one number in a quiet place."""
        given: tuple[Any, ...] = tuple(tensors) if isinstance(tensors, (tuple, list)) else (tensors,)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        if REDISPATCHES and has_torch_function(given):
            return
        single = all(isinstance(root, Tensor) and root.numel() == 1 for root in given)
        why = ""
        if not single:
            why = "the loss is not a single number"
        elif gradients is not None and gradients not in ((None,), [None]):
            why = "a gradient was passed to backward, so the loss is not the number that was propagated"
        if intercepted() or profiling():
            self._add_unread(start, (), "a profiler was on, which would count our operators" if profiling()
                             else "a dispatch mode was active (fake tensors, or a counter of operations)")  # fmt: skip
        else:
            with undisturbed():
                if why:
                    self._add_unread(start, given if single else (), why)
                elif len(given) == 1:
                    self._calm = True
                    try:
                        self.observe(given[0])
                    finally:
                        self._calm = False
                    return
                else:
                    self._observe_several(start, given)
        self._observed(start)

    def _observe_several(self, start: int, roots: tuple[Tensor, ...]) -> None:
        """Numbers that are back-propagated together: that is their sum."""
        try:
            if any(capturing(root) for root in roots):
                raise Unreadable(CAPTURED)
            self._add_samples(start, roots, self._per_sample.measure(roots))
        except (Unreadable, RuntimeError) as error:
            self._add_unread(start, roots, reason_of(error))

    def _observed(self, start: int) -> None:
        """A backward call is recorded: count it, and send what waits where no optimizer steps (hand-written SGD)."""
        self.backwards += 1
        if len(self._blocks.calls) > MAX_CALLS or start - self._sent >= 2 * SEND_NS or self._blocks.rows > MAX_ROWS:
            self.work_off()
        self._meter.ours_ns += perf_counter_ns() - start

    def _counts(self, optimizer: Optimizer) -> bool:
        """Whether this optimizer's steps count, when it is not known to be the one: the first, or its successor."""
        if self._counted is None or self._counted() is None:
            self._counted = weakref.ref(optimizer)
            return True
        return False

    def _add_planned(self, start: int, plans: list[Plan], node: Any, root: Tensor) -> bool:
        """Record a loss of the newest batch that is of a known form; False if it is not. Runs no operator."""
        recent = self._recent
        newest: Any = recent.newest or NO_BATCH
        loader, epoch, samples, held, _ = newest
        if not held or loader.doubt or type(samples) is not list:
            return False
        rows = len(samples)
        for plan in plans:
            if plan.rows == rows:
                slot = plan.take(root, node)
                if slot >= 0:
                    break
        else:
            return False
        recent.tied, self.epoch = newest, epoch
        if self._evaluations.pending:
            self._evaluations.trained(samples)
        blocks, loss = self._blocks, root.item()
        blocks.calls.append((
            self.backwards, self.step, epoch, start, loader, loss, "", rows, plan, slot, 0, 0,
            self._packer.pack(loader, samples, rows),
        ))  # fmt: skip
        self._samples += rows
        blocks.rows += rows
        if start >= self._accuracy_due and plan.classifies:
            self._accuracy_due = self._accuracies.measure(plan.hits(node), self.step, self.epoch, start)
        return True

    def _add_read(self, start: int, node: Any, root: Tensor) -> None:
        """Record a loss that has no plan."""
        enabled = grad_enabled()
        try:
            set_grad_enabled(False)
            if not root.is_cpu and capturing(root):
                raise Unreadable(CAPTURED)
            reader = self._direct.get(type(node))
            if reader is None or not self._add_plain(start, reader, node, root):
                self._add_samples(start, (root,), self._per_sample.measure((root,)))
        finally:
            set_grad_enabled(enabled)

    def _add_plain(self, start: int, reader: Reader, node: Any, root: Tensor) -> bool:
        """Record a loss whose root is the loss function itself, of the newest batch; False if it is not that plain."""
        recent = self._recent
        newest: Any = recent.newest or NO_BATCH
        read = read_plainly(reader, node, newest)
        if read is None:
            return False
        target, rows, elements, value, divisor, counts = read
        loader, epoch, samples, _, _ = newest
        recent.tied, self.epoch = newest, epoch
        if self._evaluations.pending:
            self._evaluations.trained(samples)
        packed, host = self._packer.pack(loader, samples, rows), root.is_cpu
        self._blocks.calls.append((
            self.backwards, self.step, epoch, start, loader, root.item() if host else root.detach(), "", rows, elements,
            value.item() if host else value, divisor, 1 if counts is None else counts, packed,
            self._blocks.margins.note(reader.scores(node), target) if reader.classifies else -1,
        ))  # fmt: skip
        self._samples += rows
        self._blocks.rows += rows
        if start >= self._accuracy_due and reader.classifies:
            self._accuracy_due = self._accuracies.measure(reader.hits(node), self.step, self.epoch, start)
        return True

    def _add_samples(self, start: int, roots: tuple[Tensor, ...], read: Samples) -> None:
        """Record a loss that was taken apart."""
        (loader, epoch, indices, doubt, identity, drawn), found = read.tie, read.found
        values, valid, weight, divisor, components = read.joined
        rows, root = values.shape[0], roots[0]
        if len(found.terms) == 1 and found.terms[0].node is root.grad_fn and not self._per_sample.hooked:
            reader = READERS.get(found.terms[0].node.name())
            if reader is not None:  # the next one is found faster
                self._direct[type(root.grad_fn)] = reader
        if loader is not None:
            loader.used(epoch)
        self._evaluations.trained(drawn)
        self.epoch = epoch if epoch >= 0 else self.epoch
        packed = None
        if indices is not None and identity != "key":
            packed = self._packer.pack(loader, indices, rows)
        if doubt:
            self._notice(f"samples have no index: {doubt}", "")
        loss, value, part = numbers_of(roots, read)
        self._blocks.calls.append(Call(
            self.backwards, self.step, self.epoch, start, loader, loss, "", rows, values, value, divisor, valid, packed,
            self._blocks.slot_of(found.terms, rows), weight, part, components or None, identity,
            indices if identity == "key" else None,
        ))  # fmt: skip
        self._samples += rows
        self._blocks.rows += rows
        for term in found.terms:
            if start >= self._accuracy_due and term.reader.classifies:
                self._accuracy_due = self._accuracies.measure(term.reader.hits(term.node), self.step, self.epoch, start)

    def _add_unread(self, start: int, roots: tuple[Tensor, ...], why: str) -> None:
        """Record a call without per-sample values, and tell the user why."""
        newest = self._recent.newest or NO_BATCH
        if newest[0] is not None:
            self.epoch = newest[1]
        self._notice(f"per-sample losses are not captured: {why}", "")
        loss = known_of(roots)
        self._blocks.calls.append(Call(self.backwards, self.step, self.epoch, start, newest[0], loss, why))
