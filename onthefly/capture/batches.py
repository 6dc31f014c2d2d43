"""Batches that reached the script, and which of them a tensor belongs to.

A tensor is tied to a batch by being one of its tensors or a view of one: by identity, never by address (addresses
repeat) and never by "the newest batch" (right in 2 of 12 steps where a framework fetches one ahead). Tied to a batch is
not tied to rows: :meth:`Batch.rows_of` says yes only where the order is proven.
"""

from __future__ import annotations

import weakref
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import default_collate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REMEMBERED = 16
"""Batches looked through for a loss's tensors: more than any loop holds at once (accumulation reuses none)."""

MAX_TENSORS = 64
"""Tensors remembered of one batch; a dictionary of a language model has four."""


class LoaderRecord:
    """One DataLoader of the script, as far as we know it; holds no reference to it or to its data."""

    def __init__(self, number: int, loader: Any, accept: Callable[[Batch], None], finished: Callable[[], None]) -> None:
        self.name = f"loader{number}"
        self.epoch = 0
        """Finished iterators of this loader."""
        self.unordered = ""
        """Why rows of a batch cannot be told apart; empty: they come in the order of the indices."""
        self._accept = accept
        self._finished = finished
        self._subsets: list[weakref.ref[Any]] = []
        self.renew(loader)

    def renew(self, loader: Any) -> None:
        """Look again at what the loader is made of: at each new iterator."""
        self._subsets = [weakref.ref(dataset) for dataset in _nested(loader.dataset)]
        self.unordered = "" if loader.collate_fn is default_collate else (
            "a collate_fn of the script's own may reorder or drop samples"
        )  # fmt: skip

    def deliver(self, indices: Any, data: Any) -> None:
        """A batch reached the script, made from these indices of the loader's dataset."""
        self._accept(Batch(self, self._root(indices), data))

    def finish(self) -> None:
        """The iterator is exhausted: that is an epoch of this loader."""
        self.epoch += 1
        self._finished()

    def _root(self, indices: Any) -> list[int] | None:
        """Indices in the root dataset; None where they are not integers (or not known)."""
        if not isinstance(indices, list) or not indices:
            return None
        for reference in self._subsets:
            subset = reference()
            if subset is None:
                return None
            indices = _pick(subset.indices, indices)
        return indices if all(type(index) is int for index in indices) else _integers(indices)


class Batch:
    """One delivered batch: its indices and weak references to its tensors."""

    __slots__ = ("_length", "epoch", "indices", "loader", "tensors")

    def __init__(self, loader: LoaderRecord, indices: list[int] | None, data: Any) -> None:
        self.loader = loader
        self.epoch = loader.epoch
        self.indices = indices
        tensors = _tensors(data, MAX_TENSORS)
        self.tensors = [weakref.ref(tensor) for tensor in tensors]
        self._length = tensors[0].shape[0] if tensors and tensors[0].dim() else 0

    def rows(self) -> int:
        """How many samples the batch has."""
        return len(self.indices) if self.indices is not None else self._length

    def holds(self, tensor: torch.Tensor, base: torch.Tensor | None) -> torch.Tensor | None:
        """The tensor of this batch that ``tensor`` is, or that it is a view of."""
        for reference in self.tensors:
            known = reference()
            if known is not None and (known is tensor or known is base):
                return known
        return None

    def rows_of(self, tensor: torch.Tensor, origin: torch.Tensor) -> str:
        """Empty if row *i* of ``tensor`` is sample *i* of this batch, else why that is not proven.

        ``origin`` is the batch's own tensor. Its first axis is the batch (that is what ``default_collate`` makes); a
        view keeps that order if both are laid out row by row and cover the same elements.
        """
        if self.indices is None:
            return "the loader's indices are not integers"
        if self.loader.unordered:
            return self.loader.unordered
        count = len(self.indices)
        if origin.dim() == 0 or origin.shape[0] != count:
            return f"the batch has {tuple(origin.shape)} values for {count} indices"
        if tensor.dim() == 0 or tensor.shape[0] != count:
            return f"the loss has {tuple(tensor.shape)} targets for a batch of {count}"
        if tensor is origin or _same_layout(tensor, origin):
            return ""
        return "the target is a view of the batch in another order"


class RecentBatches:
    """The newest batches of all loaders, and the search among them."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque(maxlen=REMEMBERED)

    def add(self, batch: Batch) -> None:
        """A batch reached the script."""
        self._batches.append(batch)

    @property
    def newest(self) -> Batch | None:
        """The batch delivered last; None before the first."""
        return self._batches[-1] if self._batches else None

    def find(self, tensor: torch.Tensor) -> tuple[Batch, torch.Tensor] | None:
        """The newest batch that this tensor belongs to, and its tensor there."""
        base = tensor._base
        for batch in reversed(self._batches):
            origin = batch.holds(tensor, base)
            if origin is not None:
                return batch, origin
        return None


def _nested(dataset: Any) -> Iterator[Any]:
    """The datasets around the root one, outermost first: all that have ``dataset`` and ``indices`` (Subset)."""
    while hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        yield dataset
        dataset = dataset.dataset


def _pick(table: Any, places: list[Any]) -> list[Any]:
    """``[table[p] for p in places]``; a third of the time for lists."""
    if len(places) == 1:
        return [table[places[0]]]
    return list(itemgetter(*places)(table))


def _integers(indices: list[Any]) -> list[int] | None:
    """Plain integers from what samplers give for such (NumPy integers, tensors of one integer); None for others."""
    found: list[int] = []
    for index in indices:
        if isinstance(index, (bool, float, str, tuple)) or not hasattr(index, "__index__"):
            return None
        found.append(int(index))
    return found


def _tensors(data: Any, limit: int) -> list[torch.Tensor]:
    """The tensors of a batch, through tuples, lists and dictionaries, at most ``limit``."""
    if isinstance(data, torch.Tensor):
        return [data]
    found: list[torch.Tensor] = []
    pending: list[Any] = [data]
    while pending and len(found) < limit:
        value = pending.pop()
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, dict):
            pending.extend(value.values())  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        elif isinstance(value, (tuple, list)) and len(value) <= limit:  # pyright: ignore[reportUnknownArgumentType]
            pending.extend(value)  # pyright: ignore[reportUnknownArgumentType]
    return found


def _same_layout(view: torch.Tensor, origin: torch.Tensor) -> bool:
    return (
        view.numel() == origin.numel()
        and view.storage_offset() == origin.storage_offset()
        and view.is_contiguous()
        and origin.is_contiguous()
    )
