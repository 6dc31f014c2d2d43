"""Loaders of the script, as far as we know them: what they deliver, their epochs, and the order of their rows.

A loader may run in a thread of the script's while losses are computed in another: what is known of the newest batch is
one tuple, which is replaced as a whole.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, strided
from torch.nn import Parameter
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, default_collate, default_convert
from torch.utils.data.dataloader import (
    _DatasetKind,  # pyright: ignore[reportPrivateUsage]
    _InfiniteConstantSampler,  # pyright: ignore[reportPrivateUsage]
)

from onthefly.capture.datasets import Numbering, batches_of, fetch_of
from onthefly.capture.quiet import DisableTorchFunction, function_modes
from onthefly.capture.streams import NOT_BATCHED, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.capture.batches import RecentBatches

MAX_TENSORS = 64
"""Tensors remembered of one batch; a dictionary of a language model has four."""

MAX_WRITTEN = 256
"""Tensors remembered whose version counters are their own, until dead ones are swept."""

_PLAIN = {Tensor}
_storage_of = Tensor.untyped_storage

UNPROVEN = "a collate_fn of the script's own may reorder or drop samples"
FETCHED = "the data set fetches whole batches (__getitems__), perhaps in an order of its own"


class Batch(NamedTuple):
    """One delivered batch. A plain tuple with these fields where there is one for each step."""

    loader: LoaderRecord | None
    """None where the script drew the samples itself."""
    epoch: int
    drawn: Any
    """Indices in the root data set: a list. Of a stream: :class:`~onthefly.capture.streams.Places` or ``Keys``. Or
    something else, where they are not known."""
    held: tuple[Any, ...]
    """What it is made of; empty once that was let go: we keep nobody's data alive."""
    storages: dict[int, Any] = {}  # noqa: RUF012 - the empty one is never written to
    """The storage that each tensor of ``held`` came with, by the tensor's ``id``. Held, since addresses repeat."""


