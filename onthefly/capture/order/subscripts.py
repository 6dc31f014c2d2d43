"""What stands in brackets: parts of the list of items, of one item, of the batch."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from torch import Tensor

from onthefly.capture.order import expressions as ex
from onthefly.capture.order.values import (
    Entries,
    Growing,
    Item,
    Items,
    Known,
    Many,
    Other,
    Plain,
    Rows,
    Shape,
    Table,
    Tree,
)  # fmt: skip

if TYPE_CHECKING:
    from onthefly.capture.order.frame import Frame
    from onthefly.capture.order.values import Value


def of(frame: Frame, node: ast.Subscript) -> Value:
    """``owner[...]``; a list that may be filled on as the entry of a dictionary that holds it."""
    owner = ex.evaluate(frame, node.value)
    if isinstance(owner, Table) and isinstance(node.slice, ast.Constant) and node.slice.value in owner.entries:
        return owner.entries[node.slice.value]
    return subscript(frame, node, owner)


def subscript(frame: Frame, node: ast.Subscript, value: Value) -> Value:
    """``value[...]``."""
    place = node.slice
    if isinstance(value, Table):
        return _of_table(frame, node, value)
    index = mixed_index(frame, place)
    literal = place.value if isinstance(place, ast.Constant) else None
    if isinstance(value, Items):
        if isinstance(index, Item) and index.place and not isinstance(place, ast.Slice):
            return Item(number=value.number, row=value.row)
        if isinstance(place, ast.Slice):
            raise frame.doubt(node, ex.TAKES_APART)
        return ex.mixed(frame, node, [Other(), index])
    if isinstance(value, Rows):
        return _of_rows(frame, node, index)
    if isinstance(value, Many) and isinstance(index, Plain) and not isinstance(place, ast.Slice):
        return ex.alike(value.entry)
    if isinstance(value, Tree) and isinstance(literal, str):
        return Tree()
    if isinstance(value, Entries) and isinstance(literal, int) and -len(value.entries) <= literal < len(value.entries):
        return value.entries[literal]
    if isinstance(value, Item):
        row = isinstance(place, ast.Constant) and literal is None
        return Item(number=value.number and not isinstance(place, ast.Slice), row=row)
    if isinstance(value, Known):
        return _of_known(frame, node, value, index, literal)
    if isinstance(value, Shape):
        return Plain(number=True, count=value.of_rows and literal == 0)
    return ex.mixed(frame, node, [value, index])


def mixed_index(frame: Frame, place: ast.expr) -> Value:
    """What stands in the brackets."""
    if isinstance(place, ast.Slice):
        bounds = [part for part in (place.lower, place.upper, place.step) if part is not None]
        return ex.mixed(frame, place, [ex.evaluate(frame, part) for part in bounds])
    if isinstance(place, ast.Tuple):
        return ex.mixed(frame, place, [mixed_index(frame, part) for part in place.elts])
    return ex.evaluate(frame, place)


def _of_table(frame: Frame, node: ast.Subscript, value: Table) -> Value:
    place = node.slice
    if isinstance(place, ast.Constant):
        found = value.entries.get(place.value, value.rest)
        if found is not None:
            return found
        raise frame.doubt(node, f"takes {place.value!r} of a dictionary that may not have it")
    mixed_index(frame, place)
    entries = [*value.entries.values(), *([] if value.rest is None else [value.rest])]
    if entries and all(isinstance(entry, (Rows, Tree)) for entry in entries):
        return Rows() if all(isinstance(entry, Rows) for entry in entries) else Tree()
    if len(entries) == 1 and not isinstance(entries[0], Growing):
        return entries[0]
    return ex.mixed(frame, node, entries)


def keeps_rows(place: ast.expr, index: Value) -> bool:
    """Whether ``rows[place]`` keeps all rows where they are: ``[:]``, ``[:, 1:]``, ``[:, None]``, ``[:, -1]``."""
    first, *rest = place.elts if isinstance(place, ast.Tuple) else (place,)
    whole = isinstance(first, ast.Slice) and first.lower is None and first.upper is None and first.step is None
    return whole and isinstance(index, Plain) and all(map(_is_simple, rest))


def _is_simple(place: ast.expr) -> bool:
    if isinstance(place, ast.Slice):
        return place.step is None
    if isinstance(place, ast.UnaryOp):
        place = place.operand
    return isinstance(place, ast.Constant) and (place.value is None or type(place.value) is int)


def _of_rows(frame: Frame, node: ast.Subscript, index: Value) -> Value:
    place = node.slice
    if keeps_rows(place, index):
        return Rows()
    if isinstance(index, Item) and index.place:
        return Item()
    if isinstance(place, ast.Constant) and type(place.value) is int:
        return Other()
    raise frame.doubt(node, ex.TAKES_APART)


def _of_known(frame: Frame, node: ast.Subscript, value: Known, index: Value, literal: Any) -> Value:
    thing = value.thing
    if isinstance(index, Items) and index.listed and (type(thing) is Tensor or _is_array(thing)):
        return Rows()
    if literal is not None and type(thing) in (dict, list, tuple):
        try:
            return Known(thing[literal])
        except (LookupError, TypeError):
            raise frame.doubt(node, "takes what is not there") from None
    return ex.mixed(frame, node, [value, index])


def _is_array(thing: Any) -> bool:
    kind: type[Any] = type(thing)
    return (kind.__module__, kind.__qualname__) == ("numpy", "ndarray")
