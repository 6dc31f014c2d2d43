"""The samples of one of the script's loaders, fetched anew in their order: the loader itself is not asked for any.

Its sampler and its generator stay where they are. Batches are fetched by torch's own fetchers, in this process, with
the loader's collate function and batch size; a short last one is there, whatever ``drop_last`` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch.utils.data import SubsetRandomSampler
from torch.utils.data._utils.fetch import _IterableDatasetFetcher, _MapDatasetFetcher  # pyright: ignore[reportPrivateUsage]
from torch.utils.data.dataloader import _DatasetKind  # pyright: ignore[reportPrivateUsage]

from onthefly.capture.datasets import Numbering
from onthefly.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

BATCH_SIZE = 64
"""Where a loader has none of its own (a batch sampler of the script's)."""


class Batch(NamedTuple):
    """One batch."""

    drawn: Any
    """Indices in the loader's data set; None of a stream."""
    data: Any
    rows: int
    """Of these, how many count: a batch may be filled up with others."""


class Split:
    """What a loader goes through."""

    def __init__(self, loader: Any, name: str, samples: Collection[int] = ()) -> None:
        """``samples``: only these, by their index in the root data set; empty: all of them."""
        self.loader, self.name = loader, name
        self.streams = loader._dataset_kind == _DatasetKind.Iterable
        self.size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or BATCH_SIZE
        self.batched = loader._auto_collation
        if not self.batched:
            raise Refused(f"{name} gives what its data set has made batches of already: these have no samples",
                          "register a function that evaluates them")  # fmt: skip
        self._indices: list[int] = []
        if self.streams:
            if samples:
                raise Refused(f"the samples of {name} come as a stream: none of them can be asked for")
            if _goes_on(loader.dataset):
                raise Refused(f"the data set of {name} is an iterator itself: reading it would take its samples away")
            return
        self._indices = _drawn_from(loader)
        if samples:
            self._indices = self._chosen(set(samples))

    @property
    def count(self) -> int:
        """How many samples; 0 where that is not known before the end."""
        return len(self._indices)

    @property
    def indices(self) -> list[int]:
        """Of the samples, in the loader's data set; none of a stream."""
        return list(self._indices)

    def fetch(self, drawn: list[int]) -> Any:
        """A batch of these."""
        return _MapDatasetFetcher(self.loader.dataset, True, self.loader.collate_fn, False).fetch(drawn)

    def batches(self) -> Iterator[Batch]:
        """All of them, in their order."""
        loader = self.loader
        if self.streams:
            fetcher = _IterableDatasetFetcher(loader.dataset, True, loader.collate_fn, False)
            while True:
                try:
                    data = fetcher.fetch([None] * self.size)
                except StopIteration:
                    return
                yield Batch(None, data, 0)
        for first in range(0, len(self._indices), self.size):
            drawn = self._indices[first : first + self.size]
            yield Batch(drawn, self.fetch(drawn), len(drawn))

    def filled_up(self, batch: Batch, rows: int) -> Batch:
        """The same samples, and others behind them up to so many; all of them where there are fewer."""
        missing = rows - len(batch.drawn)
        others = [self._indices[place % len(self._indices)] for place in range(missing)]
        drawn = [*batch.drawn, *others]
        return Batch(drawn, self.fetch(drawn), batch.rows)

    def _chosen(self, wanted: set[int]) -> list[int]:
        root = Numbering(self.loader.dataset, copied=False).root(list(self._indices))
        if root is None:
            raise Refused(f"the samples of {self.name} have no numbers that are known")
        found = [index for index, number in zip(self._indices, root) if number in wanted]
        if not found:
            raise Refused(f"none of these samples is in {self.name}")
        return found


def _drawn_from(loader: Any) -> list[int]:
    """What the loader can draw: what its sampler is a part of, where that is known, else all of the data set."""
    sampler = loader.sampler if loader.sampler is not None else None
    inner = getattr(loader.batch_sampler, "sampler", sampler)
    if isinstance(inner, SubsetRandomSampler):
        return [int(index) for index in inner.indices]
    try:
        return list(range(len(loader.dataset)))
    except TypeError as error:
        raise Refused(f"the data set of the loader has no length: {error}") from error


def _goes_on(dataset: Any) -> bool:
    """Whether iterating it again takes up where it was left."""
    return hasattr(type(dataset), "__next__")
