"""Batches that reached the script, and which of them a tensor belongs to.

A tensor is tied to a batch by being one of its tensors or a view of one: by identity, never by address (addresses
repeat) and never by "the newest batch" (right in 2 of 12 steps where a framework fetches one ahead). Tied to a batch is
not tied to rows: a :class:`Tie` names samples only where the order of rows is proven.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from torch import Tensor

from onthefly.capture.loaders import Batch, LoaderRecord, tensors_of
from onthefly.capture.reading import Unreadable

MANY = 256

CROOKED = "the target is a view of the batch in another order"
CHANGED = "the target was changed in place after the loader gave it"
COMPUTED = "the loss's target is not a tensor of a batch (it was copied or computed)"
NOT_INTEGERS = "the loader's indices are not integers"
NO_LOADER = "the script uses no DataLoader"


class Tie(NamedTuple):
    """What is known of where a loss's rows come from."""

    loader: LoaderRecord | None
    epoch: int
    """Of that loader; -1 where there is none."""
    indices: list[Any] | None
    """In the root data set, one a row; None where the order of rows is not proven."""
    doubt: str
    """Why samples have no index; empty if they do."""


class RecentBatches:
    """The newest batch of all loaders, those before it that no loss was seen of, and the search among them.

    The newest one is held as it was delivered, which the script does as well while it computes the loss: a reference to
    each tensor costs 4 us a step. It is let go when the next one comes or a block is sent, whichever is first.
    """

    __slots__ = ("_loaders", "_most", "_older", "newest", "tied")

    def __init__(self) -> None:
        self.newest: tuple[Any, ...] | None = None
        """With the fields of :class:`Batch`; None before the first."""
        self.tied: tuple[Any, ...] | None = None
        """The batch that the last loss was plainly of: nothing is lost with it."""
        self._older: dict[int, tuple[weakref.ref[Tensor], Batch]] = {}
        """Batches that no loss was seen of, by ``id`` of each of their tensors; dead ones are swept now and then."""
        self._most = MANY
        """How many may be there until they are swept."""
        self._loaders: list[LoaderRecord] = []
        """In the order of their newest batches, but for the newest of all."""

    def retire(self, newest: tuple[Any, ...]) -> None:
        """Let the newest batch go, and remember it among the older ones."""
        loader, epoch, drawn, held = newest
        if held:
            batch, older = Batch(loader, epoch, drawn, ()), self._older
            for tensor in tensors_of(held):
                older[id(tensor)] = weakref.ref(tensor), batch
            if len(older) > self._most:
                # Not by callbacks of the references: an interrupt that came while one runs would be lost.
                self._older = {key: found for key, found in older.items() if found[0]() is not None}
                self._most = 2 * len(self._older) + MANY

    def let_go(self) -> None:
        """Hold the newest batch no longer; it is remembered as the others are."""
        newest = self.newest
        if newest is not None and newest[3]:
            self.retire(newest)
            let_go = (*newest[:3], ())
            if self.tied is newest:
                self.tied = let_go
            if self.newest is newest:
                self.newest = let_go

    def take_over(self, loader: LoaderRecord, newest: tuple[Any, ...]) -> None:
        """The newest batch is another loader's from now on."""
        before, epoch, drawn, _ = newest
        before.last = Batch(before, epoch, drawn, ())
        self._loaders = [*(known for known in self._loaders if known not in (before, loader)), before]

    def tied_epoch(self, loader: LoaderRecord) -> int:
        """The epoch of that loader in which the last loss was plainly its; -1 if it was another's."""
        return self.tied[1] if self.tied is not None and self.tied[0] is loader else -1

    def tie(self, target: Tensor, rows: int) -> Tie:
        """Find the batch that a loss's target belongs to, and say whether its rows are samples, and which.

        A target of no batch may still be of the newest one (copied, cast): its rows are then samples without an index
        if they are as many. A vector that fits no batch is never spread over samples: raises :class:`Unreadable`.
        """
        newest = self.newest
        if newest is None:
            return Tie(None, -1, None, NO_LOADER)
        batch = self._batch_of(target, newest)
        if batch is not None:
            return _tie(batch, rows, 0, "" if batch.loader.is_fresh(target) else CHANGED)
        base = target._base
        batch = self._batch_of(base, newest) if base is not None else None
        if batch is not None and base is not None:
            start = _first_row(target, base)
            if start >= 0:
                doubt = "" if batch.loader.is_fresh(base) else CHANGED
                return _tie(batch, rows, start, doubt, part=rows != base.shape[0])
            return _tie(batch, rows, 0, CROOKED)
        return self._computed(Batch(*newest), rows)

    def _batch_of(self, tensor: Tensor, newest: tuple[Any, ...]) -> Batch | None:
        for held in newest[3]:
            if held is tensor or (type(held) is not Tensor and any(part is tensor for part in tensors_of(held))):
                return Batch(*newest)
        found = self._older.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None

    def _computed(self, newest: Batch, rows: int) -> Tie:
        """Of a target that is of no batch: as many rows as the batch of the loader that is under way has samples."""
        batch: Batch | None = newest
        if not newest.loader.running:  # validation is over; training goes on
            batch = next((loader.last for loader in reversed(self._loaders) if loader.running), None)
        if batch is None:
            return Tie(None, -1, None, COMPUTED)
        tie = _tie(batch, rows, 0, COMPUTED)
        batch.loader.trained = batch.epoch
        return tie


def _tie(batch: Batch, rows: int, start: int, doubt: str, *, part: bool = False) -> Tie:
    """Rows ``start`` to ``start + rows`` of that batch; with ``part`` they may be fewer than it has."""
    loader, epoch, drawn, held = batch
    if type(drawn) is not list or not drawn or drawn[0] is None:
        sizes = {tensor.shape[0] for tensor in tensors_of(held) if tensor.dim()}
        if sizes and rows not in sizes and not part:
            raise Unreadable(f"the loss has {rows} rows for a batch of {max(sizes)}: they are not samples")
        return Tie(loader, epoch, None, doubt or NOT_INTEGERS)
    if len(drawn) != rows and not part:
        raise Unreadable(f"the loss has {rows} rows for a batch of {len(drawn)}: they are not samples")
    doubt = doubt or loader.doubt
    return Tie(loader, epoch, None if doubt else drawn[start : start + rows], doubt)


def _first_row(view: Tensor, origin: Tensor) -> int:
    """The row of the origin that the view begins with, where its rows are rows of the origin in their order; else -1.

    Both laid out row by row, with as many elements in each: all of them in another shape, or some that follow on each
    other (micro-batches).
    """
    if not (view.dim() and origin.dim() and view.is_contiguous() and origin.is_contiguous()):
        return -1
    count, total = view.shape[0], origin.shape[0]
    if not count or not total or view.numel() * total != origin.numel() * count:
        return -1
    size = origin.numel() // total
    start, rest = divmod(int(view.storage_offset()) - int(origin.storage_offset()), size) if size else (0, 0)
    return start if not rest and 0 <= start <= total - count else -1
