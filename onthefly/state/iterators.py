"""Where the iterators of Python itself stand, and setting them back: what lies between a loop and its loader.

``enumerate(loader)`` counts, ``range`` counts, ``zip`` only hands on. Some can be set through ``__setstate__``; for the
others the counters are written where they lie in memory behind the object's head, after a trial on an iterator of our
own has shown that they lie there in this interpreter. An iterator that can neither be read nor set makes a loop over
it one that is not wound back: that is refused, if it has moved or if that cannot be told.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import itertools
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = object.__basicsize__


class Kind(NamedTuple):
    """How one type of iterator is read and set."""

    read: Callable[[Any], Any]
    """Where it stands: values that compare equal for the same place."""
    write: Callable[[Any, Any], None]
    inner: Callable[[Any], list[Any]]
    """The iterators it goes over."""
    agree: Callable[[Any, Any], bool]
    """Whether one that stands at the second place can be set to the first."""
    works: Callable[[], bool]
    """Whether setting it does what it should in this interpreter."""


def kind_of(iterator: Any) -> Optional[Kind]:
    """How that iterator is wound, None for one that is not Python's own or not known."""
    kind = _KINDS.get(type(iterator))
    if kind is None and _is_sequential(iterator):
        kind = _SEQUENTIAL
    return kind if kind is None or _works(kind) else None


def length_left(iterator: Any) -> Optional[int]:
    """How many items a plain iterator that cannot be set has left: enough to see that it has not moved."""
    if type(iterator) in _MEASURED:
        return iterator.__length_hint__()
    return None


@functools.lru_cache(maxsize=64)
def _works(kind: Kind) -> bool:
    return kind.works()


def _longs(iterator: Any, count: int, code: Any) -> Any:
    return (code * count).from_address(id(iterator) + _HEAD)


def _referents(iterator: Any) -> list[Any]:
    """What it goes over (and what it has saved), where ``__reduce__`` is gone or about to go."""
    return [one for one in gc.get_referents(iterator) if one is not type(iterator)]


def _no_inner(iterator: Any) -> list[Any]:
    return []


def _always(before: Any, now: Any) -> bool:
    return True


def _reads(iterator: Any, words: int, code: Any) -> tuple[int, ...]:
    return tuple(_longs(iterator, words, code))


def _trial(make: Callable[[], Any], kind: Callable[[], Kind]) -> bool:
    """Whether an iterator that is set back gives again what it gave."""
    iterator, one = make(), kind()
    next(iterator)
    before = one.read(iterator)
    given = [next(iterator) for _ in range(3)]
    after = one.read(iterator)
    one.write(iterator, before)
    return before != after and one.read(iterator) == before and [next(iterator) for _ in range(3)] == given


# range: start, step and length left from Python 3.12 on; before, index, start, step and length.

_RANGE_WORDS = 3 if sys.version_info >= (3, 12) else 4


def _read_range(iterator: Any) -> tuple[int, ...]:
    return _reads(iterator, _RANGE_WORDS, ctypes.c_long)


def _write_range(iterator: Any, place: tuple[int, ...]) -> None:
    _longs(iterator, _RANGE_WORDS, ctypes.c_long)[:] = place


def _same_range(before: tuple[int, ...], now: tuple[int, ...]) -> bool:
    if _RANGE_WORDS == 4:
        return before[1:] == now[1:]
    return before[1] == now[1] and before[0] + before[1] * before[2] == now[0] + now[1] * now[2]


_RANGE = Kind(
    _read_range, _write_range, _no_inner, _same_range,
    lambda: _trial(lambda: iter(range(5, 50, 3)), lambda: _RANGE)
    and _read_range(iter(range(5, 50, 3)))[-3:] == (5, 3, 15),
)  # fmt: skip

# enumerate: its index; what it goes over is seen by the garbage collector.


def _read_enumerate(iterator: Any) -> int:
    return iterator.__reduce__()[1][1]


def _write_enumerate(iterator: Any, place: int) -> None:
    _longs(iterator, 1, ctypes.c_ssize_t)[0] = place


_ENUMERATE = Kind(
    _read_enumerate, _write_enumerate, lambda iterator: [iterator.__reduce__()[1][0]], _always,
    lambda: _enumerates() and _longs(enumerate((), 7), 1, ctypes.c_ssize_t)[0] == 7,
)  # fmt: skip


def _enumerates() -> bool:
    iterator = enumerate(itertools.repeat(None))
    given = [next(iterator)[0], next(iterator)[0]]
    _write_enumerate(iterator, 0)
    return given == [0, 1] and _read_enumerate(iterator) == 0 and next(iterator)[0] == 0


# itertools: count's number; islice's next, stop, step and count, behind what it goes over; cycle's saved items are a
# list, which is put back like any other, its index lies behind.


def _read_count(iterator: Any) -> tuple[str, int]:
    return repr(iterator), _longs(iterator, 1, ctypes.c_ssize_t)[0]


