"""Samples that a script draws itself: ``idx = perm[i : i + 32]; x, y = X[idx], Y[idx]``, without any loader.

An integer tensor that indexes another one need not be a draw of samples: ``weights[y]`` looks up what belongs to a
class. So a key counts as one where two tensors of as many rows are indexed with it, one right after the other, as
inputs and targets are, if it names no row twice and nothing else of its length was drawn just before (labels name
classes twice as a rule, and belong to inputs that were drawn by another key). What is looked up by labels that are
known to be of samples is of those samples. Everything else is let alone: such a loss has no identity.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import torch
from torch import Tensor

from onthefly.capture.layout import batch_first

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.capture.batches import RecentBatches

MOST = 65536
"""Rows of a draw, at most: longer ones are cuts of the data, made once."""

INTEGERS = (torch.int64, torch.int32)


class Drawn(NamedTuple):
    """One indexing that may have been a draw."""

    result: Callable[[], Optional[Tensor]]
    """A weak reference."""
    places: list[int]
    """In the tensor that was indexed."""
    rows: int
    """Of that tensor."""
    samples: list[int]
    """Rows of what that was cut out of, where this was seen."""


class Draws:
    """Tells which rows of a tensor a script took."""

    def __init__(self, recent: RecentBatches) -> None:
        self._recent = recent
        self._last: Drawn | None = None
        self._paired = False
        """It was one of several by the same key."""
        self._lone: Drawn | None = None
        """The one before that, if it was none of several."""

    def took(self, source: Tensor, key: Any, result: Tensor) -> None:
        """``source[key]`` gave ``result``; the key is a tensor, a list or an array."""
        if source.requires_grad or result.requires_grad or not source.dim() or not result.dim():
            return
        if isinstance(key, Tensor):
            labels = self._recent.find(key)
            if labels is not None and not labels.doubt:  # not where it is drawn, but of whose labels it was looked up
                layout = batch_first(result.shape)
                if labels.layout == batch_first(key.shape) and layout is not None:
                    self._recent.belongs(result, labels._replace(layout=layout))
                return
        size = len(source)
        places = _integers(key, size)
        if places is None or len(places) != result.shape[0]:
            return
        samples = self._samples(source, places)
        if samples is None:
            return
        last, drawn = self._last, Drawn(weakref.ref(result), places, size, samples)
        if last is None or last.rows != size or last.places != places:  # the first by this key
            if last is not None and (self._paired or last.result() is key):  # that was an index, drawn from a table
                last = None
            self._lone, self._last, self._paired = last, drawn, False
            return
        if not self._paired:
            lone, first = self._lone, last.result()
            if len(set(places)) < len(places) or (lone is not None and len(lone.places) == len(places)):
                return
            self._paired = True
            if first is not None:
                self._recent.drew(first, last.samples)
        self._recent.drew(result, samples)

    def _samples(self, source: Tensor, places: list[int]) -> list[int] | None:
        """These rows of a tensor as rows of what it was cut out of; None where that cannot be told."""
        base = source._base
        found = self._recent.find(source)
        if found is not None:
            drawn = found.batch.drawn
            if found.batch.loader is not None or found.doubt or found.layout != batch_first(source.shape):
                return None
            return [drawn[found.start + place] for place in places]
        if base is None:
            return places
        first = _first_row(source, base)
        return None if first is None else [first + place for place in places]


def _first_row(part: Tensor, base: Tensor) -> int | None:
    """Which row of ``base`` the first of ``part`` is, a view of whole rows or of a piece of each; None if it is not."""
    if not base.dim() or not base.is_contiguous():
        return None
    step = base.stride(0)
    offset = part.storage_offset() - base.storage_offset()
    extent = offset % step + sum((size - 1) * stride for size, stride in zip(part.shape[1:], part.stride()[1:]))
    return offset // step if part.stride(0) == step and extent < step else None


def _integers(key: Any, size: int) -> list[int] | None:
    """The key as places from 0 on; None if it is not one row of whole numbers, in the memory of the host."""
    if isinstance(key, Tensor):
        if key.dim() != 1 or key.dtype not in INTEGERS or not key.is_cpu or len(key) > MOST:
            return None
        places: Any = key.tolist()
    elif isinstance(key, list):
        places = list[Any](key) if len(key) <= MOST else []
    else:
        places = key.tolist() if key.ndim == 1 and key.dtype.kind in "iu" and len(key) <= MOST else []
    if not places or any(type(place) is not int for place in places):
        return None
    return [place + size if place < 0 else place for place in places]
