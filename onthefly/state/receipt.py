"""The proof after a rewind: the losses of the steps that are taken again, compared with those of the first time."""

from __future__ import annotations

import math
import struct
from typing import NamedTuple, Optional


class Call(NamedTuple):
    """What one backward call propagated; several make a step where gradients are accumulated."""

    step: int
    loss: float


class Losses:
    """The losses of a run by the number of their backward call, as far as the newest ``limit`` go."""

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._by_call: dict[int, Call] = {}

    def note(self, step: int, backward: int, loss: float) -> None:
        """That call was made before that step ended."""
        self._by_call[backward] = Call(step, loss)
        if len(self._by_call) > self._limit:
            del self._by_call[next(iter(self._by_call))]

    def between(self, first: int, last: int) -> list[Optional[float]]:
        """Of the steps from ``first`` on, before ``last``, the mean of their calls; None where it is not known."""
        found: dict[int, list[float]] = {}
        for step, loss in self._by_call.values():
            if first <= step < last:
                found.setdefault(step, []).append(loss)
        return [math.fsum(calls) / len(calls) if (calls := found.get(step)) else None for step in range(first, last)]

    def from_call(self, backward: int) -> Receipt:
        """What that call and those after it must give again. They are forgotten here: they are made anew."""
        expected = {number: call for number, call in self._by_call.items() if number >= backward}
        for number in expected:
            del self._by_call[number]
        return Receipt(expected)


class Receipt:
    """Compares the steps after a rewind with those that were taken before, bit by bit."""

    def __init__(self, expected: dict[int, Call]) -> None:
        """``expected``: the calls that had been made, by their number."""
        self._expected = expected
        self._open: dict[int, int] = {}
        """Calls of each step that were not made again."""
        for call in expected.values():
            self._open[call.step] = self._open.get(call.step, 0) + 1
        self._steps = len(self._open)
        self.first_other: Optional[tuple[int, float, float]] = None
        """The first step that differs, with its loss before and now; None: none does."""

    @property
    def steps(self) -> int:
        """Steps that there are to compare with."""
        return self._steps

    @property
    def compared(self) -> int:
        """Steps that were taken again so far."""
        return self._steps - len(self._open)

    @property
    def complete(self) -> bool:
        """Whether the script has caught up with where it had been."""
        return not self._open or self.first_other is not None

    def note(self, backward: int, loss: float) -> None:
        """A call was made; one that had not been made before says nothing."""
        before = self._expected.pop(backward, None)
        if before is None or self.complete:
            return
        if struct.pack("d", before.loss) != struct.pack("d", loss):
            self.first_other = before.step, before.loss, loss
            return
        self._open[before.step] -= 1
        if not self._open[before.step]:
            del self._open[before.step]

    def __str__(self) -> str:
        if self.first_other is not None:
            step, before, now = self.first_other
            return f"step {step} differs: its loss was {before!r}, and is {now!r}"
        return f"{self.compared} of {self._steps} steps bit-identical"