def _write_count(iterator: Any, place: tuple[str, int]) -> None:
    _longs(iterator, 1, ctypes.c_ssize_t)[0] = place[1]


_COUNT = Kind(
    _read_count, _write_count, _no_inner, lambda before, now: sys.maxsize not in (before[1], now[1]) or before == now,
    lambda: _trial(lambda: itertools.count(4), lambda: _COUNT),
)  # fmt: skip


def _read_islice(iterator: Any) -> tuple[int, ...]:
    return _reads(iterator, 5, ctypes.c_ssize_t)[1:]


def _write_islice(iterator: Any, place: tuple[int, ...]) -> None:
    words = _longs(iterator, 5, ctypes.c_ssize_t)
    words[1], words[4] = place[0], place[3]


_ISLICE = Kind(
    _read_islice, _write_islice, _referents, lambda before, now: before[1:3] == now[1:3],
    lambda: _read_islice(itertools.islice(itertools.repeat(0), 3, 20, 2)) == (3, 20, 2, 0),
)  # fmt: skip


def _read_cycle(iterator: Any) -> tuple[int, ...]:
    return _reads(iterator, 4, ctypes.c_ssize_t)[2:3]


def _write_cycle(iterator: Any, place: tuple[int, ...]) -> None:
    _longs(iterator, 4, ctypes.c_ssize_t)[2] = place[0]


def _cycles() -> bool:
    iterator = itertools.cycle([1, 2, 3])
    given = [next(iterator) for _ in range(5)]
    if given != [1, 2, 3, 1, 2] or _read_cycle(iterator) != (2,):
        return False
    _write_cycle(iterator, (1,))
    return next(iterator) == 2


_CYCLE = Kind(_read_cycle, _write_cycle, _referents, _always, _cycles)


def _sure() -> bool:
    return True


def _nothing(iterator: Any) -> tuple[()]:
    return ()


def _leave(iterator: Any, place: Any) -> None:
    return None


_HANDS_ON = Kind(_nothing, _leave, lambda iterator: list(iterator.__reduce__()[1]), _always, _sure)
_FUNCTION = Kind(_nothing, _leave, lambda iterator: list(iterator.__reduce__()[1][1:]), _always, _sure)
_CHAIN = Kind(_nothing, _leave, _referents, _always, _sure)

# Over a list, a tuple, a text: the index, which __setstate__ takes in both directions.


def _read_sequential(iterator: Any) -> tuple[int, int]:
    _, (sequence, *_), index = iterator.__reduce__()
    return id(sequence), index


def _write_sequential(iterator: Any, place: tuple[int, int]) -> None:
    iterator.__setstate__(place[1])


_SEQUENTIAL = Kind(
    _read_sequential, _write_sequential, _no_inner, lambda before, now: before[0] == now[0],
    lambda: _trial(lambda: iter([1, 2, 3, 4]), lambda: _SEQUENTIAL),
)  # fmt: skip
"""The list itself is known by its ``id``: who notes the place of an iterator holds what it goes over (:func:`over`)."""


def over(iterator: Any) -> Any:
    """The list, tuple or text that an iterator goes over; None for others."""
    return iterator.__reduce__()[1][0] if _is_sequential(iterator) else None


class _Indexed:
    def __getitem__(self, index: int) -> int:
        return index


INDEXED = type(iter(_Indexed()))
"""Of iterators over a script's own sequence (a data set), which is asked for one index after the other."""

_SEQUENCES = (
    type(iter([])), type(iter(())), type(iter("")), type(iter("é")), type(iter(b"")), type(reversed([])), INDEXED,
)  # fmt: skip


def _is_sequential(iterator: Any) -> bool:
    if type(iterator) not in _SEQUENCES:
        return False
    return len(iterator.__reduce__()) == 3  # two when it is exhausted: it cannot be set any more


_KINDS: dict[type, Kind] = {
    type(iter(range(0))): _RANGE,
    enumerate: _ENUMERATE,
    zip: _HANDS_ON,
    map: _FUNCTION,
    filter: _FUNCTION,
    itertools.chain: _CHAIN,
    itertools.count: _COUNT,
    itertools.islice: _ISLICE,
    itertools.cycle: _CYCLE,
}

_MEASURED = (
    *_SEQUENCES, type(iter(range(1 << 70))), type(iter({})), type(iter({}.values())), type(iter({}.items())),
    type(iter(set())), type(reversed({})), type(iter(__import__("collections").deque())),
)  # fmt: skip

WRAPPERS = (*_KINDS, itertools.zip_longest, itertools.takewhile, itertools.dropwhile, itertools.starmap)
"""Types that may go over a loader's iterator unseen."""


def native(value: Any) -> bool:
    """Whether it is one of Python's own iterators that this module knows or measures."""
    return type(value) in _KINDS or type(value) in _MEASURED
