"""Batches that reached the script, and which of them a tensor belongs to.

A tensor is tied to a batch by being one of its tensors, a view of one, or a copy that only moved or cast it: by
identity, never by address (addresses repeat) and never by "the newest batch" (right in 2 of 12 steps where a framework
fetches one ahead). Tied to a batch is not tied to rows: which row is which sample is told by a
:class:`~onthefly.capture.layout.Layout`, or not at all.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from onthefly.capture.graph import Unreadable
from onthefly.capture.layout import Layout, batch_first, carried, leading, viewed
from onthefly.capture.loaders import Batch, LoaderRecord, has_storage, tensors_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    How = Callable[[Layout, Sequence[int], Sequence[int], tuple[Any, ...]], "Layout | None"]
    """``(layout of the source, its shape, the result's shape, arguments)``."""

MANY = 256

CROOKED = "the target is a view of the batch in another order"
CHANGED = "the target was changed in place after the loader gave it"
COMPUTED = "the loss's target is not a tensor of a batch (it was copied or computed)"
NOT_INTEGERS = "the loader's indices are not integers"
NO_LOADER = "the script uses no DataLoader"


class Tied(NamedTuple):
    """A tensor that belongs to a batch: its elements are those of samples ``start`` to ``start + layout.rows``."""

    batch: Batch
    start: int
    layout: Layout
    doubt: str
    """Why its rows may be other samples than they seem; empty if they are not."""


class Tie(NamedTuple):
    """What is known of where a loss's rows come from."""

    loader: LoaderRecord | None
    epoch: int
    """Of that loader; -1 where there is none."""
    indices: list[Any] | None
    """In the root data set, one a row; None where the order of rows is not proven."""
    doubt: str
    """Why samples have no index; empty if they do."""
    identity: str = "index"
    """What the indices are: ``index``, ``stream`` or ``key``."""
    drawn: Any = None
    """All of the batch that these are of: the very list."""


class RecentBatches:
    """The newest batch of all loaders, those before it that no loss was seen of, and the search among them.

    The newest one is held as it was delivered, which the script does as well while it computes the loss: a reference to
    each tensor costs 4 us a step. It is let go when the next one comes or a block is sent, whichever is first.
    """

    __slots__ = ("_copies", "_loaders", "_most", "_older", "newest", "tied")

    def __init__(self) -> None:
        self.newest: tuple[Any, ...] | None = None
        """With the fields of :class:`Batch`; None before the first."""
        self.tied: tuple[Any, ...] | None = None
        """The batch that the last loss was plainly of: nothing is lost with it."""
        self._older: dict[int, tuple[weakref.ref[Tensor], Batch, StorageWeakRef | None]] = {}
        """Batches that no loss was seen of, by ``id`` of each of their tensors; dead ones are swept now and then."""
        self._most = MANY
        """How many may be there until they are swept."""
        self._loaders: list[LoaderRecord] = []
        """In the order of their newest batches, but for the newest of all."""
        self._copies: dict[int, tuple[weakref.ref[Tensor], Tied, int, StorageWeakRef | None]] = {}
        """Tensors that were made of a batch's by moving, casting or reshaping, by their ``id``, and their version."""

    def retire(self, newest: tuple[Any, ...]) -> None:
        """Let the newest batch go, and remember it among the older ones."""
        loader, epoch, drawn, held, storages = newest
        if held:
            batch, older = Batch(loader, epoch, drawn, ()), self._older
            for tensor in tensors_of(held):
                storage = storages.get(id(tensor))
                came = StorageWeakRef(storage) if storage is not None else None
                older[id(tensor)] = weakref.ref(tensor), batch, came
            if len(older) > self._most:
                # Not by callbacks of the references: an interrupt that came while one runs would be lost.
                self._older = {key: found for key, found in older.items() if found[0]() is not None}
                self._most = 2 * len(self._older) + MANY

    def let_go(self) -> None:
        """Hold the newest batch no longer; it is remembered as the others are."""
        newest = self.newest
        if newest is not None and newest[3]:
            self.retire(newest)
            let_go = (*newest[:3], (), {})
            if self.tied is newest:
                self.tied = let_go
            if self.newest is newest:
                self.newest = let_go

    def take_over(self, loader: LoaderRecord, newest: tuple[Any, ...]) -> None:
        """The newest batch is another loader's from now on."""
        before, epoch, drawn, _, _ = newest
        before.last = Batch(before, epoch, drawn, ())
        self._loaders = [*(known for known in self._loaders if known not in (before, loader)), before]

    def tied_epoch(self, loader: LoaderRecord) -> int:
        """The epoch of that loader in which the last loss was plainly its; -1 if it was another's."""
        return self.tied[1] if self.tied is not None and self.tied[0] is loader else -1

    def find(self, tensor: Tensor) -> Tied | None:
        """The batch that a tensor belongs to, and how its elements lie; None if it is of none that is known."""
        found = self._own(tensor)
        base = tensor._base
        if found is not None or base is None:
            return found
        found = self._own(base)
        if found is None:
            return None
        offset = int(tensor.storage_offset()) - int(base.storage_offset())
        seen = None
        if base.is_contiguous() and offset >= 0 and _storage(tensor) == _storage(base):
            seen = viewed(found.layout, tensor.shape, tensor.stride(), offset, base.numel())
        if seen is None:
            return Tied(found.batch, 0, found.layout, CROOKED)
        first, layout = seen
        return Tied(found.batch, found.start + first, layout, found.doubt)

    def copied(self, source: Tensor, result: Tensor, how: How, args: tuple[Any, ...]) -> None:
        """``result`` was just made of ``source``, sample by sample, as ``how`` says."""
        found = self.find(source)
        if found is None or result._base is source:
            return
        after = how(found.layout, source.shape, result.shape, args)
        if after is not None:
            self.belongs(result, found._replace(layout=after))

    def drew(self, result: Tensor, drawn: list[int]) -> None:
        """The script itself took these rows of a tensor: a batch, of no loader."""
        layout = batch_first(result.shape)
        if layout is not None:
            self.belongs(result, Tied(Batch(None, -1, drawn, ()), 0, layout, ""))

    def belongs(self, result: Tensor, tied: Tied) -> None:
        """The elements of ``result`` are known to be of these samples."""
        if len(self._copies) >= MANY:
            self._copies = {key: found for key, found in self._copies.items() if found[0]() is not None}
            while len(self._copies) >= MANY:  # the oldest: a script that keeps all that it casts
                del self._copies[next(iter(self._copies))]
        came = StorageWeakRef(result.untyped_storage()) if _storage(result) else None
        self._copies[id(result)] = weakref.ref(result), tied, _version(result), came

    def _own(self, tensor: Tensor) -> Tied | None:
        """Of a tensor that is no view of another one that is known."""
        newest = self.newest
        batch, came = None, 0
        if newest is not None:
            for held in newest[3]:
                if held is tensor or (type(held) is not Tensor and any(part is tensor for part in tensors_of(held))):
                    batch, storage = Batch(*newest), newest[4].get(id(tensor))
                    came = storage._cdata if storage is not None else 0
                    break
        if batch is None:
            older = self._older.get(id(tensor))
            if older is not None and older[0]() is tensor:
                batch, came = older[1], older[2].cdata if older[2] is not None else 0
        if batch is not None:
            layout = batch_first(tensor.shape)
            if isinstance(batch.drawn, list) and layout is not None and layout.rows != len(batch.drawn):
                return None  # its first axis is not that of the samples
            fresh = batch.loader is None or tensor.is_inference() or batch.loader.is_fresh(tensor)
            fresh = fresh and _storage(tensor) == came
            return Tied(batch, 0, layout, "" if fresh else CHANGED) if layout is not None else None
        copy = self._copies.get(id(tensor))
        if copy is None or copy[0]() is not tensor:
            return None
        same = _storage(tensor) == (copy[3].cdata if copy[3] is not None else 0)
        return copy[1] if same and _version(tensor) == copy[2] else copy[1]._replace(doubt=CHANGED)

    def computed(self, rows: int) -> Tie:
        """Of a loss that is of no batch that is known: its rows are samples without an index if they are as many.

        As many as the newest batch has of the loader that is under way. A vector that fits no batch is never spread
        over samples: raises :class:`Unreadable`.
        """
        if self.newest is None:
            return Tie(None, -1, None, NO_LOADER)
        newest = Batch(*self.newest)
        batch: Batch | None = newest
        if newest.loader is not None and not newest.loader.running:  # validation is over; training goes on
            batch = next((loader.last for loader in reversed(self._loaders) if loader.running), None)
        if batch is None:
            loader = newest.loader
            if loader is not None and loader.trained >= 0 and loader.taken + (self.tied is not None) < loader.delivered:
                _tie(newest, rows, 0, COMPUTED)  # it is one batch ahead, and came to its end
            return Tie(None, -1, None, COMPUTED)
        return _tie(batch, rows, 0, COMPUTED)


def is_untouched(tensor: Tensor, newest: tuple[Any, ...]) -> bool:
    """Whether a tensor of the newest batch is as it came, where all of that batch came with one version."""
    storage = newest[4].get(id(tensor))
    return (
        tensor._version in newest[0].fresh and storage is not None and tensor.untyped_storage()._cdata == storage._cdata
    )  # fmt: skip


def _storage(tensor: Tensor) -> int:
    """Tells its storage from all that there are; 0 where it has none."""
    return tensor.untyped_storage()._cdata if has_storage(tensor) else 0


def _version(tensor: Tensor) -> int:
    """How often it was written to; inference mode does not count."""
    return -1 if tensor.is_inference() else tensor._version


def in_order(layout: Layout, before: Sequence[int], after: Sequence[int], args: tuple[Any, ...]) -> Layout | None:
    """Moved, cast or reshaped: elements keep their order."""
    return layout


def _padded(layout: Layout, before: Sequence[int], after: Sequence[int], args: tuple[Any, ...]) -> Layout | None:
    sides: Any = args[1] if len(args) > 1 else ()
    moved = {len(before) - 1 - place // 2 for place, side in enumerate(sides) if side}
    return carried(layout, before, after, lambda axis: -1 if axis in moved else axis)


def _entries(layout: Layout, before: Sequence[int], after: Sequence[int], args: tuple[Any, ...]) -> Layout | None:
    return leading(layout, before, after, len(before))


MADE: dict[str, How] = {"pad": _padded, "one_hot": _entries}
"""How the samples lie in what a function made, by its name; :func:`in_order` where it is not here."""


def name_samples(tied: Tied) -> Tie:
    """The samples that a tied tensor's rows are; :class:`Unreadable` if the batch has not as many."""
    batch, start, layout, doubt = tied
    return _tie(batch, layout.rows, start, doubt, part=layout.rows < _size(batch))


def _size(batch: Batch) -> int:
    return len(batch.drawn) if isinstance(batch.drawn, list) else 1 << 62


def _tie(batch: Batch, rows: int, start: int, doubt: str, *, part: bool = False) -> Tie:
    """Rows ``start`` to ``start + rows`` of that batch; with ``part`` they may be fewer than it has."""
    loader, epoch, drawn, held, _ = batch
    if not isinstance(drawn, list) or not drawn or drawn[0] is None:
        sizes = {tensor.shape[0] for tensor in tensors_of(held) if tensor.dim()}
        if sizes and rows not in sizes and not part:
            raise Unreadable(f"the loss has {rows} rows for a batch of {max(sizes)}: they are not samples")
        return Tie(loader, epoch, None, doubt or NOT_INTEGERS, "index", drawn)
    if len(drawn) != rows and not part:
        raise Unreadable(f"the loss has {rows} rows for a batch of {len(drawn)}: they are not samples")
    doubt = doubt or (loader.doubt if loader is not None else "")
    named: Any = None if doubt else drawn[start : start + rows]
    return Tie(loader, epoch, named, doubt, getattr(drawn, "identity", "index"), drawn)
