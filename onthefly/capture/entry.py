"""One backward call on its way to being a record: what is kept at the time, and what is worked out later."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from onthefly.capture.certificate import NONE
from onthefly.capture.losses import MEAN

if TYPE_CHECKING:
    from torch import Tensor

    from onthefly.capture.tail import Reading


class Worked(NamedTuple):
    """Per-sample values of one backward call, on the device of the loss."""

    values: Tensor
    """One per sample, in the loss's dtype."""
    valid: Tensor
    """Elements averaged into each; bool or int32."""
    reduced: Tensor
    """What the operator makes of them with the script's own reduction: to be compared with the loss."""
    divisor: Tensor | int
    """What the sum of the values is divided by to give the loss."""


class Entry:
    """A backward call; at most one of ``reading``, ``worked`` and ``reason`` is set."""

    __slots__ = (
        "certificate", "deferred", "epoch", "error", "indices", "loader", "loss", "number", "reading", "reason", "root",
        "step", "time", "versions", "worked",
    )  # fmt: skip

    def __init__(self, number: int, step: int, epoch: int, time: float) -> None:
        self.number = number
        self.step = step
        self.epoch = epoch
        self.time = time
        self.root: Tensor | None = None
        """The back-propagated number, detached (a loss with its graph would hold every activation); None: not one."""
        self.reading: Reading | None = None
        self.worked: Worked | None = None
        self.reason = ""
        """Why there are no per-sample values."""
        self.indices: list[int] | None = None
        """The dataset's index of each row; None where that is not proven."""
        self.loader = ""
        self.deferred = False
        """Kept for later: what it refers to could change in the meantime."""
        self.versions: list[int] = []
        self.loss = math.nan
        self.certificate = NONE
        self.error = 0.0

    def defer(self) -> None:
        """Note the state of all tensors that will be read later."""
        self.deferred = True
        self.versions = [tensor._version for tensor in self.tensors()]

    def changed(self) -> bool:
        """Whether one of them was written to since."""
        return self.versions != [tensor._version for tensor in self.tensors()]

    def work(self) -> None:
        """Compute the per-sample values, and let go of what they come from."""
        reading = self.reading
        if reading is None:
            return
        values = reading.values()
        divisor: Tensor | int = 1
        if reading.reduction == MEAN:
            weights = reading.kept.reader.divisor(reading.kept)
            divisor = max(values.shape[0], 1) if weights is None else weights
        self.worked = Worked(values, reading.kept.reader.valid(reading.kept), reading.reduced(), divisor)
        self.reading = None

    def refuse(self, reason: str) -> None:
        """There will be no per-sample record of this call."""
        self.reading = self.worked = None
        self.certificate, self.error = NONE, 0.0
        self.reason = reason

    def tensors(self) -> list[Tensor]:
        """The tensors that must not change until this entry is worked off."""
        found = [] if self.root is None else [self.root]
        if self.reading is not None:
            found += [tensor for tensor in self.reading.kept.tensors if tensor is not None]
            found += [step.other for step in self.reading.tail if step.other is not None]
        return found
