"""Batches that reached the script, and which of them a tensor belongs to.

A tensor is tied to a batch by being one of its tensors or a view of one: by identity, never by address (addresses
repeat) and never by "the newest batch" (right in 2 of 12 steps where a framework fetches one ahead). Tied to a batch is
not tied to rows: a :class:`Tie` names samples only where the order of rows is proven.
"""

from __future__ import annotations

import weakref
from array import array
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.utils.data import default_collate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REMEMBERED = 16
"""Batches looked through for a loss's tensors: more than any loop holds at once."""

MAX_TENSORS = 64
"""Tensors remembered of one batch; a dictionary of a language model has four."""

_FLAT = (list, tuple)

UNORDERED = "a collate_fn of the script's own may reorder or drop samples"
CROOKED = "the target is a view of the batch in another order"
COMPUTED = "the loss's target is not a tensor of a batch (it was copied or computed)"
NOT_INTEGERS = "the loader's indices are not integers"
NO_LOADER = "the script uses no DataLoader"


class LoaderRecord:
    """One DataLoader of the script, as far as we know it; holds no reference to it or to its data."""

    def __init__(self, number: int, loader: Any, accept: Callable[[Batch], None], finished: Callable[[], None]) -> None:
        self.name = f"loader{number}"
        self.epoch = 0
        """Finished iterators of this loader."""
        self.ordered = True
        """Rows of a batch come in the order of its indices."""
        self._accept = accept
        self._finished = finished
        self._subsets: list[weakref.ref[Any]] = []
        self.renew(loader)

    def renew(self, loader: Any) -> None:
        """Look again at what the loader is made of: at each new iterator."""
        self._subsets = [weakref.ref(dataset) for dataset in _nested(loader.dataset)]
        self.ordered = loader.collate_fn is default_collate

    def deliver(self, drawn: Any, data: Any) -> None:
        """A batch reached the script, made from these indices of the loader's dataset."""
        flat = data if type(data) in _FLAT and len(data) <= MAX_TENSORS else _tensors(data)
        try:
            tensors = tuple(map(weakref.ref, flat))
        except TypeError:  # nested, or not only tensors
            tensors = tuple(map(weakref.ref, _tensors(data)))
        self._accept(Batch(self, self.epoch, drawn, tensors))

    def finish(self) -> None:
        """The iterator is exhausted: that is an epoch of this loader."""
        self.epoch += 1
        self._finished()

    def root(self, drawn: list[Any]) -> array[int] | None:
        """Indices in the root dataset; None where they are not integers."""
        indices = drawn
        for known in self._subsets:
            subset = known()
            if subset is None:
                return None
            indices = _pick(subset.indices, indices)
        try:
            return array("q", indices)
        except TypeError:
            return None


class Batch(NamedTuple):
    """One delivered batch. A tuple, since the script makes many: a class costs a microsecond more."""

    loader: LoaderRecord
    epoch: int
    drawn: Any
    """What the sampler gave: a list of indices in the loader's dataset, or something else."""
    tensors: tuple[weakref.ref[Any], ...]
    """References to its tensors, weak: we keep nobody's data alive."""

    def indices(self) -> array[int] | None:
        """The indices in the root dataset; None where they are not integers."""
        return self.loader.root(self.drawn) if type(self.drawn) is list else None

    def rows(self) -> int:
        """How many samples it has; -1 where that is not known."""
        return len(self.drawn) if type(self.drawn) is list else -1

    def origin(self, tensor: Tensor) -> Tensor | None:
        """The tensor of this batch that ``tensor`` is, or is a view of."""
        base = tensor._base
        for remembered in self.tensors:
            known = remembered()
            if known is not None and (known is tensor or known is base):
                return known
        return None


class Tie(NamedTuple):
    """What is known of where a loss's rows come from."""

    batch: Batch | None
    """The batch whose samples are the rows, in its order; None where that is not proven."""
    loader: LoaderRecord | None
    epoch: int
    """Of that loader; -1 where there is none."""
    doubt: str
    """Why samples have no index; empty if they do."""
    refusal: str
    """Why the rows are not samples at all; empty if they are."""


class RecentBatches:
    """The newest batches of all loaders, and the search among them."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque(maxlen=REMEMBERED)
        self.newest: Batch | None = None
        """The batch delivered last; None before the first."""

    def add(self, batch: Batch) -> None:
        """A batch reached the script."""
        self._batches.append(batch)
        self.newest = batch

    def plain(self, target: Tensor) -> Batch | None:
        """The newest batch, if the target is one of its tensors and its rows are samples for certain.

        The quick answer for most losses; where it is None, :meth:`tie` looks closer.
        """
        batch = self.newest
        if batch is None or not batch.loader.ordered:
            return None
        for remembered in batch.tensors:
            if remembered() is target:
                drawn = batch.drawn
                return batch if type(drawn) is list and len(drawn) == target.shape[0] else None
        return None

    def tie(self, target: Tensor) -> Tie:
        """Find the batch that a loss's target belongs to, and say whether its rows are samples, and which.

        A target of no batch may still be of the newest one (copied, cast): its rows are then samples without an index
        if they are as many. A vector that fits no batch is never spread over samples (a penalty on weights).
        """
        rows = target.shape[0]
        for batch in reversed(self._batches):
            for remembered in batch.tensors:
                if remembered() is target:
                    return _tie(batch, rows, batch.loader.ordered, UNORDERED)
        for batch in reversed(self._batches):
            origin = batch.origin(target)
            if origin is not None:
                straight = _straight(target, origin)
                return _tie(batch, rows, straight and batch.loader.ordered, UNORDERED if straight else CROOKED)
        newest = self.newest
        if newest is None:
            return Tie(None, None, -1, NO_LOADER, "")
        return _tie(newest, rows, False, COMPUTED)


def _tie(batch: Batch, rows: int, proven: bool, doubt: str) -> Tie:
    known = batch.rows()
    if known == rows:
        return Tie(batch if proven else None, batch.loader, batch.epoch, "" if proven else doubt, "")
    if known < 0:
        return Tie(None, batch.loader, batch.epoch, NOT_INTEGERS, "")
    refusal = f"the loss has {rows} rows for a batch of {known}: they are not samples"
    return Tie(None, batch.loader, batch.epoch, refusal, refusal)


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


def _tensors(data: Any) -> list[Tensor]:
    """The tensors of a batch, through tuples, lists and dictionaries, at most :data:`MAX_TENSORS`."""
    found: list[Tensor] = []
    pending: list[Any] = [data]
    while pending and len(found) < MAX_TENSORS:
        value = pending.pop()
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            pending.extend(value[:MAX_TENSORS])  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, dict):
            pending.extend(value.values())  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
    return found


def _straight(view: Tensor, origin: Tensor) -> bool:
    """Row *i* of the view is row *i* of the origin: both laid out row by row, from the same place, all of it."""
    return (
        view.numel() == origin.numel()
        and view.shape[0] == origin.shape[0]
        and view.storage_offset() == origin.storage_offset()
        and view.is_contiguous()
        and origin.is_contiguous()
    )
