"""Native iterators of an image: setting one that is there to its place, or making another that stands there."""

from __future__ import annotations

import collections
import itertools
from typing import TYPE_CHECKING, Any

from onthefly.state.iterators import INDEXED, kind_of, length_left
from onthefly.state.values import type_name

if TYPE_CHECKING:
    from collections.abc import Callable


def usable(node: dict[str, Any], live: Any, value: Callable[[Any], Any]) -> bool:
    """Whether that iterator can be set to its place, stands there, or is made anew at the end.

    ``value(token)`` is what a token stands for.
    """
    return _settable(node, live, value) or stands(node, live) or advances(node)


def advances(node: dict[str, Any]) -> bool:
    """Whether it is one that can only be taken forward, over what is written already."""
    return node["type"] in _ADVANCED


def stands(node: dict[str, Any], live: Any) -> bool:
    """Whether an iterator that cannot be set has as much left as it had."""
    return "place" not in node and node.get("left") is not None and length_left(live) == node["left"]


def set_to_place(node: dict[str, Any], live: Any, value: Callable[[Any], Any]) -> None:
    """Let it stand where it stood."""
    kind: Any = kind_of(live)
    if type(live) is itertools.cycle:
        wanted, saved = value(node["inner"][-1]), kind.inner(live)[-1]
        if saved is not wanted:
            saved[:] = wanted
    if kind is not None:
        kind.write(live, _place(node, live))


def remade(node: dict[str, Any], value: Callable[[Any], Any]) -> Any:
    """Another one, to be set to its place; None if none can be made."""
    if advances(node):
        return iter(())
    maker = _REMAKERS.get(node["type"])
    if maker is None or "place" not in node:
        return None
    held = value(node["over"]) if "over" in node else None
    return maker(node, held, [value(token) for token in node["inner"]], value(node.get("function")))


def advanced(node: dict[str, Any], held: Any) -> Any:
    """One over ``held`` that has as much left as it had."""
    made = _ADVANCED[node["type"]](held)
    for _ in range(len(held) - node["left"]):
        next(made)
    return made


def _settable(node: dict[str, Any], live: Any, value: Callable[[Any], Any]) -> bool:
    kind = kind_of(live)
    if kind is None or "place" not in node:
        return False
    if "over" in node and value(node["over"]) is not live.__reduce__()[1][0]:
        return False
    inner = kind.inner(live)
    same = len(inner) == len(node["inner"]) and all(value(token) is one for token, one in zip(node["inner"], inner))
    return same and kind.agree(_place(node, live), kind.read(live))


def _place(node: dict[str, Any], live: Any) -> Any:
    place = node["place"]
    if "over" in node:
        return id(live.__reduce__()[1][0]), place
    return tuple(place) if isinstance(place, list) else place


def _make_range(node: dict[str, Any], held: Any, inner: list[Any], function: Any) -> Any:
    made: Any = iter(range(1))
    kind: Any = kind_of(made)
    kind.write(made, tuple(node["place"]))
    return made


def _make_sequential(node: dict[str, Any], held: Any, inner: list[Any], function: Any) -> Any:
    made: Any = reversed(held) if node["type"].endswith("reverseiterator") else iter(held)
    made.__setstate__(node["place"])
    return made


def _make_islice(node: dict[str, Any], held: Any, inner: list[Any], function: Any) -> Any:
    if len(inner) != 1:
        return None
    made = itertools.islice(inner[0], node["place"][0], None if node["place"][1] < 0 else node["place"][1])
    kind: Any = kind_of(made)
    now = kind.read(made)
    kind.write(made, tuple(node["place"]))
    return made if now[1] == node["place"][1] else None


def _make_cycle(node: dict[str, Any], held: Any, inner: list[Any], function: Any) -> Any:
    """Over what is left of its first pass; what that gave is a list of its own, which is filled later."""
    return itertools.cycle(inner[0] if len(inner) > 1 else iter(()))


def _make_chain(node: dict[str, Any], held: Any, inner: list[Any], function: Any) -> Any:
    """Over the rest of the one under way, then over the others."""
    if len(inner) < 2:
        return itertools.chain.from_iterable(inner[0] if inner else ())
    return itertools.chain(inner[_UNDER_WAY], itertools.chain.from_iterable(inner[1 - _UNDER_WAY]))


def _place_under_way() -> int:
    """Where among what a chain refers to the iterator is that it takes from now: before or behind the one of them."""
    others = iter([now := iter([1, 2])])
    chained = itertools.chain.from_iterable(others)
    next(chained)
    return kind_of(chained).inner(chained).index(now)  # type: ignore[union-attr]


_UNDER_WAY = _place_under_way()


_REMAKERS: dict[str, Callable[[dict[str, Any], Any, list[Any], Any], Any]] = {
    type_name(type(iter(range(0)))): _make_range,
    type_name(enumerate): lambda node, held, inner, function: enumerate(inner[0], node["place"]),
    type_name(zip): lambda node, held, inner, function: zip(*inner),
    type_name(map): lambda node, held, inner, function: map(function, *inner),
    type_name(itertools.cycle): _make_cycle,
    type_name(itertools.chain): _make_chain,
    type_name(filter): lambda node, held, inner, function: filter(function, *inner),
    type_name(itertools.count): lambda node, held, inner, function: itertools.count(node["place"][1]),
    type_name(itertools.islice): _make_islice,
    type_name(INDEXED): _make_sequential,
    **{
        type_name(type(one)): _make_sequential
        for one in (iter([]), iter(()), iter(""), iter("é"), iter(b""), reversed([]))
    },
}


_ADVANCED: dict[str, Callable[[Any], Any]] = {
    type_name(type(iter({}))): iter,
    type_name(type(iter({}.values()))): lambda held: iter(held.values()),
    type_name(type(iter({}.items()))): lambda held: iter(held.items()),
    type_name(type(iter(collections.deque()))): iter,
}
"""Iterators that cannot be set, only taken forward; over a set they have no order that another process knows."""
