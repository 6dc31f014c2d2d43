"""Watches ``DataLoader``: which indices each delivered batch was made from, and how long the script waited for it.

Index lists are taken where the loader makes them, in the main process, never in a worker (a hook there would slow each
item): ``_next_index`` remembers what the sampler gave, ``_try_put_index`` files it under the number of the task that
was sent to a worker, and after ``_next_data`` the task that is gone from the loader's own table is the one that came.
That holds for any number of workers, ``in_order=False`` and persistent workers.

Of a stream (an iterable data set) the worker of each task is filed as well: places are counted for each of them.
torchdata's ``StatefulDataLoader`` has iterators with methods of their own; they are seen from when the first is made.
"""

from __future__ import annotations

import functools
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Optional

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import (
    _BaseDataLoaderIter,  # pyright: ignore[reportPrivateUsage]
    _DatasetKind,  # pyright: ignore[reportPrivateUsage]
    _MultiProcessingDataLoaderIter,  # pyright: ignore[reportPrivateUsage]
    _SingleProcessDataLoaderIter,  # pyright: ignore[reportPrivateUsage]
)

from onthefly.errors import leave_frame_out, uncounted
from onthefly.instruments.feeds import Desk, Feed, Log, NoDesk, Source
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.core.meter import Meter
    from onthefly.errors import Guard

FEED = "_onthefly_feed"
"""The attribute of a loader's iterator that holds its :class:`Feed`, beside ``_onthefly_drawn``, the newest index list
of its sampler (a copy, since a batch sampler may reuse its list). They live and die with the iterator, which cannot be
pickled or copied, so that nobody meets them. (A dictionary of weak keys costs 0.6 us a look-up.)"""


STATEFUL = "torchdata.stateful_dataloader.stateful_dataloader"


