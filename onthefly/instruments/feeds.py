"""What one iterator of a loader has under way, and where its batches go to: to capture, and to what keeps them."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any, Optional, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.errors import Guard


class Places(Protocol):
    """Where batches of one iterator of a stream go to."""

    def deliver(self, worker: int, wanted: Any, data: Any) -> None:
        """A batch of that worker reached the script; -1: it is not clear whose."""

    def lose(self) -> None:
        """Samples were taken that did not arrive."""

    def counted(self) -> Any:
        """How much has been told of."""

    def count_from(self, counted: Any) -> None:
        """Go on from there."""


class Source(Protocol):
    """Where deliveries of one loader go to (made by capture; opaque here)."""

    def deliver(self, drawn: Any, data: Any) -> None:
        """A batch reached the script."""

    def finish(self) -> None:
        """The iterator is exhausted."""

    def begin(self, iterator: Any) -> None:
        """This iterator delivers from now on."""

    def stream(self, workers: int) -> Optional[Places]:
        """Where an iterator delivers to if its samples have no indices."""


class Log(Protocol):
    """Keeps what is delivered while it may have to be delivered again (made by state; opaque here)."""

    keeping: bool
    """Whether anything is to be kept or delivered again now."""

    def asked(self, loader: Any, states: list[Any]) -> None:
        """That loader is about to be asked for an iterator: the states of what it may draw from are put there."""

    def begin(self, iterator: Any, feed: Any, loader: Any, states: list[Any]) -> None:
        """An epoch of that iterator begins."""

    def first(self, iterator: Any) -> None:
        """Its first batch is about to be fetched."""

    def end(self, iterator: Any) -> None:
        """The iterator is exhausted."""

    def again(self, iterator: Any) -> Optional[tuple[Any, Any]]:
        """The next batch and what it was drawn from, if it was delivered before; else None."""

    def about_to(self) -> None:
        """A batch is about to be fetched, and is to be kept."""

    def keep(self, iterator: Any, data: Any, failed: str = "") -> None:
        """A batch was fetched, or ``failed`` to come."""


class NoLog(Log):
    """Where nothing is ever delivered again."""

    keeping = False


class Feed:
    """What one iterator of a loader has under way."""

    __slots__ = (
        "_by_task", "_iterator", "_outstanding", "_source", "_stream",
        "accept", "again", "came", "filed", "finish", "lose", "waits",
    )  # fmt: skip

    def __init__(self) -> None:
        self._by_task = False
        self.waits = False
        """Its first batch has not been asked for."""
        self.accept: Optional[Callable[[Any, Any], None]] = None
        """Takes what the sampler gave last and the batch that arrived; None until the loader's ``__iter__`` returned
        (the first tasks are sent to workers before)."""
        self.finish: Optional[Callable[[], None]] = None
        self.lose: Optional[Callable[[], None]] = None
        """Told that the iterator raised, where places in a stream are counted."""
        self.again: Callable[[Any, Any], None] = _ignore
        """Takes what an earlier batch was drawn from (:attr:`came`), and that batch when it is delivered again."""
        self.came: Any = None
        """What the newest batch was drawn from; of a stream with its worker."""
        self.filed: dict[int, Any] = {}
        """Index lists by task, for batches that workers have under way; of a stream with the worker before each."""

    def begin(self, iterator: Any, source: Source, guard: Guard) -> None:
        """An epoch of this iterator begins, on the way to this source."""
        self.waits = True
        self._source = source
        source.begin(iterator)
        self.finish = guard.around(source.finish)
        stream = self._stream = source.stream(iterator._num_workers)
        self.lose = guard.around(stream.lose) if stream is not None else None
        if stream is not None and iterator._num_yielded:  # it goes on from a checkpoint, wherever that was
            stream.lose()
        if iterator._num_workers:
            self._by_task = True
            self._outstanding: dict[int, Any] = iterator._task_info
            self._iterator = weakref.ref(iterator)
            self.accept = guard.around(self._task_came)
        else:
            self.accept = guard.around(source.deliver if stream is None else functools.partial(stream.deliver, 0))
        self.again = guard.around(self._again)

    def _again(self, drawn: Any, data: Any) -> None:
        if self._stream is None:
            self._source.deliver(drawn, data)
        else:
            worker, wanted = drawn or (-1, None)
            self._stream.deliver(worker, wanted, data)

    def drawn(self, newest: Any) -> Any:
        """What the newest batch was drawn from, as :attr:`again` takes it."""
        if self._by_task:
            return self.came
        return newest if self._stream is None else (0, newest)

    def counted(self) -> Any:
        """How much of a stream has been told of, None where samples have indices."""
        return None if self._stream is None else self._stream.counted()

    def count_from(self, counted: Any) -> None:
        """Go on from there."""
        if self._stream is not None:
            self._stream.count_from(counted)

    def _task_came(self, newest: Any, data: Any) -> None:
        """A worker's batch arrived: its indices are those of the task that the loader no longer has under way."""
        gone = [task for task in self.filed if task not in self._outstanding]
        came = gone[0] if len(gone) == 1 else self._which(gone)
        lists = [self.filed.pop(task) for task in gone]
        drawn = self.came = lists[gone.index(came)] if came in gone else None
        if self._stream is None:
            self._source.deliver(drawn, data)
        else:
            worker, wanted = drawn or (-1, None)
            self._stream.deliver(worker, wanted, data)

    def _which(self, gone: list[int]) -> int:
        """Which of several tasks that are gone has arrived, -1 where that is not clear.

        One whose worker raised is gone as well, and shows up with the next; so is one whose stream had come to its end.
        """
        iterator: Any = self._iterator()
        if getattr(iterator, "_in_order", True):  # torch before 2.6 knows no other
            return iterator._rcvd_idx - 1
        # A batch is handed on as soon as it arrives: before its worker says that there is no more.
        alive = [task for task in gone if self._stream is not None and iterator._workers_status[self.filed[task][0]]]
        return alive[0] if len(alive) == 1 else -1


def _ignore(drawn: Any, data: Any) -> None:
    """Before an iterator has begun, nothing of it is delivered again."""


class Desk(Protocol):
    """Who may want batches again, and who chooses samples."""

    @property
    def deliveries(self) -> Log:
        """Keeps what was delivered."""
        ...

    draw: Any
    """``draw(iterator, indices, again)`` gives the indices that are fetched; None: those that were drawn."""


class NoDesk(Desk):
    """Where nobody does."""

    draw = None

    def __init__(self) -> None:
        self._log = NoLog()

    @property
    def deliveries(self) -> Log:
        """Of nothing."""
        return self._log
