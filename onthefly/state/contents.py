"""The content of one mutable object, one level deep, and putting it back into the same object.

Everything else in the script that refers to the object keeps seeing it. What is as it was is left untouched: somebody
may be iterating over it. Methods of the exact base types are used, so that none of the script's own runs.
"""

from __future__ import annotations

import array
import collections
import functools
import types
from typing import Any, Callable, NamedTuple, Optional

from onthefly.state.kept import give


class Form(NamedTuple):
    """How the content of one type of object is read and written."""

    read: Callable[[Any], list[Any]]
    """A flat list: its items, or keys and values in turn."""
    write: Callable[[Any, list[Any]], None]


class Content:
    """What one object holds."""

    __slots__ = ("_form", "_kept", "owner")

    def __init__(self, owner: Any, form: Form, keep: Callable[[Any], Any]) -> None:
        self.owner = owner
        self._form = form
        self._kept = [keep(value) for value in form.read(owner)]

    def put_back(self) -> None:
        """Let it hold that again."""
        values = [give(kept) for kept in self._kept]
        now = self._form.read(self.owner)
        if len(now) != len(values) or any(one is not other for one, other in zip(now, values)):
            self._form.write(self.owner, values)


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2]))


def _flat(items: Any) -> list[Any]:
    return [part for pair in items for part in pair]


def _read_dict(owner: dict[Any, Any]) -> list[Any]:
    return _flat(dict.items(owner))


def _write_dict(owner: dict[Any, Any], items: list[Any]) -> None:
    dict.clear(owner)
    for key, value in _pairs(items):
        dict.__setitem__(owner, key, value)


def _read_ordered(owner: collections.OrderedDict[Any, Any]) -> list[Any]:
    return _flat(collections.OrderedDict.items(owner))


def _write_ordered(owner: collections.OrderedDict[Any, Any], items: list[Any]) -> None:
    collections.OrderedDict.clear(owner)
    for key, value in _pairs(items):
        collections.OrderedDict.__setitem__(owner, key, value)


def _write_list(owner: list[Any], items: list[Any]) -> None:
    list.__setitem__(owner, slice(None), items)


def _write_set(owner: set[Any], items: list[Any]) -> None:
    set.clear(owner)
    set.update(owner, items)


def _write_deque(owner: collections.deque[Any], items: list[Any]) -> None:
    collections.deque.clear(owner)
    collections.deque.extend(owner, items)


def _write_bytes(owner: Any, items: list[Any]) -> None:
    owner[:] = items[0]


def _write_array(owner: Any, items: list[Any]) -> None:
    owner[:] = array.array(owner.typecode, items[0])  # pyright: ignore[reportDeprecated]


def _read_cell(owner: types.CellType) -> list[Any]:
    try:
        return [owner.cell_contents]
    except ValueError:  # nothing yet
        return []


def _write_cell(owner: types.CellType, items: list[Any]) -> None:
    if items:
        owner.cell_contents = items[0]
    else:
        del owner.cell_contents


ORDERED = Form(_read_ordered, _write_ordered)
DICT = Form(_read_dict, _write_dict)
LIST = Form(lambda owner: list(list.__iter__(owner)), _write_list)
SET = Form(lambda owner: list(set.__iter__(owner)), _write_set)
DEQUE = Form(lambda owner: list(collections.deque.__iter__(owner)), _write_deque)
BYTES = Form(lambda owner: [bytes(owner)], _write_bytes)
ARRAY = Form(lambda owner: [owner.tobytes()], _write_array)
CELL = Form(_read_cell, _write_cell)


def _read_variables(owner: dict[str, Any]) -> list[Any]:
    return _flat(
        (name, value)
        for name, value in owner.items()
        if not name.startswith("__") and not isinstance(value, types.ModuleType)
    )


def _write_variables(owner: dict[str, Any], items: list[Any]) -> None:
    wanted = dict(_pairs(items))
    for name in [name for name, _ in _pairs(_read_variables(owner)) if name not in wanted]:
        del owner[name]
    for name, value in wanted.items():
        if name not in owner or owner[name] is not value:
            owner[name] = value


LOADER = Form(
    lambda owner: _flat((name, value) for name, value in _pairs(_read_variables(owner)) if name != "_iterator"),
    lambda owner, items: _write_variables(owner, [*items, *_flat([("_iterator", owner.get("_iterator"))])]),
)
"""A loader's settings, without the iterator that it keeps for its workers."""

GLOBALS = Form(_read_variables, _write_variables)
"""A module's variables: never emptied, since other threads run in them."""

_BEHAVIOUR = (
    types.FunctionType, staticmethod, classmethod, property, types.MemberDescriptorType,
    types.GetSetDescriptorType, type,
)  # fmt: skip


def _read_class(owner: type) -> list[Any]:
    return _flat(
        (name, value)
        for name, value in vars(owner).items()
        if not name.startswith(("__", "_abc_")) and not isinstance(value, _BEHAVIOUR) and not hasattr(value, "__get__")
    )


def _write_class(owner: type, items: list[Any]) -> None:
    wanted = dict(_pairs(items))
    for name in [name for name, _ in _pairs(_read_class(owner)) if name not in wanted]:
        type.__delattr__(owner, name)
    for name, value in wanted.items():
        if vars(owner).get(name, owner) is not value:
            type.__setattr__(owner, name, value)


CLASS = Form(_read_class, _write_class)
"""A class of the script: what it counts, not what it does."""


def _slots_of(owner: Any) -> list[tuple[str, Any]]:
    return _slots(type(owner))


@functools.lru_cache(maxsize=4096)
def _slots(kind: type) -> list[tuple[str, Any]]:
    return [
        (name, descriptor)
        for base in kind.__mro__
        for name, descriptor in vars(base).items()
        if isinstance(descriptor, types.MemberDescriptorType) and not name.startswith("__")
    ]


def _read_slots(owner: Any) -> list[Any]:
    found: list[Any] = []
    for name, descriptor in _slots_of(owner):
        try:
            found += [name, descriptor.__get__(owner)]
        except AttributeError:  # not set
            continue
    return found


def _write_slots(owner: Any, items: list[Any]) -> None:
    wanted, now = dict(_pairs(items)), dict(_pairs(_read_slots(owner)))
    for name, descriptor in _slots_of(owner):
        if name in wanted and now.get(name, now) is not wanted[name]:
            descriptor.__set__(owner, wanted[name])
        elif name in now and name not in wanted:
            descriptor.__delete__(owner)


SLOTS = Form(_read_slots, _write_slots)


def form_of(value: Any) -> Optional[Form]:
    """How the content of a container is read and written; None for what is none."""
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form
    return None


def has_slots(value: Any) -> bool:
    """Whether its class, or one above, names attributes in ``__slots__``."""
    return bool(_slots_of(value))


_FORMS: tuple[tuple[type, Form], ...] = (
    (collections.OrderedDict, ORDERED), (dict, DICT), (list, LIST), (set, SET), (collections.deque, DEQUE),
    (bytearray, BYTES), (array.array, ARRAY), (types.CellType, CELL),
)  # fmt: skip
