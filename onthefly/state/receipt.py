"""The proof after a rewind: the losses of the steps that are taken again, compared with those of the first time."""

from __future__ import annotations

import struct
from typing import Optional


class Losses:
    """The loss of each step of a run, by number, as far as the newest ``limit`` go."""

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._by_step: dict[int, float] = {}

    def note(self, step: int, loss: float) -> None:
        """The loss that was back-propagated before that step ended (the last of several)."""
        self._by_step[step] = loss
        if len(self._by_step) > self._limit:
            del self._by_step[next(iter(self._by_step))]

    def after(self, step: int) -> Receipt:
        """What the steps after that one must give again. They are forgotten here: they are about to be taken anew."""
        expected = {number: loss for number, loss in self._by_step.items() if number > step}
        for number in expected:
            del self._by_step[number]
        return Receipt(expected)


class Receipt:
    """Compares the steps after a rewind with those that were taken before, bit by bit."""

    def __init__(self, expected: dict[int, float]) -> None:
        """``expected``: the loss of each step that had been taken."""
        self._expected = expected
        self.compared = 0
        """Steps that were taken again so far."""
        self.first_other: Optional[tuple[int, float, float]] = None
        """The first step that differs, with its loss before and now; None: none does."""

    @property
    def complete(self) -> bool:
        """Whether the script has caught up with where it had been."""
        return self.compared == len(self._expected) or self.first_other is not None

    def note(self, step: int, loss: float) -> None:
        """A step was taken; those that had not been taken before say nothing."""
        before = self._expected.get(step)
        if before is not None and not self.complete:
            if struct.pack("d", before) != struct.pack("d", loss):
                self.first_other = step, before, loss
            else:
                self.compared += 1

    def __str__(self) -> str:
        if self.first_other is not None:
            step, before, now = self.first_other
            return f"step {step} differs: its loss was {before!r}, and is {now!r}"
        return f"{self.compared} of {len(self._expected)} steps bit-identical"