class DataInstrument:
    """The slots in ``DataLoader`` and its iterators."""

    def __init__(
        self, open_source: Callable[[Any], Source], meter: Meter, guard: Guard, desk: Optional[Desk] = None
    ) -> None:
        """``open_source(loader)`` gives where an iterator of that loader delivers to.

        ``desk.deliveries`` keeps deliveries while a rewind may want them again; ``desk.draw``, if there is one, says
        which of the indices that a loader has drawn are fetched.
        """
        self._desk: Desk = desk or NoDesk()
        self._log = self._desk.deliveries
        self._open_source = open_source
        self._meter = meter
        self._guard = guard
        self._slots = [
            Slot(DataLoader, "__iter__", self._wrap_iter),
            Slot(_BaseDataLoaderIter, "__init__", self._wrap_init),
            Slot(_BaseDataLoaderIter, "_next_index", self._wrap_next_index),
            Slot(_MultiProcessingDataLoaderIter, "_try_put_index", self._wrap_try_put_index),
            Slot(_SingleProcessDataLoaderIter, "_next_data", self._wrap_next_data),
            Slot(_MultiProcessingDataLoaderIter, "_next_data", self._wrap_next_data),
        ]
        self._stateful = False
        if STATEFUL in sys.modules:
            self._arm_stateful()

    def disarm(self) -> None:
        """Put back what was there."""
        for slot in reversed(self._slots):
            slot.restore()

    def _wrap_iter(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        begin, asked = self._guard.around(self._begin), self._guard.around(self._log.asked)

        @functools.wraps(original)
        def __iter__(loader: Any) -> Any:
            states: list[Any] = []
            if slot.enabled:
                asked(loader, states)
            try:
                iterator = original(loader)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if slot.enabled:
                begin(iterator, loader, states)
            return iterator

        return __iter__

    def _wrap_init(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        made = self._guard.around(self._made)

        @functools.wraps(original)
        @uncounted
        def __init__(iterator: Any, *args: Any, **kwargs: Any) -> None:
            try:
                original(iterator, *args, **kwargs)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if slot.enabled:
                made(iterator, *args)

        return __init__

    def _made(self, iterator: Any, loader: Any) -> None:
        """An iterator is being made; the first of torchdata's by a method that was not replaced when it began."""
        if type(iterator).__module__ == STATEFUL and not self._stateful:
            self._arm_stateful()
            iterator._onthefly_loader = loader

    def _arm_stateful(self) -> None:
        self._stateful, module = True, sys.modules[STATEFUL]
        single, workers = module._StatefulSingleProcessDataLoaderIter, module._StatefulMultiProcessingDataLoaderIter
        self._slots += [
            Slot(module.StatefulDataLoader, "__iter__", self._wrap_iter),
            Slot(workers, "_try_put_index", self._wrap_try_put_index),
            Slot(single, "_next_data", self._wrap_next_of_stateful),
            Slot(workers, "_next_data", self._wrap_next_of_stateful),
        ]

    def _wrap_next_of_stateful(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        begin = self._guard.around(self._begin_late)
        ours = self._wrap_next_data(slot, original)

        @functools.wraps(original)
        def _next_data(iterator: Any) -> Any:
            if slot.enabled and "_onthefly_loader" in vars(iterator):
                begin(iterator)
            try:
                return ours(iterator)
            except BaseException as error:
                leave_frame_out(error)
                raise

        return _next_data

    def _begin_late(self, iterator: Any) -> None:
        loader = iterator._onthefly_loader
        if loader.next_iter_state is None:  # else it is still being wound to where it goes on
            self._begin(iterator, loader, [])

    def _wrap_next_index(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        desk = self._desk

        @functools.wraps(original)
        def _next_index(iterator: Any) -> Any:
            try:
                index = original(iterator)
            except BaseException as error:
                leave_frame_out(error)
                raise
            # Plain lines that cannot fail, so no guard: this runs for every batch.
            if slot.enabled:
                if desk.draw is not None:
                    index = desk.draw(iterator, index, original)
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
        meter, log, ended, kept = self._meter, self._log, self._guard.around(self._ended), self._guard.around(_keep)
        first, about_to = self._guard.around(self._first), self._guard.around(log.about_to)

        @functools.wraps(original)
        def _next_data(iterator: Any) -> Any:
            feed: Feed | None = getattr(iterator, FEED, None) if slot.enabled else None
            if log.keeping:  # also when the slot is switched off: what was wound back has to catch up
                again = log.again(iterator)
                if again is not None:
                    if feed is not None:
                        feed.again(again[1], again[0])
                    return again[0]
                about_to()
            if feed is not None and feed.waits:
                first(iterator, feed)
            start = perf_counter_ns()
            try:
                data = original(iterator)
            except BaseException as error:
                told = feed and (feed.finish if type(error) is StopIteration else feed.lose)
                if told:
                    told()
                ended(iterator, error)
                leave_frame_out(error)
                raise
            if feed is None:
                return data
            came = perf_counter_ns()
            if feed.accept is not None:
                # None if somebody's own iterator never asks for indices: this line has no guard around it.
                newest = getattr(iterator, "_onthefly_drawn", None)
                feed.accept(newest, data)
                if log.keeping:
                    kept(log, iterator, feed, newest, data)
            meter.waiting_ns += came - start
            meter.ours_ns += perf_counter_ns() - came
            return data

        return _next_data

    def _begin(self, iterator: Any, loader: Any, states: list[Any]) -> None:
        vars(iterator).pop("_onthefly_loader", None)
        feed = _feed(iterator)
        feed.begin(iterator, self._open_source(loader), self._guard)
        self._log.begin(iterator, feed, loader, states)

    def _first(self, iterator: Any, feed: Feed) -> None:
        feed.waits = False
        self._log.first(iterator)

    def _ended(self, iterator: Any, error: BaseException) -> None:
        if type(error) is StopIteration:
            self._log.end(iterator)
        elif self._log.keeping:
            self._log.keep(iterator, None, f"fetching one raised {type(error).__name__}")


def _keep(log: Log, iterator: Any, feed: Feed, newest: Any, data: Any) -> None:
    feed.came = feed.drawn(newest)
    log.keep(iterator, data)


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
    drawn, stream = iterator._onthefly_drawn, iterator._dataset_kind == _DatasetKind.Iterable
    feed.filed[task] = (iterator._task_info[task][0], drawn) if stream else drawn
