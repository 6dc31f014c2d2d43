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
"""The attribute of a loader's iterator that holds its :class:`Feed`, beside ``_onthefly_drawn``, the newest index list
of its sampler (a copy, since a batch sampler may reuse its list). They live and die with the iterator, which cannot be
pickled or copied, so that nobody meets them. (A dictionary of weak keys costs 0.6 us a look-up.)"""


class Source(Protocol):
    """Where deliveries of one loader go to (made by capture; opaque here)."""

    def deliver(self, drawn: Any, data: Any) -> None:
        """A batch reached the script."""

    def finish(self) -> None:
        """The iterator is exhausted."""


class Feed:
    """What one iterator of a loader has under way."""

    __slots__ = ("filed", "source")

    def __init__(self) -> None:
        self.source: Optional[Source] = None
        """None until the loader's ``__iter__`` returned (the first tasks are sent to workers before)."""
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
        begin = self._guard.around(self._begin)

        @functools.wraps(original)
        def __iter__(loader: Any) -> Any:
            iterator = original(loader)
            if slot.enabled:
                begin(iterator, loader)
            return iterator

        return __iter__

    def _wrap_next_index(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def _next_index(iterator: Any) -> Any:
            index = original(iterator)
            # Two plain lines that cannot fail, so no guard: this runs for every batch.
            if slot.enabled:
                iterator._onthefly_drawn = index.copy() if type(index) is list else index
            return index

        return _next_index

    def _wrap_try_put_index(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        file = self._guard.around(_file)

        @functools.wraps(original)
        def _try_put_index(iterator: Any) -> Any:
            if not slot.enabled:
                return original(iterator)
            task = iterator._send_idx
            result = original(iterator)
            if iterator._send_idx != task:
                file(iterator, task)
            return result

        return _try_put_index

    def _wrap_next_data(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        deliver, finish, meter = self._guard.around(_deliver), self._guard.around(_finish), self._meter

        @functools.wraps(original)
        def _next_data(iterator: Any) -> Any:
            if not slot.enabled:
                return original(iterator)
            start = perf_counter_ns()
            try:
                data = original(iterator)
            except StopIteration:
                finish(iterator)
                raise
            came = perf_counter_ns()
            deliver(iterator, data)
            meter.waiting_ns += came - start
            meter.ours_ns += perf_counter_ns() - came
            return data

        return _next_data

    def _begin(self, iterator: Any, loader: Any) -> None:
        _feed(iterator).source = self._open_source(loader)


def _feed(iterator: Any) -> Feed:
    feed: Feed | None = getattr(iterator, FEED, None)
    if feed is None:
        feed = Feed()
        setattr(iterator, FEED, feed)
    return feed


def _file(iterator: Any, task: int) -> None:
    feed = _feed(iterator)
    if task == 0:  # a persistent iterator starts its next epoch
        feed.filed.clear()
    feed.filed[task] = iterator._onthefly_drawn


def _deliver(iterator: Any, data: Any) -> None:
    feed: Feed = iterator._onthefly_feed
    if feed.source is not None:
        drawn = iterator._onthefly_drawn if iterator._num_workers == 0 else feed.arrived(iterator._task_info)
        feed.source.deliver(drawn, data)


def _finish(iterator: Any) -> None:
    feed = _feed(iterator)
    if feed.source is not None:
        feed.source.finish()
