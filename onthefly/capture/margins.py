"""How sure the network was of each sample's class: the probability that it gave it, and the margin to the next best.

What training dynamics are made of (Swayamdipta et al. 2020; Pleiss et al. 2020). Both need the scores of all classes,
which are gone when a block is sent. So each call's are copied into a buffer, two small copies a step (a third of what
three operators on the spot cost), and all of a block are worked off at once. Larger ones are worked off at their own
time: their steps are long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from onthefly.capture.group import together
from onthefly.capture.reading import to_float, to_long

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOTS = 256
"""Calls in a buffer: more than a block holds."""

MAX_BUFFERED = 8192
"""Scores of one call that are copied, at most: a buffer of 8 MiB."""

MAX_SCORES = 1 << 24
"""Above, nothing is measured: a vocabulary is no set of classes."""


class Scores(NamedTuple):
    """Of the slots of a block: each slot's is that row of these [calls, rows]."""

    confidence: list[Tensor]
    """The probability of the target's class; NaN where it is none."""
    margin: list[Tensor]
    """The target's logit minus the highest of the others."""
    places: list[int]

    def of(self, slots: Sequence[int], valid: Sequence[Tensor | int]) -> dict[str, Tensor]:
        """The columns of some calls; NaN where a row counts for nothing (``ignore_index``)."""
        places = [self.places[slot] for slot in slots]
        columns = {
            "confidence": together([self.confidence[slot] for slot in slots], places),
            "margin": together([self.margin[slot] for slot in slots], places),
        }
        for place, counted in enumerate(valid):
            if isinstance(counted, Tensor):
                for column in columns.values():
                    column[place].masked_fill_(counted == 0, torch.nan)
        return columns


class Margins:
    """Scores of the calls of the block that is being filled. Gradients are off."""

    def __init__(self) -> None:
        self._scores = self._targets = torch.empty(0)
        """[slots, rows, classes], log-probabilities of the calls that were copied; and [slots, rows]."""
        self._places: list[tuple[Tensor, Tensor]] = []
        """The parts of both, by slot: indexing them anew at each step would cost as much as the copies."""
        self._shape: object = None
        """Of one call's scores, and their dtype and device."""
        self._dtype = self._device = None
        self._used = 0
        self._parts: list[tuple[Tensor, Tensor]] = []
        """Confidence and margin of what is worked off already [calls, rows], in the order of slots."""
        self._before = 0
        """Slots of those."""

    def note(self, scores: Tensor, targets: Tensor) -> int:
        """Log-probabilities [rows, classes] and target classes [rows] of one call; its slot, or -1."""
        slot = self._used
        if (
            scores.shape != self._shape or slot == SLOTS
            or scores.dtype is not self._dtype or scores.device != self._device
        ):  # fmt: skip
            if scores.dim() != 2 or targets.dim() != 1 or scores.numel() > MAX_SCORES or scores.shape[1] < 2:
                return -1
            self._work_off()
            if scores.numel() > MAX_BUFFERED:
                self._add(*measured(scores[None], targets[None]))
                return self._before - 1
            self._make_room(scores, targets)
            slot = 0
        elif targets.dim() != 1:
            return -1
        room, other = self._places[slot]
        room.copy_(scores)
        other.copy_(targets)
        self._used = slot + 1
        return self._before + slot

    def add(self, scores: Tensor, targets: Tensor) -> int:
        """Those of several calls at once, [calls, rows, classes] and [calls, rows]; the first of their slots.

        The scores are written to: they are of no use afterwards.
        """
        self._work_off()
        first = self._before
        self._add(*measured(scores, targets, spent=True))
        return first

    def _make_room(self, scores: Tensor, targets: Tensor) -> None:
        """For calls like this one."""
        if (scores.shape, scores.dtype, scores.device) != (self._shape, self._dtype, self._device):
            self._shape, self._dtype, self._device = scores.shape, scores.dtype, scores.device
            with torch.inference_mode(False):  # what is made within it cannot be written to outside
                self._scores = scores.new_empty((SLOTS, *scores.shape))
                self._targets = targets.new_empty((SLOTS, *targets.shape), dtype=torch.int64)
                self._places = list(zip(self._scores.unbind(0), self._targets.unbind(0)))

    def take(self) -> Scores:
        """All slots since the last call; they are free again."""
        self._work_off()
        parts, self._parts, self._before = self._parts, [], 0
        counts = [len(confidence) for confidence, _ in parts]
        return Scores(
            [confidence for (confidence, _), count in zip(parts, counts) for _ in range(count)],
            [margin for (_, margin), count in zip(parts, counts) for _ in range(count)],
            [place for count in counts for place in range(count)],
        )

    def _work_off(self) -> None:
        count, self._used = self._used, 0
        if count:
            self._add(*measured(self._scores[:count], self._targets[:count], spent=True))

    def _add(self, confidence: Tensor, margin: Tensor) -> None:
        self._parts.append((confidence, margin))
        self._before += len(confidence)


def measured(scores: Tensor, targets: Tensor, *, spent: bool = False) -> tuple[Tensor, Tensor]:
    """Confidence and margin [calls, rows], of [calls, rows, classes] and [calls, rows].

    With ``spent`` the scores may be written to, which saves memory that is as large as they are.
    """
    targets = to_long(targets)  # bytes are classes too, and no places
    known = (targets >= 0) & (targets < scores.shape[-1])
    places = targets.clamp(0, scores.shape[-1] - 1)[..., None]
    own = scores.gather(-1, places)
    others = scores.scatter_(-1, places, -torch.inf) if spent else scores.scatter(-1, places, -torch.inf)
    own, others = own[..., 0], others.amax(-1)
    return (
        to_float(own.exp()).masked_fill(~known, torch.nan),
        to_float(own - others).masked_fill(~known, torch.nan),
    )
