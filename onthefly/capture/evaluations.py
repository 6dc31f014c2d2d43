"""Losses that a script computes while gradients are off: its own validation.

They have no graph, so the functions themselves are watched, and only while gradients are off. What is a validation is
told by the data: a loss of a batch that is trained on as well (computed beside the training step, to be logged) is
none. So a loss waits until the next batch comes, and is dropped if a backward call of its own batch comes first.
"""

from __future__ import annotations

import math
from array import array
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onthefly.capture.batches import RecentBatches, Tie, name_samples
from onthefly.capture.blocks import Blocks
from onthefly.capture.called import EVALUATED
from onthefly.capture.clock import wall
from onthefly.capture.expression import Term
from onthefly.capture.graph import Unreadable
from onthefly.capture.group import Call
from onthefly.capture.layout import Layout
from onthefly.capture.packing import Packer
from onthefly.capture.quiet import autocast_as_now, capturing, intercepted, profiling, tracing, undisturbed
from onthefly.capture.reading import MEAN, NONE, Read, Reader, reduced
from onthefly.capture.shares import joined, placed, share_of
from onthefly.capture.transfer import Transfer
from onthefly.core import test_label
from onthefly.protocol import PHASES, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from onthefly.capture.loaders import LoaderRecord
    from onthefly.core.meter import Meter
    from onthefly.protocol import Records

_VALID, _TEST = PHASES.index("valid"), PHASES.index("test")

MAX_CALLS, SEND_NS = 128, 200_000_000
"""What may wait, and for how long, where no step comes by to send it."""


SEVERAL = "several loss functions were computed of one batch, and how they are put together is not seen"

REFUSED: dict[str, Any] = {
    "loss": math.nan, "reason": SEVERAL, "rows": 0, "values": None, "reduced": 0.0, "valid": 0, "samples": None,
    "weight": 1, "keys": None,
}  # fmt: skip
"""What becomes of a call that is not what it seemed."""


class Place(NamedTuple):
    """Where training stands."""

    step: int
    epoch: int
    backwards: int


class _Pass:
    """One time through a loader without gradients, so far."""

    def __init__(self, loader: LoaderRecord | None) -> None:
        self._loader = loader
        self.rows = 0
        self.sums: list[Tensor] = []
        """Of each call: the losses of its samples added up, the right ones, and those that count; float64."""

    def running(self) -> bool:
        """More of it may come."""
        return self._loader is not None and self._loader.running

    def send(self) -> Transfer:
        """All of them, on the way to the host."""
        return Transfer({"sums": torch.stack(self.sums).sum(0)})


