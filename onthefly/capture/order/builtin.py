"""Python's own functions on batches and on what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from onthefly.capture.order import expressions as ex
from onthefly.capture.order.values import (
    Closure,
    Entries,
    Item,
    Items,
    Many,
    Other,
    Pairs,
    Plain,
    Rows,
    Table,
)

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable

    from onthefly.capture.order.calls import Given
    from onthefly.capture.order.frame import Frame
    from onthefly.capture.order.values import Value

NEVER = {
    sorted: "sorts its items", reversed: "reverses its items", filter: "leaves out items", set: "makes a set of items",
    frozenset: "makes a set of items", iter: "takes its items one by one", next: "takes its items one by one",
}  # fmt: skip


def builtin(frame: Frame, node: ast.Call, thing: Any, given: Given) -> Optional[Value]:
    """What a builtin gives; None where it is none that is known here."""
    try:
        found = FUNCTIONS.get(thing)
        never = NEVER.get(thing)
    except TypeError:  # it cannot be hashed
        return None
    if never is not None and any(isinstance(value, (*ex.WHOLE, Entries)) for value in given.all):
        raise frame.doubt(node, never)
    return found(frame, node, given) if found is not None else None


def _length(frame: Frame, node: ast.Call, given: Given) -> Value:
    value = given.places[0] if given.places else Plain()
    if isinstance(value, (Items, Rows)):
        return Plain(number=True, count=True)
    return Item(number=True) if isinstance(value, Item) else Plain(number=True)


def _sequence(frame: Frame, node: ast.Call, given: Given) -> Value:
    """``list(...)``, ``tuple(...)``."""
    if not given.places:
        return ex.Growing(node, [], frame.run.loops) if not frame.run.at_item else Item()
    value = given.places[0]
    if isinstance(value, Items):
        copy = Items(number=value.number, row=value.row, place=value.place)
        copy.listed = isinstance(node.func, ex.ast.Name) and node.func.id == "list"
        return copy
    if isinstance(value, Rows):
        return Items()
    if isinstance(value, Many):
        return Many(value.entry)
    if isinstance(value, Plain):
        return Plain()
    if isinstance(value, (Entries, Item, Other)):
        return value
    if isinstance(value, Table):
        return Plain(fixed=True)
    raise frame.doubt(node, "makes a list of what is not followed")


def _zip(frame: Frame, node: ast.Call, given: Given) -> Value:
    """Of lists of all items: an entry an item. ``zip(*items)``: a list of all items for each of their fields."""
    if given.starred:
        if len(given.places) == 1 and not given.names and isinstance(given.places[0], Items):
            return Many(Items(), lazy=True)
        raise frame.doubt(node, "zips what is not followed")
    if any(isinstance(value, (Items, Rows)) for value in given.all):
        entries = [ex.elements(frame, node, value)[0] for value in given.places if isinstance(value, (Items, Rows))]
        if len(entries) != len(given.all):
            raise frame.doubt(node, "zips its items with something else")
        return Pairs(entries)
    return ex.mixed(frame, node, given.all, kept=True)


def _enumerate(frame: Frame, node: ast.Call, given: Given) -> Value:
    value = given.places[0] if given.places else Plain()
    if not isinstance(value, (Items, Rows)):
        return ex.mixed(frame, node, given.all, kept=True)
    if len(given.all) != 1:
        return Pairs([Item(number=True), ex.elements(frame, node, value)[0]])
    return Pairs([Item(number=True, place=True), ex.elements(frame, node, value)[0]])


def _range(frame: Frame, node: ast.Call, given: Given) -> Value:
    """``range(len(items))`` has an entry an item, its place."""
    if len(given.all) == 1 and isinstance(given.places[0], Plain) and given.places[0].count:
        return Items(number=True, place=True)
    if all(isinstance(value, Plain) for value in given.all):
        return Plain(fixed=True)
    return ex.mixed(frame, node, given.all)


def _map(frame: Frame, node: ast.Call, given: Given) -> Value:
    """A function on each entry."""
    if len(given.places) != 2 or given.names or given.starred or not isinstance(given.places[1], (*ex.WHOLE, Entries)):
        return ex.mixed(frame, node, given.all, kept=True)
    from onthefly.capture.order.calls import applied

    function = given.places[0]
    entry, items = ex.elements(frame, node, given.places[1])
    before = frame.run.loops
    frame.run.loops = (*before, ex.Loop(node, items=items))
    each = given.of(entry)
    value = applied(frame, node, function, each) if isinstance(function, Plain) else ex.mixed(frame, node, each.all)
    frame.run.loops = before
    return ex.collected(frame, node, value, items=items, lazy=True)


def _largest(frame: Frame, node: ast.Call, given: Given) -> Value:
    """``max``, ``min``: a number where they are numbers; else one of the items, whichever."""
    if len(given.places) == 1 and isinstance(given.places[0], (Items, Rows)):
        value = given.places[0]
        return Plain(number=True) if isinstance(value, Items) and value.number and "key" not in given.names else Other()
    if any(isinstance(value, Closure) for value in given.all):
        return Other()
    return ex.arithmetic(frame, node, given.all)


def _sum(frame: Frame, node: ast.Call, given: Given) -> Value:
    value = given.places[0] if given.places else Plain()
    if isinstance(value, Items):
        if not value.number or len(given.all) > 1:
            raise frame.doubt(node, "adds its items up")
        return Plain(number=True)
    return ex.mixed(frame, node, given.all)


def _number(frame: Frame, node: ast.Call, given: Given) -> Value:
    result = ex.mixed(frame, node, given.all)
    if isinstance(result, Item):
        return Item(number=True)
    return Plain(number=True) if isinstance(result, Plain) else result


def _question(frame: Frame, node: ast.Call, given: Given) -> Value:
    """``isinstance`` and its like: of anything, a plain answer."""
    items = any(isinstance(value, Item) for value in given.all)
    return Item(number=True) if items else Plain(fixed=True)


def _dict(frame: Frame, node: ast.Call, given: Given) -> Value:
    """``dict(x=..., y=...)``, ``dict(other)``."""
    if frame.run.at_item:
        return ex.mixed(frame, node, given.all, kept=True)
    table = Table({})
    for value in given.places:
        if isinstance(value, (Items, Many, Entries)):
            raise frame.doubt(node, "makes a dictionary of what is not followed")
        ex.spread(frame, node, table, value)
    table.entries.update(given.names)
    return table


FUNCTIONS: dict[Any, Callable[[Frame, ast.Call, Given], Value]] = {
    len: _length, list: _sequence, tuple: _sequence, zip: _zip, enumerate: _enumerate, range: _range, map: _map,
    max: _largest, min: _largest, sum: _sum, int: _number, float: _number, bool: _number, abs: _number, round: _number,
    isinstance: _question, issubclass: _question, hasattr: _question, type: _question, callable: _question,
    print: _question, any: _question, all: _question, dict: _dict,
}  # fmt: skip
