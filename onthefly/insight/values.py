"""Values of a traced step, told apart by where they come from: the batch, an operation before, or the script.

A *template* is an argument as it was given, with a mark in the place of each value that another batch makes another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Callable, NamedTuple, Union

from torch import Tensor

MAX_DEPTH = 6
"""Of containers within each other; a model's output has two or three."""

Path = tuple[tuple[str, Any], ...]
"""How to come from an object to a part of it: ``("item", key)`` or ``("attribute", name)``, one after the other."""


class Leaf(NamedTuple):
    """Part of the batch."""

    path: Path


class Made(NamedTuple):
    """Part of what an operation gave."""

    operation: int
    path: Path


class Written(NamedTuple):
    """A value after an operation has written into it."""

    value: Any
    operation: int


Source = Union[Leaf, Made, Written]


class Held(NamedTuple):
    """A tensor of the script's own: a parameter, class weights, a mask."""

    tensor: Tensor


class Items(NamedTuple):
    """A container whose parts are templates; ``build`` makes it of them."""

    build: Callable[[list[Any]], Any]
    parts: list[Any]


def parts(value: Any) -> Iterator[tuple[tuple[str, Any], Any]]:
    """What a container or a record has, each with its step of a path; nothing where it is neither."""
    if isinstance(value, Mapping):
        for key in list(value):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield ("item", key), value[key]
    elif isinstance(value, (list, tuple)):
        for number, one in enumerate(value):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield ("item", number), one
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield ("attribute", field.name), getattr(value, field.name, None)


def walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The value, and all that it holds, each with its path."""
    yield path, value
    if not isinstance(value, Tensor) and len(path) < MAX_DEPTH:
        for step, part in parts(value):
            yield from walk(part, (*path, step))


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors that it is or holds."""
    return (one for _, one in walk(value) if isinstance(one, Tensor))


def at(value: Any, path: Path) -> Any:
    """The part of a value; LookupError or AttributeError where it has none."""
    for kind, key in path:
        value = value[key] if kind == "item" else getattr(value, key)
    return value


def template(value: Any, source: Callable[[Any], Any], depth: int = MAX_DEPTH) -> Any:
    """The value with its marks; ``source(object)`` gives where an object comes from, None where that is not known."""
    found = source(value) if isinstance(value, Tensor) or _may_be_of_batch(value) else None
    if found is not None:
        return found
    if isinstance(value, Tensor):
        return Held(value)
    kind: Any = type(value)
    if not depth or (kind not in (list, tuple, dict, slice) and not isinstance(value, (tuple, Mapping))):
        return value
    if isinstance(value, slice):
        return Items(lambda made: slice(*made), [template(one, source, depth - 1) for one in
                                                 (value.start, value.stop, value.step)])  # fmt: skip
    if isinstance(value, Mapping):
        keys = list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return Items(
            lambda made: kind(zip(keys, made)) if kind is not dict else dict(zip(keys, made)),
            [template(value[key], source, depth - 1) for key in keys],
        )
    inner = [template(one, source, depth - 1) for one in value]
    return Items(getattr(kind, "_make", kind), inner)


def _may_be_of_batch(value: Any) -> bool:
    """Whether it is an object of its own: small numbers and texts are shared by all who use them."""
    return not isinstance(value, (int, float, complex, str, bytes, bool, type(None), type)) and not callable(value)


def marks(given: Any) -> Iterator[Any]:
    """All marks in a template, those within :class:`Written` too."""
    if isinstance(given, (Leaf, Made, Held)):
        yield given
    elif isinstance(given, Written):
        yield given
        yield from marks(given.value)
    elif isinstance(given, Items):
        for part in given.parts:
            yield from marks(part)


def constants(given: Any) -> Iterator[Any]:
    """All that stands in a template as it is."""
    if isinstance(given, Items):
        for part in given.parts:
            yield from constants(part)
    elif not isinstance(given, (Leaf, Made, Held, Written)):
        yield given


def fill(given: Any, batch: Any, results: dict[int, Any]) -> Any:
    """The argument for another batch, after the operations before."""
    if isinstance(given, Leaf):
        return at(batch, given.path)
    if isinstance(given, Made):
        return at(results[given.operation], given.path)
    if isinstance(given, Written):
        return fill(given.value, batch, results)
    if isinstance(given, Held):
        return given.tensor
    if isinstance(given, Items):
        return given.build([fill(part, batch, results) for part in given.parts])
    return given


def copied(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A batch with tensors of its own, as far as it consists of plain containers."""
    kind: Any = type(value)
    if isinstance(value, Tensor):
        return value.detach().clone()
    if not depth:
        return value
    if kind is dict:
        return {key: copied(one, depth - 1) for key, one in value.items()}
    if kind in (list, tuple):
        return kind(copied(one, depth - 1) for one in value)
    if hasattr(kind, "_make"):
        return kind._make(copied(one, depth - 1) for one in value)
    if isinstance(value, Mapping):
        return kind({key: copied(value[key], depth - 1) for key in value})  # pyright: ignore[reportUnknownVariableType]
    return value
