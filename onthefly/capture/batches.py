"""Batches that reached the script, and which of them a tensor belongs to.

A tensor is tied to a batch by being one of its tensors or a view of one: by identity, never by address (addresses
repeat) and never by "the newest batch" (right in 2 of 12 steps where a framework fetches one ahead). Tied to a batch is
not tied to rows: a :class:`Tie` names samples only where the order of rows is proven.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.utils.data import default_collate

from onthefly.capture.reading import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REMEMBERED = 16
"""Batches looked through for a loss's tensors: more than any loop holds at once."""

MAX_TENSORS = 64
"""Tensors remembered of one batch; a dictionary of a language model has four."""

UNORDERED = "a collate_fn of the script's own may reorder or drop samples"
CROOKED = "the target is a view of the batch in another order"
COMPUTED = "the loss's target is not a tensor of a batch (it was copied or computed)"
NOT_INTEGERS = "the loader's indices are not integers"
NO_LOADER = "the script uses no DataLoader"


class LoaderRecord:
    """One DataLoader of the script, as far as we know it; holds no reference to it or to its data."""

    def __init__(self, number: int, loader: Any, recent: RecentBatches, finished: Callable[[], None]) -> None:
        self.name = f"loader{number}"
        self.epoch = 0
        """Finished iterators of this loader."""
        self.ordered = True
        """Rows of a batch come in the order of its indices."""
        self.plain = True
        """They do, and its indices are those of the root dataset."""
        self._recent = recent
        self._finished = finished
        self.nested: list[weakref.ref[Any]] = []
        """The datasets around the root one, outermost first."""
        self.renew(loader)

    def renew(self, loader: Any) -> None:
        """Look again at what the loader is made of: at each new iterator."""
        self.nested = [weakref.ref(dataset) for dataset in _nested(loader.dataset)]
        self.ordered = loader.collate_fn is default_collate
        self.plain = self.ordered and not self.nested

    def deliver(self, drawn: Any, data: Any) -> None:
        """A batch reached the script, made from these indices of the loader's dataset."""
        recent = self._recent
        if not recent.tied:
            recent.retire()
        recent.loader, recent.epoch, recent.drawn, recent.tied = self, self.epoch, drawn, False
        kind = type(data)
        # A copy of the container, since scripts pop labels out of theirs.
        if (kind is list or kind is tuple) and len(data) <= MAX_TENSORS:
            recent.held = tuple(data)
        else:
            recent.held = tuple(_tensors(data))

    def finish(self) -> None:
        """The iterator is exhausted: that is an epoch of this loader."""
        self.epoch += 1
        self._finished()

    def root(self, drawn: list[Any]) -> list[Any] | None:
        """Indices in the root dataset; None where they cannot be told."""
        for known in self.nested:
            subset = known()
            if subset is None:
                return None
            try:
                drawn = _pick(subset.indices, drawn)
            except (TypeError, LookupError):  # something else that happens to have `dataset` and `indices`
                return None
        return drawn


class Batch(NamedTuple):
    """One delivered batch, without its data: we keep nobody's data alive."""

    loader: LoaderRecord
    epoch: int
    drawn: Any
    """What the sampler gave: a list of indices in the loader's dataset, or something else."""
    known: tuple[weakref.ref[Tensor], ...]
    """Its tensors."""

    def tensors(self) -> list[Tensor]:
        """Its tensors that are alive."""
        return [tensor for known in self.known if (tensor := known()) is not None]


class Tie(NamedTuple):
    """What is known of where a loss's rows come from."""

    loader: LoaderRecord | None
    epoch: int
    """Of that loader; -1 where there is none."""
    indices: list[Any] | None
    """In the root dataset, one a row; None where the order of rows is not proven."""
    doubt: str
    """Why samples have no index; empty if they do."""


class RecentBatches:
    """The newest batch of all loaders, those before it that no loss was seen of, and the search among them.

    The newest one is held as it was delivered, which the script does as well while it computes the loss: a reference to
    each tensor costs 4 us a step. It is let go when the next one comes or a block is sent, whichever is first. Its
    fields stand here, and not in an object of its own, because there is one for each step.
    """

    __slots__ = ("_older", "drawn", "epoch", "held", "loader", "tied")

    def __init__(self) -> None:
        self._older: deque[Batch] = deque(maxlen=REMEMBERED)
        self.loader: LoaderRecord | None = None
        """Of the batch delivered last; None before the first."""
        self.epoch = -1
        self.drawn: Any = None
        self.held: tuple[Any, ...] = ()
        """What the newest batch is made of; empty once it was let go."""
        self.tied = True
        """A loss was plainly the newest batch's, or it stands among the older ones: nothing is lost with it."""

    def retire(self) -> None:
        """Let the newest batch go, and remember it among the older ones."""
        if self.held and self.loader is not None:
            known = tuple(map(weakref.ref, _tensors(self.held)))
            self._older.append(Batch(self.loader, self.epoch, self.drawn, known))
        self.held, self.tied = (), True

    def tie(self, target: Tensor, rows: int) -> Tie:
        """Find the batch that a loss's target belongs to, and say whether its rows are samples, and which.

        A target of no batch may still be of the newest one (copied, cast): its rows are then samples without an index
        if they are as many. A vector that fits no batch is never spread over samples (a penalty on weights): raises
        :class:`Unreadable`.
        """
        if self.loader is None:
            return Tie(None, -1, None, NO_LOADER)
        newest = Batch(self.loader, self.epoch, self.drawn, ())
        known = [(newest, _tensors(self.held)), *((batch, batch.tensors()) for batch in reversed(self._older))]
        for batch, tensors in known:
            if any(tensor is target for tensor in tensors):
                return _tie(batch, rows, batch.loader.ordered, UNORDERED)
        base = target._base
        for batch, tensors in known:
            for tensor in tensors:
                if tensor is base:
                    straight = _straight(target, tensor)
                    return _tie(batch, rows, straight and batch.loader.ordered, UNORDERED if straight else CROOKED)
        return _tie(newest, rows, False, COMPUTED)


def _tie(batch: Batch, rows: int, proven: bool, doubt: str) -> Tie:
    loader, epoch, drawn, _ = batch
    if type(drawn) is not list or not drawn or drawn[0] is None:  # a stream's indices are all None
        return Tie(loader, epoch, None, NOT_INTEGERS)
    if len(drawn) != rows:
        raise Unreadable(f"the loss has {rows} rows for a batch of {len(drawn)}: they are not samples")
    indices = loader.root(drawn) if proven else None
    return Tie(loader, epoch, indices, "" if indices is not None else NOT_INTEGERS if proven else doubt)


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
        elif isinstance(value, Mapping):
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
