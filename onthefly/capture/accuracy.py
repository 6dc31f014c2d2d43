"""Accuracy of single batches, where targets are classes: the metric ``accuracy``, ten times a second at most.

Each value is the share of one batch's rows (those not ignored) whose most probable class is the target, with the
weights and in the mode (dropout, augmentation) that the step trained with. Of all steps it would cost each of them one
more operator over all the log-probabilities; ten a second, and a hundredth of the time at most, are enough for a curve.
"""

from __future__ import annotations

from array import array
from collections import deque
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

from onthefly.capture.clock import wall
from onthefly.capture.quiet import undisturbed
from onthefly.capture.reading import sum_of, to_double
from onthefly.capture.transfer import Transfer
from onthefly.protocol import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

PERIOD_NS = 100_000_000
SHARE = 100
"""A measurement is followed by a pause that is so many times as long. On an accelerator, where how long it takes is not
known, by one nanosecond an element: that is a fourth of a percent at 1.6 TB/s."""

MAX_UNDER_WAY = 64
"""Values on their way from an accelerator; the oldest is dropped."""


class _Value(NamedTuple):
    step: int
    epoch: int
    time: int
    """Nanoseconds of the monotonic clock."""
    share: Transfer


class Accuracies:
    """Measured accuracies that are not sent yet."""

    def __init__(self, emit: Callable[[Metrics], None]) -> None:
        self._emit = emit
        self._values: deque[_Value] = deque(maxlen=MAX_UNDER_WAY)

    def measure(self, hits: tuple[Tensor, Tensor, Tensor], step: int, epoch: int, now: int) -> int:
        """Measure one batch (see ``Reader.hits``), and say when the next one may be: on the clock of ``now``, in ns.

        Launches operators and does not wait for them; gradients are off. NaN (no value) where no row counts.
        """
        source, target, counted = hits
        start = perf_counter_ns()
        with undisturbed():
            share = to_double(sum_of(source.argmax(1).eq(target) & counted)) / sum_of(counted)
            self._values.append(_Value(step, epoch, now, Transfer({"share": share})))
        return now + max(PERIOD_NS, SHARE * (perf_counter_ns() - start), source.numel())

    def send(self, run: str, *, wait: bool) -> None:
        """Send what has arrived; with ``wait`` what is still under way as well."""
        rows: list[_Value] = []
        while self._values and (wait or self._values[0].share.ready()):
            rows.append(self._values.popleft())
        if rows:
            self._emit(Metrics(
                run=run,
                step=array("q", [row.step for row in rows]).tobytes(),
                epoch=array("i", [row.epoch for row in rows]).tobytes(),
                time=array("d", [wall(row.time) for row in rows]).tobytes(),
                values={"accuracy": array("d", [float(row.share.take()["share"]) for row in rows]).tobytes()},
            ))  # fmt: skip
