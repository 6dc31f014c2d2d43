"""Samples of streams (iterable data sets): where in the stream a sample stood, or the name that it carries.

Each worker has a stream of its own. With ``n`` workers the sample at place ``p`` of worker ``w`` has the number
``p * n + w`` (without workers: ``p``), counted from 0 in each iterator: no two are the same, and it is the same again
in the next epoch if the stream is. For one that is shared out as torch's notes have it, every n-th sample to a worker,
it is the place in the undivided stream. How many samples a batch has is told by its tensors' shape; nothing else of
them is read, but the field that names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from onthefly.capture.loaders import LoaderRecord

NOT_BATCHED = "the data set makes batches itself, in an order of its own"

NAMES = ("__key__", "id", "idx", "index", "sample_id", "uid")
"""Fields by which samples carry a name; the first that a batch has counts."""

MAX_KEY = 256
"""Characters."""

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class Places(list[int]):
    """The number of each row's sample."""

    identity = "stream"


class Keys(list[str]):
    """The name of each row's sample."""

    identity = "key"


class Stream:
    """One iterator of a loader, and how much of each worker's stream has arrived."""

    def __init__(self, loader: LoaderRecord, workers: int) -> None:
        self._loader = loader
        self._taken = [0] * max(workers, 1)
        """Samples by worker; -1 where that is not known any more."""

    def deliver(self, worker: int, wanted: Any, data: Any) -> None:
        """A batch of that worker arrived (-1: it is not clear whose), which was to have so many samples."""
        self._loader.deliver(self._drawn(worker, len(wanted) if type(wanted) is list else 0, data), data)

    def lose(self) -> None:
        """Samples were taken and never seen: places are not known until the next iterator."""
        self._taken = [-1] * len(self._taken)

    def counted(self) -> list[int]:
        """How much of each worker's stream has arrived."""
        return list(self._taken)

    def count_from(self, counted: list[int]) -> None:
        """Batches are delivered again, from there on."""
        self._taken = list(counted)

    def _drawn(self, worker: int, wanted: int, data: Any) -> Any:
        count = self._count(data)
        if not 0 < count <= wanted:
            count = 0
        place = -1
        if worker < 0:
            self.lose()
        else:
            place = self._taken[worker]
            self._taken[worker] = place + count if place >= 0 and count else -1
        if not count:
            return None
        for name in NAMES if isinstance(data, Mapping) else ():
            keys = _keys(self._loader.field(data, name), count)
            if keys is not None:
                return keys
        step = len(self._taken)
        first = place * step + worker
        return Places(range(first, first + count * step, step)) if place >= 0 else None

    def _count(self, data: Any) -> int:
        """How many samples a batch has; 0 where its tensors do not agree."""
        if self._loader.doubt:
            return 0
        sizes = {tensor.shape[0] for tensor in self._loader.rows_of(data) if tensor.dim()}
        return sizes.pop() if len(sizes) == 1 else 0


def _keys(value: Any, count: int) -> Keys | None:
    """The names, if the value has a text or whole number for each sample."""
    if isinstance(value, Tensor):
        if value.dtype not in INTEGERS or value.dim() != 1 or not value.is_cpu:
            return None
        value = value.tolist()
    elif getattr(getattr(value, "dtype", None), "kind", "") in ("i", "u") and getattr(value, "ndim", 0) == 1:
        value = value.tolist()
    if not isinstance(value, (list, tuple)) or len(value) != count:  # pyright: ignore[reportUnknownArgumentType]
        return None
    if all(type(name) is int for name in value):  # pyright: ignore[reportUnknownVariableType]
        return Keys(map(str, value))  # pyright: ignore[reportUnknownArgumentType]
    short = all(type(name) is str and len(name) <= MAX_KEY for name in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return Keys(value) if short else None  # pyright: ignore[reportUnknownArgumentType]
