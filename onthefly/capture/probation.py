"""Whether a script leaves its loss's tensors alone after ``backward``: only then may they be kept and read later.

A script that writes each batch into the same buffer (``target.copy_(y)``, an array shared with NumPy) would have every
kept reference read the newest batch. So the first calls are read at once, and what they were read from is looked at
again one call later: same version, same reduced value. A change seen later still costs the records of that block, which
are then reported as not captured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from onthefly.capture.entry import Entry
    from onthefly.capture.tail import Reading

CALLS = 3


class Probation:
    """Starts strict; ``passed`` after :data:`CALLS` calls whose tensors were the same a call later."""

    def __init__(self) -> None:
        self._left = CALLS
        self._last: tuple[Reading, Tensor, list[int]] | None = None
        self._failed = False

    @property
    def passed(self) -> bool:
        """References may be kept."""
        return self._left <= 0 and not self._failed

    def fail(self) -> None:
        """A kept tensor was written to: never again."""
        self._failed = True
        self._last = None

    def watch(self, entry: Entry) -> None:
        """Look again at the call before, and remember this one; gradients are off."""
        if self._failed or self._left <= 0 or entry.reading is None:
            return
        if self._last is not None:
            reading, reduced, versions = self._last
            if versions != _versions(reading) or not _reproduces(reading, reduced):
                self.fail()
                return
            self._left -= 1
        self._last = (entry.reading, entry.reading.reduced(), _versions(entry.reading))
        if self._left <= 0:
            self._last = None


def _versions(reading: Reading) -> list[int]:
    return [tensor._version for tensor in reading.kept.tensors if tensor is not None]


def _reproduces(reading: Reading, reduced: Tensor) -> bool:
    if reduced.device.type != "cpu":
        return True  # comparing would stall an accelerator, and NumPy shares no memory with one
    again = reading.reduced()
    return bool(torch.equal(again, reduced) or (again.isnan().all() and reduced.isnan().all()))