class LoaderRecord:
    """One DataLoader of the script, as far as we know it; holds no reference to its data."""

    def __init__(self, number: int, loader: Any, recent: RecentBatches, finished: Callable[[], None]) -> None:
        self.name = f"loader{number}"
        self.epoch = 0
        """Finished iterators of this loader; one that was left counts when the next begins, if a loss came of it."""
        self.trained = -1
        """The last epoch that a loss was seen of."""
        self.delivered = self.taken = 0
        """Batches that came, and losses that were of one."""
        self.doubt = ""
        """Why rows of a batch may not come in the order of its indices; empty: they do."""
        self.last: Batch | None = None
        """Its newest batch, without its data, while another loader's is the newest of all."""
        self.running = False
        """An iterator has delivered, and has not come to its end."""
        self.fresh: frozenset[int] = frozenset()
        """Version counters that tensors of its batches have when they arrive (those from workers do not begin at 0)."""
        self._written: dict[int, tuple[Callable[[], Tensor | None], int]] = {}
        """Tensors that arrived with a higher one, by their ``id``."""
        self._recent = recent
        self._finished = finished
        self._form: Any = True
        """Where a batch has its rows (:data:`onthefly.capture.order.values.Form`)."""
        self._judged: Any = lambda: None
        """The collate function that the form is proven of: a weak reference."""
        self._streams = False
        self._iterator: Any = lambda: None
        """The newest, until it has come to its end: a weak reference."""
        self._workers: Any = lambda: None
        """The iterator whose workers go on from epoch to epoch: a weak reference."""
        self.renew(loader)

    def renew(self, loader: Any) -> None:
        """Look again at what the loader is made of: at each new iterator."""
        if self.running and self.epoch in (self.trained, self._recent.tied_epoch(self)):
            self._end()
        workers = loader._iterator if loader.num_workers and loader.persistent_workers else None
        if workers is None or self._workers() is not workers:
            self.numbering = Numbering(loader.dataset, copied=loader.num_workers > 0)
            self._workers = weakref.ref(workers) if workers is not None else lambda: None
        self._direct = self.numbering.direct
        self._streams = loader._dataset_kind == _DatasetKind.Iterable
        self._judge(loader)

    def _judge(self, loader: Any) -> None:
        """Whether the rows of its batches are in the order of its indices, and where a batch has them."""
        collate, batched = loader.collate_fn, loader._auto_collation
        fetch: Any = None
        if not self._streams:
            fetch = fetch_of(loader.dataset) if batched else batches_of(loader.dataset)
        self.doubt, self._form = "", True
        if fetch is False:
            self.doubt = FETCHED
        elif self._streams and not batched:
            self.doubt = NOT_BATCHED
        elif fetch is not None or collate is not _usual(batched=batched):
            self._prove(loader, collate, fetch, batched=batched)

    def _prove(self, loader: Any, collate: Any, fetch: Any, *, batched: bool) -> None:
        # Imported where it is needed: most scripts have no collate function of their own.
        from onthefly.capture.order.proof import prove

        if self._judged() is not collate or fetch is not None:
            self._proof = prove(collate, fetch, tree=not batched and fetch is None)
            try:
                self._judged = weakref.ref(collate)
            except TypeError:  # it has no room for one
                self._judged = lambda: None
        proof = self._proof
        own = FETCHED if fetch is not None and collate is _usual(batched=batched) else UNPROVEN
        self.doubt, self._form = proof.doubt and f"{own}: {proof.doubt}", proof.form
        sizes = {loader.batch_size, getattr(loader.batch_sampler, "batch_size", None)} - {None}
        if proof.unpacked and (not sizes or sizes & proof.unpacked):
            self.doubt = f"{UNPROVEN}: it unpacks a batch into as many names as that may have samples"

    def begin(self, iterator: Any) -> None:
        """This iterator is the one that delivers from now on."""
        self._iterator = weakref.ref(iterator)

    @property
    def iterator(self) -> Any:
        """The newest, until it has come to its end; else None."""
        return self._iterator()

    @property
    def under_way(self) -> bool:
        """Whether an iterator is there that has not come to its end."""
        return self._iterator() is not None

    def stream(self, workers: int) -> Stream | None:
        """Tells an iterator of this loader the places of its samples; None where they have indices."""
        return Stream(self, workers) if self._streams else None

    def rows_of(self, data: Any) -> list[Tensor]:
        """The tensors of a batch that have a row a sample."""
        return tensors_of(data) if self._form is True else tensors_in(self._form, data)

    def field(self, data: Any, name: str) -> Any:
        """What a batch, a dictionary, has under that name, if that has an entry a sample in their order; else None."""
        if isinstance(data, Mapping) and (self._form is True or entries_in(self._form, name)):
            return data.get(name)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return None

    def deliver(self, drawn: Any, data: Any) -> None:
        """A batch reached the script, made from these indices of the loader's data set."""
        self.delivered += 1
        recent = self._recent
        newest = recent.newest
        if newest is not None:
            if newest is recent.tied:
                newest[0].used(newest[1])
                recent.tied = None
            else:
                recent.retire(newest)
            if newest[0] is not self:
                recent.take_over(self, newest)
        if not self._direct and type(drawn) is list and drawn and drawn[0] is not None:
            drawn = self.numbering.root(drawn)
        if self._form is not True:
            self.running = True
            held = self._arrived(tensors_in(self._form, data))
            recent.newest = (self, self.epoch, drawn, held, storages_of(held))
            return
        if not self.running:
            self.running = True
            with DisableTorchFunction():
                self.fresh = frozenset(tensor._version for tensor in tensors_of(data) if not tensor.is_inference())
        kind = type(data)
        # A copy of the container, since scripts pop labels out of theirs.
        if (kind is list or kind is tuple) and len(data) <= MAX_TENSORS:
            held = tuple(data)
            storages: dict[int, Any] | None = None
            if set(map(type, held)) == _PLAIN and not function_modes():
                try:
                    storages = dict(zip(map(id, held), map(_storage_of, held)))
                except (NotImplementedError, RuntimeError):  # a sparse one has none
                    storages = None
            recent.newest = (self, self.epoch, drawn, held, storages_of(held) if storages is None else storages)
        else:
            found = tensors_of(data)
            recent.newest = (self, self.epoch, drawn, tuple(found), storages_of(found))

    def used(self, epoch: int) -> None:
        """A loss was of one of its batches, of that epoch."""
        self.trained = epoch
        self.taken += 1

    def _arrived(self, tensors: list[Tensor]) -> tuple[Tensor, ...]:
        """Note how often a collate function wrote into each of them: into some once an item, into others never."""
        with DisableTorchFunction():
            counted = [(tensor, tensor._version) for tensor in tensors if not tensor.is_inference()]
        least = min([*(version for _, version in counted), *self.fresh], default=0)
        self.fresh = frozenset((least,))
        for tensor, version in counted:
            if version != least:
                self._written[id(tensor)] = weakref.ref(tensor), version
        if len(self._written) > MAX_WRITTEN:
            self._written = {key: found for key, found in self._written.items() if found[0]() is not None}
        return tuple(tensors)

    def is_fresh(self, tensor: Tensor) -> bool:
        """Whether a tensor of a batch is as it was when it arrived."""
        if tensor._version in self.fresh:
            return True
        found, version = self._written.get(id(tensor), (lambda: None, -1))
        return found() is tensor and tensor._version == version

    def finish(self) -> None:
        """The iterator is exhausted: that is an epoch of this loader."""
        self._iterator = lambda: None
        self._end()

    def _end(self) -> None:
        self.running = False
        self.epoch += 1
        self._finished()


