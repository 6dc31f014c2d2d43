"""The newest values of metrics by name, kept on the training thread while something asks for them.

They are read out of the messages that go to the hub anyway, so that a condition or a watchdog sees what the dashboard
shows, and nothing is measured twice. Messages are made in blocks: a value is up to a block old (32 steps or 50 ms, on
an accelerator a few steps more), and :meth:`Newest.step_of` says of which step it is.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from onthefly.protocol import PHASES, Metrics, Records

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

MAX_VALUES = 512
"""Of each metric."""

_TRAIN = PHASES.index("train")


class Loss(NamedTuple):
    """What one backward call propagated in training."""

    row: int
    """Its place in the block."""
    step: int
    backward: int
    value: float
    known: bool
    """False: the record may have NaN because the number is not known, and not because that is what it was."""


def losses(records: Records) -> Iterator[Loss]:
    """The training losses of a block, in order."""
    steps, calls, values = array("q", records.step), array("q", records.backward), array("d", records.loss)
    reasons = array("h", records.reason)
    for row, phase in enumerate(records.phase):
        if phase == _TRAIN:
            value = values[row]
            yield Loss(row, steps[row], calls[row], value, value == value or reasons[row] < 0)


class _Kept:
    """The values of one metric."""

    __slots__ = ("asked", "step", "values")

    def __init__(self) -> None:
        self.asked = 0
        self.step = -1
        self.values: deque[float] = deque(maxlen=MAX_VALUES)


class Newest:
    """What was recorded last, of the metrics that somebody listens to; for the training thread alone."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._at = {"step": -1, "epoch": -1}

    def listen(self, names: Collection[str]) -> Callable[[], None]:
        """Keep the values of these metrics from now on; to end it, call what is returned (once, or again in vain)."""
        heard = set(names)
        for name in heard:
            self._kept.setdefault(name, _Kept()).asked += 1

        def leave() -> None:
            while heard:
                name = heard.pop()
                kept = self._kept[name]
                kept.asked -= 1
                if not kept.asked:
                    del self._kept[name]

        return leave

    def take(self, message: Records | Metrics) -> None:
        """Read a message, if anybody listens."""
        if self._kept:
            if isinstance(message, Records):
                self._take_records(message)
            else:
                self._take_metrics(message)

    def get(self, name: str) -> float | None:
        """The newest value; None before the first, or where nobody listens to it.

        ``step`` and ``epoch`` are the highest that a message was of; whoever knows where training stands answers
        for these two itself.
        """
        if name in self._at:
            at = self._at[name]
            return float(at) if at >= 0 else None
        kept = self._kept.get(name)
        return kept.values[-1] if kept is not None and kept.values else None

    def window(self, name: str, n: int) -> Sequence[float]:
        """Up to ``n`` newest values, oldest first."""
        kept = self._kept.get(name)
        return list(kept.values)[-n:] if kept is not None and n > 0 else []

    def step_of(self, name: str) -> int | None:
        """The step at which the newest value was recorded; None before the first."""
        kept = self._kept.get(name)
        return kept.step if kept is not None and kept.step >= 0 else None

    def _take_records(self, records: Records) -> None:
        kept = self._kept.get("loss")
        if kept is not None:
            for loss in losses(records):
                if loss.known:
                    kept.values.append(loss.value)
                    kept.step = loss.step
        self._arrived(records)

    def _take_metrics(self, metrics: Metrics) -> None:
        steps = array("q", metrics.step)
        for name in self._kept.keys() & metrics.values.keys():
            kept = self._kept[name]
            for step, value in zip(steps, array("d", metrics.values[name])):
                if value == value or metrics.complete:  # elsewhere NaN says that this step has none
                    kept.values.append(value)
                    kept.step = step
        if not metrics.complete:  # a script may log of any step
            self._arrived(metrics)

    def _arrived(self, message: Records | Metrics) -> None:
        steps, epochs = array("q", message.step), array("i", message.epoch)
        if steps:
            step, epoch = max(zip(steps, epochs))
            if step >= self._at["step"]:
                self._at = {"step": step, "epoch": epoch}