class Evaluations:
    """Validation of one script. Runs on the thread that trains."""

    def __init__(
        self, recent: RecentBatches, emit: Callable[[Records | Metrics], None], notice: Callable[[str, str], None],
        meter: Meter, where: Callable[[], Place | None], full: Callable[[], None],
    ) -> None:  # fmt: skip
        """``where()``: where training stands; None if this thread is not the one. ``full()``: much waits to be sent."""
        self._recent = recent
        self._meter = meter
        self._where = where
        self._full = full
        self._sent = perf_counter_ns()
        self._emit = emit
        self._notice = notice
        self._blocks = Blocks(emit)
        self._packer = Packer(notice)
        self.pending = False
        """Whether :meth:`trained` has something to do."""
        self._waiting: tuple[Any, Place, Call, Tensor | None, Tensor | None, Any] | None = None
        """The batch of the newest call, where training stood, the call, its sums, scores and targets."""
        self._trained: Any = None
        """The batch that was back-propagated last."""
        self._passes: dict[tuple[str, str], _Pass] = {}
        """By phase and loader, since the last backward call."""
        self._place = Place(0, 0, 0)
        """Where training stood in these passes."""
        self._order: list[tuple[str, str]] = []
        """Phases and loaders, as they were first evaluated."""
        self._metrics: list[tuple[Place, int, tuple[str, str], int, Transfer]] = []
        """On their way to the host: where training stood, when, which loader, and how many rows."""

    def trained(self, drawn: Any) -> None:
        """A backward call of that batch is about to be recorded."""
        self._trained = drawn
        if self._waiting is not None and self._waiting[0] is drawn:
            self._waiting = None
        self._finish()

    def note(self, function: Callable[..., Any], result: Tensor, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """``result`` is what a loss function gave, without a graph."""
        newest, start = self._recent.newest, perf_counter_ns()
        if torch.is_grad_enabled() or (newest is not None and self._recent.tied is newest):
            return  # nothing needs a gradient; or it is of the batch that was back-propagated last
        place = self._where()
        if place is None or result.is_meta or tracing() or intercepted() or profiling() or capturing(result):
            return
        autocast = autocast_as_now(result.device.type)
        with undisturbed():
            try:
                found = self._measured(place, autocast, function, result, args, named)
            except Unreadable as error:
                self._notice(f"validation losses are not captured: {error}", "")
                return
        if found is None:
            return
        drawn, call = found[:2]
        if newest is not None and drawn is self._trained:
            return
        if self._waiting is not None:
            if self._waiting[0] is drawn and newest is not None:
                self._again(call)
                return
            self._commit()
        self._waiting, self.pending = (drawn, place, call, *found[2:]), True
        self._meter.ours_ns += perf_counter_ns() - start
        if len(self._blocks.calls) >= MAX_CALLS or start - self._sent >= SEND_NS:
            self._sent = start
            self._full()

    def _again(self, other: Call) -> None:
        """Another loss of the same batch: how the script puts them together leaves no trace."""
        drawn, place, call, *_ = self._waiting or (None, self._place, other)
        values, others = call.values, other.values
        # Equal on the host: computed twice. An accelerator is not asked, which would wait for it.
        twice = (
            isinstance(values, Tensor) and isinstance(others, Tensor)
            and values.is_cpu and torch.equal(values, others)
        )  # fmt: skip
        if values is not None and not twice:
            self._notice(f"validation losses are not captured: {SEVERAL}", "")
            self._waiting = drawn, place, call._replace(**REFUSED), None, None, None

    def send(self, run: str, *, wait: bool) -> None:
        """Send what there is; with ``wait`` all, and passes whose loader is at its end are over."""
        if wait and not any(passed.running() for passed in self._passes.values()):
            self._finish()
        self._blocks.send(run, wait=wait)
        while self._metrics and (wait or self._metrics[0][4].ready()):
            place, time, loader, rows, transfer = self._metrics.pop(0)
            loss, hits, counted = transfer.take()["sums"].tolist()
            phase = loader[0]
            number = [other for other in self._order if other[0] == phase].index(loader)
            values = {f"{phase}/loss": loss / rows}
            if counted:
                values[f"{phase}/accuracy"] = hits / counted
            self._emit(Metrics(
                run=run,
                step=array("q", [place.step]).tobytes(),
                epoch=array("i", [place.epoch]).tobytes(),
                time=array("d", [wall(time)]).tobytes(),
                values={f"{name}/{number}" if number else name: array("d", [value]).tobytes()
                        for name, value in values.items()},
            ))  # fmt: skip

    def _finish(self) -> None:
        """Training goes on: the passes are over."""
        self.pending = False
        self._commit()
        if self._passes:
            with undisturbed():
                for loader, passed in self._passes.items():
                    self._metrics.append((self._place, perf_counter_ns(), loader, passed.rows, passed.send()))
            self._passes = {}

    def _commit(self) -> None:
        """The newest call was of a validation."""
        if self._waiting is None:
            return
        (_, place, call, sums, scores, target), self._waiting = self._waiting, None
        if scores is not None and target.shape == (call.rows,):
            with undisturbed():
                call = call._replace(slot=self._blocks.margins.note(scores, target))
        self._blocks.calls.append(call)
        self._place = place
        if sums is None:
            return
        name = PHASES[call.phase], call.loader.name if call.loader is not None else ""
        if name not in self._order:
            self._order.append(name)
        passed = self._passes.setdefault(name, _Pass(call.loader))
        passed.rows += call.rows
        passed.sums.append(sums)

    def _measured(
        self,
        place: Place,
        autocast: Callable[[], AbstractContextManager[Any]],
        function: Callable[..., Any],
        result: Tensor,
        args: tuple[Any, ...],
        named: dict[str, Any],
    ) -> tuple[Any, Call, Tensor, Tensor | None, Any] | None:
        """The batch, the call, its sums (see :class:`_Pass`), and its scores and targets; None if it is no loss."""
        called = EVALUATED[function.__name__](function, *args, **named)
        if called is None:
            return None
        reduction, target = called.reduction, called.operands[0]
        with autocast():
            elements = called.each()
            value = called.again() if called.again is not None else reduced(elements, reduction or MEAN)
        divisor = elements.numel() if called.divisor is None else called.divisor
        read = Read(
            target, elements, reduction or MEAN, value, divisor if reduction in (MEAN, NONE) else 1, called.valid
        )
        tie, layout = self._tied(target, elements)
        values, valid, weight, divisor, _ = joined([[share_of(Term(Reader(), None, read), layout)]])
        host, number = result.is_cpu, value if reduction == NONE else result
        packed, keys = None, None
        if tie.indices is not None and tie.identity != "key":
            packed = self._packer.pack(tie.loader, tie.indices, layout.rows)
        elif tie.indices is not None:
            keys = tie.indices
        scores = called.scores() if called.scores is not None else None
        call = Call(
            place.backwards, place.step, tie.epoch if tie.epoch >= 0 else place.epoch, perf_counter_ns(), tie.loader,
            number.item() if host else number.reshape(()), "", layout.rows, values, value.item() if host else value,
            divisor, valid, packed, -1, weight, 0.0, None, tie.identity, keys,
            _TEST if test_label.running() else _VALID,
        )  # fmt: skip
        return tie.drawn, call, _sums(values, scores, target, called.valid), scores, target

    def _tied(self, target: Any, elements: Tensor) -> tuple[Tie, Layout]:
        """Which samples the elements are of, and how they lie."""
        lies = self._recent.find(target) if isinstance(target, Tensor) else None
        if lies is not None:
            lies = placed(lies, target.shape, elements.shape)
        if lies is not None:
            return name_samples(lies), lies.layout
        if not elements.dim() or not elements.numel():
            raise Unreadable("the loss is of a single sample without a batch axis, or of none")
        rows = elements.shape[0]
        return self._recent.computed(rows), Layout(rows, elements.numel() // rows)


def _sums(values: Tensor, scores: Tensor | None, target: Any, valid: Tensor | None) -> Tensor:
    """[3]: the losses added up; and where targets are classes, how many are right, and how many count."""
    total = values.double().sum()
    if scores is None:
        return torch.stack([total, total.new_zeros(()), total.new_zeros(())])
    right = scores.argmax(1).eq(target)
    counted = torch.ones_like(right) if valid is None else valid
    return torch.stack([total, (right & counted).sum().double(), counted.sum().double()])
