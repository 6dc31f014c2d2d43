"""What a data set does with the index that a loader gives it: which root index that is, and what fetches batches.

Only what is known for certain counts: a ``Subset`` of torch's or a class derived from it, or one whose ``__getitem__``
is, instruction for instruction, what a subset's must be. Whatever else has ``dataset`` and ``indices`` may use them in
a way of its own; it is then itself the root, and its own numbers are the samples' (the design would unwrap it).
"""

from __future__ import annotations

import weakref
from operator import itemgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any

from torch.utils.data import StackDataset, Subset, TensorDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IN_ORDER = {("datasets.arrow_dataset", "Dataset")}
"""Classes that fetch a whole batch at once (``__getitems__``) and are known to keep its order, by module and name."""


class _Plain:
    """What a subset must be."""

    dataset: Any
    indices: Any

    def __getitem__(self, place: Any) -> Any:
        return self.dataset[self.indices[place]]


def nested(dataset: Any) -> Iterator[Any]:
    """The subsets around the root data set, outermost first."""
    while _is_subset(dataset):
        yield dataset
        dataset = dataset.dataset


def root_of(dataset: Any) -> Any:
    """The data set within all subsets."""
    while _is_subset(dataset):
        dataset = dataset.dataset
    return dataset


def _is_subset(dataset: Any) -> bool:
    if isinstance(dataset, Subset):
        return True
    if not (hasattr(dataset, "dataset") and hasattr(dataset, "indices")):
        return False
    code: Any = getattr(getattr(type(dataset), "__getitem__", None), "__code__", None)
    plain = _Plain.__getitem__.__code__
    return code is not None and (code.co_code, code.co_names) == (plain.co_code, plain.co_names)


def fetch_of(dataset: Any) -> Any:
    """What fetches a whole batch at once, and whether it keeps the order has to be shown; None: it keeps it.

    It does where items are fetched one by one, and by a class that is known. Otherwise the data set and the function
    of its class, or False where there is no such function.
    """
    if isinstance(dataset, Subset) and type(dataset).__getitems__ is Subset.__getitems__:
        return fetch_of(dataset.dataset)
    if type(dataset) is StackDataset:
        parts: Any = dataset.datasets
        fetches = map(fetch_of, parts.values() if isinstance(parts, dict) else parts)
        return None if all(fetch is None for fetch in fetches) else False
    fetch = getattr(dataset, "__getitems__", None)
    kind: type[Any] = type(dataset)
    if not fetch:
        return None
    if (kind.__module__, kind.__name__) in IN_ORDER:
        # A transformation of the script's own may be given whole batches.
        return None if getattr(dataset, "_format_type", None) != "custom" else False
    function = getattr(kind, "__getitems__", None)
    return (dataset, function) if isinstance(function, FunctionType) and "__getitems__" not in vars(dataset) else False


def batches_of(dataset: Any) -> Any:
    """The same for a data set that is indexed with a list (``batch_size=None``): None if it is known to give rows."""
    if isinstance(dataset, Subset) and type(dataset).__getitem__ is Subset.__getitem__:
        return batches_of(dataset.dataset)
    kind: type[Any] = type(dataset)
    if kind is TensorDataset:
        return None
    if (kind.__module__, kind.__name__) in IN_ORDER:
        return None if getattr(dataset, "_format_type", None) != "custom" else False
    function = getattr(kind, "__getitem__", None)
    return (dataset, function) if isinstance(function, FunctionType) else False


def weakly(one: Any) -> Callable[[], Any]:
    """Gives the object, or None when it is gone; one that cannot be referred to weakly (a list) is held."""
    try:
        return weakref.ref(one)
    except TypeError:
        return lambda: one


class Numbering:
    """How the indices that a loader draws become those of the root data set, which is not kept alive.

    In this process the tables are looked up when a batch is fetched. Workers have copies, which are as the tables were
    when the workers started: so are ours.
    """

    def __init__(self, dataset: Any, *, copied: bool) -> None:
        """``copied``: workers fetch."""
        subsets = list(nested(dataset))
        self._subsets = [weakly(subset) for subset in subsets]
        self._tables = [_copy(subset.indices) for subset in subsets] if copied else None
        self._root = weakly(root_of(dataset))

    @property
    def direct(self) -> bool:
        """The loader's indices are the root's."""
        return not self._subsets

    def root(self, drawn: list[Any]) -> list[Any] | None:
        """Indices in the root data set; None where they cannot be told."""
        try:
            for table in self._tables if self._tables is not None else [subset().indices for subset in self._subsets]:
                drawn = _pick(table, drawn)
        except (TypeError, LookupError, AttributeError):  # something that is no table of numbers, or is gone
            return None
        return drawn

    def from_the_start(self, indices: list[Any]) -> list[Any] | None:
        """The same indices without those that count from the end; None where the end cannot be told."""
        try:
            size = len(self._root())
            return [index if index >= 0 else index + size for index in indices]
        except TypeError:  # no size, no numbers, or nothing any more
            return None


def _copy(table: Any) -> Any:
    return table.tolist() if hasattr(table, "tolist") else list(table)


def _pick(table: Any, places: list[Any]) -> list[Any]:
    """``[table[p] for p in places]``; a third of the time for lists."""
    if len(places) == 1:
        return [table[places[0]]]
    return list(itemgetter(*places)(table))
