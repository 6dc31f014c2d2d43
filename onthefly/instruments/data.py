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

from onthefly.errors import leave_frame_out
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

    __slots__ = ("_outstanding", "_source", "accept", "filed", "finish")

    def __init__(self) -> None:
        self.accept: Optional[Callable[[Any, Any], None]] = None
        """Takes what the sampler gave last and the batch that arrived; None until the loader's ``__iter__`` returned
        (the first tasks are sent to workers before)."""
        self.finish: Optional[Callable[[], None]] = None
        self.filed: dict[int, Any] = {}
        """Index lists by task, for batches that workers have under way."""

    def begin(self, iterator: Any, source: Source, guard: Guard) -> None:
        """An epoch of this iterator begins, on the way to this source."""
        self._source = source
        self.finish = guard.around(source.finish)
        if iterator._num_workers:
            self._outstanding: dict[int, Any] = iterator._task_info
            self.accept = guard.around(self._task_came)
        else:
            self.accept = guard.around(source.deliver)

    def _task_came(self, newest: Any, data: Any) -> None:
        """A worker's batch arrived: its indices are those of the task that the loader no longer has under way.

        None when that is not clear: a task whose worker raised is gone as well, and shows up with the next one.
        """
        gone = [task for task in self.filed if task not in self._outstanding]
        lists = [self.filed.pop(task) for task in gone]
        self._source.deliver(lists[0] if len(lists) == 1 else None, data)


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
            try:
                iterator = original(loader)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if slot.enabled:
                begin(iterator, loader)
            return iterator

        return __iter__

    def _wrap_next_index(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def _next_index(iterator: Any) -> Any:
            try:
                index = original(iterator)
            except BaseException as error:
                leave_frame_out(error)
                raise
            # Two plain lines that cannot fail, so no guard: this runs for every batch.
            if slot.enabled:
                iterator._onthefly_drawn = index.copy() if type(index) is list else index
            return index

        return _next_index

    def _wrap_try_put_index(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        file = self._guard.around(_file)

        @functools.wraps(original)
        def _try_put_index(iterator: Any) -> Any:
            task = iterator._send_idx if slot.enabled else None
            try:
                result = original(iterator)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if task is not None and iterator._send_idx != task:
                file(iterator, task)
            return result

        return _try_put_index

    def _wrap_next_data(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        meter = self._meter

        @functools.wraps(original)
        def _next_data(iterator: Any) -> Any:
            feed: Feed | None = getattr(iterator, FEED, None) if slot.enabled else None
            start = perf_counter_ns()
            try:
                data = original(iterator)
            except BaseException as error:
                if type(error) is StopIteration and feed is not None and feed.finish is not None:
                    feed.finish()
                leave_frame_out(error)
                raise
            if feed is None:
                return data
            came = perf_counter_ns()
            if feed.accept is not None:
                # None if somebody's own iterator never asks for indices: this line has no guard around it.
                feed.accept(getattr(iterator, "_onthefly_drawn", None), data)
            meter.waiting_ns += came - start
            meter.ours_ns += perf_counter_ns() - came
            return data

        return _next_data

    def _begin(self, iterator: Any, loader: Any) -> None:
        _feed(iterator).begin(iterator, self._open_source(loader), self._guard)


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