class Made(NamedTuple):
    """A loader of the script, while its data set lives."""

    loader: Callable[[], Any]
    owned: tuple[Callable[[], Any], ...]
    """Its data set, and the samplers that the script gave it. All of these refer weakly."""
    kind: tuple[Any, ...]
    record: LoaderRecord


class Loaders:
    """All loaders of the script, and their names.

    Many scripts make a new one for each epoch, often where they iterate it (``for x, y in DataLoader(...)``), so that
    it is gone before its first batch has come. One of the same data set, batch size and order that comes when the old
    one is through is the same to the user, and its epochs go on.
    """

    def __init__(self, recent: RecentBatches, finished: Callable[[], None]) -> None:
        """``finished()`` is called at the end of each epoch of any of them."""
        self._recent = recent
        self._finished = finished
        self._count = 0
        self._records: weakref.WeakKeyDictionary[Any, LoaderRecord] = weakref.WeakKeyDictionary()
        self._made: list[Made] = []

    def living(self) -> list[tuple[str, Any]]:
        """Name and object of those that are there, the one that is trained on first.

        Of one that nobody holds but the loop over it (``for batch in DataLoader(...)``) the iterator.
        """
        newest = self._recent.newest
        known = [(record, loader) for loader, record in self._records.items()]
        known += [(made.record, made.record.iterator) for made in self._made if made.loader() is None]
        known = [one for one in known if one[1] is not None]
        known.sort(key=lambda one: (one[0] is (newest and newest[0]), one[0].taken))
        return [(record.name, loader) for record, loader in reversed(known)]

    def record(self, loader: Any) -> LoaderRecord:
        """What is known of a loader, at each new iterator of it."""
        record = self._records.get(loader)
        if record is not None:
            record.renew(loader)
            return record
        owned, kind = _made_of(loader)
        record = next((made.record for made in self._made if _is_again(made, owned, kind)), None)
        if record is not None:
            record.renew(loader)
        else:
            record = LoaderRecord(self._count, loader, self._recent, self._finished)
            self._count += 1
        self._records[loader] = record
        self._made = [made for made in self._made if made.owned[0]() is not None and made.record is not record]
        with contextlib.suppress(TypeError):  # a list cannot be referred to weakly, and is not to be held
            self._made.append(Made(weakref.ref(loader), tuple(map(weakref.ref, owned)), kind, record))
        return record


def _is_again(made: Made, owned: tuple[Any, ...], kind: tuple[Any, ...]) -> bool:
    return (
        made.kind == kind and made.loader() is None and not made.record.under_way
        and all(before() is one for before, one in zip(made.owned, owned))
    )  # fmt: skip


def _made_of(loader: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What two loaders share if one is the other made anew: objects of the script's, and what else is alike."""
    batches, sampler = loader.batch_sampler, loader.sampler
    own = [one for one in (batches, sampler) if one is not None and type(one) not in _MADE_BY_LOADERS]
    return (loader.dataset, *own), (
        type(loader), loader.batch_size, loader.drop_last, type(batches), type(sampler)
    )  # fmt: skip


_MADE_BY_LOADERS = (BatchSampler, RandomSampler, SequentialSampler, _InfiniteConstantSampler)


def _usual(*, batched: bool) -> Any:
    """The collate function of a loader that was given none."""
    return default_collate if batched else default_convert


def tensors_of(data: Any) -> list[Tensor]:
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


def storages_of(data: Any) -> dict[int, Any]:
    """The storage of each tensor of a batch, by the tensor's ``id``."""
    with DisableTorchFunction():  # modes of the script's would be told
        return {id(tensor): tensor.untyped_storage() for tensor in tensors_of(data) if has_storage(tensor)}


def has_storage(tensor: Tensor) -> bool:
    """Whether its storage can be told: not of a sparse one, or of a class of the script's."""
    return type(tensor) in (Tensor, Parameter) and tensor.layout is strided


def tensors_in(form: Any, data: Any) -> list[Tensor]:
    """Those that a proven form says have a row an item."""
    from onthefly.capture.order.forms import chosen

    return tensors_of(chosen(form, data))


def entries_in(form: Any, name: str) -> bool:
    """Whether a form has an entry an item under that name."""
    from onthefly.capture.order.forms import entries

    return entries(form, name)
