"""The place at which an iterator stands, all the way down to what it goes over, and setting another one to it.

A place holds no loader's iterator and no generator, which would keep workers and batches alive: it refers to them
weakly, and knows them again. One of Python's own need not be the same object when it is set back: ``range(10)`` at 4 is
``range(10)`` at 4.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Callable

from onthefly.state.iterators import kind_of, length_left, native, over

if TYPE_CHECKING:
    from collections.abc import Iterator

EARLIER = "the checkpoint is of an earlier epoch"
REMEDY = "stop the script, and go on from there in a new process: onthefly run --resume SESSION@RUN:STEP"


class Place:
    """Where one iterator stands."""

    __slots__ = ("_inner", "_kind", "_leaf", "_left", "_over", "_read", "_type")

    def __init__(self, iterator: Any) -> None:
        self._type = type(iterator)
        self._kind = kind_of(iterator)
        self._left = length_left(iterator) if self._kind is None else None
        self._leaf = refer(iterator) if not native(iterator) else None
        self._read: Any = self._kind.read(iterator) if self._kind else None
        self._over = over(iterator) if self._kind else None
        self._inner = [Place(one) for one in self._kind.inner(iterator)] if self._kind else []

    @staticmethod
    def leaves(iterator: Any) -> Iterator[Any]:
        """What an iterator goes over in the end: objects that are no iterators of Python's own."""
        if not native(iterator):
            yield iterator
            return
        kind = kind_of(iterator)
        held = over(iterator)
        if held is not None:
            yield held
        for one in kind.inner(iterator) if kind is not None else ():
            yield from Place.leaves(one)

    @property
    def remade(self) -> bool:
        """Whether :meth:`make` can make another iterator that stands here."""
        if self._leaf is not None:
            return self._leaf() is not None
        return self._type in _MAKERS and all(place.remade for place in self._inner)

    def make(self) -> Any:
        """An iterator at this place, over what that one went over."""
        if self._leaf is not None:
            return self._leaf()
        return _MAKERS[self._type](self._read, self._over, [place.make() for place in self._inner])

    def differs(self, now: Any) -> str:
        """Why that iterator cannot be set to this place; empty: it can."""
        if self._leaf is not None:
            return "" if self._leaf() is now else EARLIER
        if type(now) is not self._type:
            return f"a {type(now).__name__} stands where a {self._type.__name__} stood"
        kind = kind_of(now)
        if self._kind is None or kind is None:
            moved = self._left is None or kind is not self._kind or length_left(now) != self._left
            return f"a {self._type.__name__} has moved on, and cannot be set back" if moved else ""
        if not kind.agree(self._read, kind.read(now)):
            return f"a {self._type.__name__} goes over something else"
        inner = kind.inner(now)
        if len(inner) != len(self._inner):
            return EARLIER
        return next(filter(None, (place.differs(one) for place, one in zip(self._inner, inner))), "")

    def put_back(self, now: Any) -> None:
        """Set that iterator to this place; :meth:`differs` has said that it can be."""
        if self._kind is not None:
            if self._kind.read(now) != self._read:
                self._kind.write(now, self._read)
            for place, one in zip(self._inner, self._kind.inner(now)):
                place.put_back(one)


def _make_sequential(read: Any, sequence: Any, inner: list[Any]) -> Any:
    made: Any = iter(sequence)
    made.__setstate__(read[1])
    return made


_MAKERS: dict[type, Callable[[Any, Any, list[Any]], Any]] = {
    type(iter([])): _make_sequential,
    type(iter(())): _make_sequential,
    enumerate: lambda read, sequence, inner: enumerate(inner[0], read),
    zip: lambda read, sequence, inner: zip(*inner),
}


def refer(value: Any) -> Callable[[], Any]:
    """A weak reference where there can be one."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value
