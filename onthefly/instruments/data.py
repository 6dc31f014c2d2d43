"""Watches ``DataLoader``: which indices each delivered batch was made from, and how long the script waited for it.

Index lists are taken where the loader makes them, in the main process, never in a worker (a hook there would slow each
item): ``_next_index`` remembers what the sampler gave, ``_try_put_index`` files it under the number of the task that
was sent to a worker, and after ``_next_data`` the task that is gone from the loader's own table is the one that came.
That holds for any number of workers, ``in_order=False`` and persistent workers.
"""

from __future__ import annotations

import functools
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Optional, Protocol

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import (
    _BaseDataLoaderIter,  # pyright: ignore[reportPrivateUsage]
    _MultiProcessingDataLoaderIter,  # pyright: ignore[reportPrivateUsage]
    _SingleProcessDataLoaderIter,  # pyright: ignore[reportPrivateUsage]
)

from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.core.meter import Meter
    from onthefly.errors import Guard

FEED = "_onthefly_feed"
"""The attribute of a loader's iterator that holds its :class:`Feed`: it lives and dies with the iterator, which cannot
be pickled or copied, so that nobody meets it. (A dictionary of weak keys costs 0.6 us a look-up.)"""


class Source(Protocol):
    """Where deliveries of one loader go to (made by capture; opaque here)."""

    def deliver(self, indices: Any, data: Any) -> None:
        """A batch reached the script."""

    def finish(self) -> None:
        """The iterator is exhausted."""


class Feed:
    """What one iterator of a loader has under way."""

    __slots__ = ("drawn", "filed", "source")

    def __init__(self) -> None:
        self.source: Optional[Source] = None
        """None until the loader's ``__iter__`` returned (the first tasks are sent to workers before)."""
        self.drawn: Any = None
        """The newest index list from the sampler: a copy, since a batch sampler may reuse its list."""
        self.filed: dict[int, Any] = {}
        """Index lists by task, for batches that workers have under way."""

    def arrived(self, outstanding: dict[int, Any]) -> Any:
        """The index list of the task that was delivered: the one that the loader no longer has under way.

        None when that is not clear: a task whose worker raised is gone as well, and shows up with the next one.
        """
        gone = [task for task in self.filed if task not in outstanding]
        lists = [self.filed.pop(task) for task in gone]
        return lists[0] if len(lists) == 1 else None


class DataInstrument:
    """The slots in ``DataLoader`` and its iterators."""

    def __init__(self, open_source: Callable[[Any], Source], meter: Meter, guard: Guard) -> None:
        """``open_source(loader)`` gives where an iterator of that loader delivers to."""
        self._open_source = open_source
        self._meter = meter
        self._guard = guard
        self._slots = [
            Slot(DataLoader, "__iter__", self._wrap_iter),
            Slot(_BaseDataLoaderIter, "_next_index", self._wrap_next_index),
            Slot(_MultiProcessingDataLoaderIter, "_try_put_index", self._wrap_try_put_index),
            Slot(_SingleProcessDataLoaderIter, "_next_data", self._wrap_next_data),
            Slot(_MultiProcessingDataLoaderIter, "_next_data", self._wrap_next_data),
        ]

    def disarm(self) -> None:
        """Put back what was there."""
        for slot in reversed(self._slots):
            slot.restore()

    def _wrap_iter(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        guard, open_source = self._guard, self._open_source

        @functools.wraps(original)
        def __iter__(loader: Any) -> Any:  # noqa: N807
            iterator = original(loader)
            if slot.enabled:
                with guard:
                    _feed(iterator).source = open_source(loader)
            return iterator

        return __iter__

    def _wrap_next_index(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        guard = self._guard

        @functools.wraps(original)
        def _next_index(iterator: Any) -> Any:
            index = original(iterator)
            if slot.enabled:
                with guard:
                    _feed(iterator).drawn = index.copy() if type(index) is list else index
            return index

        return _next_index

    def _wrap_try_put_index(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        guard = self._guard

        @functools.wraps(original)
        def _try_put_index(iterator: Any) -> Any:
            task = iterator._send_idx
            result = original(iterator)
            if slot.enabled and iterator._send_idx != task:
                with guard:
                    feed = _feed(iterator)
                    if task == 0:  # a persistent iterator starts its next epoch
                        feed.filed.clear()
                    feed.filed[task] = feed.drawn
            return result

        return _try_put_index

    def _wrap_next_data(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        guard, meter = self._guard, self._meter

        @functools.wraps(original)
        def _next_data(iterator: Any) -> Any:
            if not slot.enabled:
                return original(iterator)
            start = perf_counter_ns()
            try:
                data = original(iterator)
            except StopIteration:
                with guard:
                    _finish(iterator)
                raise
            came = perf_counter_ns()
            meter.waiting_ns += came - start
            with guard:
                _deliver(iterator, data)
            meter.add_since(came)
            return data

        return _next_data


def _feed(iterator: Any) -> Feed:
    feed: Feed | None = getattr(iterator, FEED, None)
    if feed is None:
        feed = Feed()
        setattr(iterator, FEED, feed)
    return feed


def _deliver(iterator: Any, data: Any) -> None:
    feed = _feed(iterator)
    tasks = getattr(iterator, "_task_info", None)
    indices = feed.drawn if tasks is None else feed.arrived(tasks)
    if feed.source is not None:
        feed.source.deliver(indices, data)


def _finish(iterator: Any) -> None:
    feed = _feed(iterator)
    if feed.source is not None:
        feed.source.finish()
