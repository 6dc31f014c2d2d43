"""Whether a script leaves its loss's tensors alone after ``backward``: only then may they be kept and read later.

A script that writes each batch into the same buffer (``target.copy_(y)``, an array shared with NumPy) would have every
kept reference read the newest batch. So the first calls are read at once, and what they were read from is looked at
again one call later: same versions, same reduced value. A change that shows only later costs the records of that block,
which are then reported as not captured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from onthefly.capture.reading import Reading

CALLS = 3


class Probation:
    """Starts strict; :attr:`passed` after :data:`CALLS` calls whose tensors were the same a call later."""

    def __init__(self) -> None:
        self._left = CALLS
        self._last: tuple[Reading, list[int], Tensor] | None = None
        self.passed = False
        """References may be kept."""

    def fail(self) -> None:
        """A kept tensor was written to: never again."""
        self._left, self._last, self.passed = -1, None, False

    def watch(self, reading: Reading) -> None:
        """Look again at the call before, and remember this one; gradients are off."""
        if self._left <= 0:
            return
        if self._last is not None:
            if not _same(*self._last):
                self.fail()
                return
            self._left -= 1
        self._last = (reading, _versions(reading), reading.reduced())
        if not self._left:
            self._last, self.passed = None, True


def _versions(reading: Reading) -> list[int]:
    return [tensor._version for tensor in reading.references()]


def _same(reading: Reading, versions: list[int], reduced: Tensor) -> bool:
    if versions != _versions(reading):
        return False
    if reduced.device.type != "cpu":
        return True  # comparing would stall an accelerator, and NumPy shares no memory with one
    again = reading.reduced()
    return bool(torch.equal(again, reduced) or (again.isnan().all() and reduced.isnan().all()))
