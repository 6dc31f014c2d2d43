"""Calls: which ones are known to keep the order of items, and following those of the script's own functions.

A call of anything on items one by one gives something of that item. A call on the whole batch must be in a table here,
by the very object that is called, or be a Python function whose source is followed in turn.
"""

from __future__ import annotations

import ast
import functools
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Optional, Union

from onthefly.capture.order import expressions as ex
from onthefly.capture.order import subscripts
from onthefly.capture.order.builtin import builtin
from onthefly.capture.order.frame import MAX_DEPTH, Frame, attribute, names_bound
from onthefly.capture.order.known import COLLATES, CONVERT, GRAPHS, is_one_of, tokenizes
from onthefly.capture.order.methods import METHODS, constructor
from onthefly.capture.order.opaque import makes_numbers, named, opaque
from onthefly.capture.order.source import definition
from onthefly.capture.order.values import (
    Closure,
    Entries,
    Growing,
    Items,
    Joined,
    Known,
    Many,
    Method,
    Plain,
    Rows,
    Table,
    Tree,
)

if TYPE_CHECKING:
    from onthefly.capture.order.values import Value


class Given:
    """The arguments of a call."""

    def __init__(self, frame: Frame, node: ast.Call) -> None:
        self.node = node
        self.places: list[Value] = []
        self.names: dict[str, Value] = {}
        self.starred = False
        """``f(*x)``, ``f(**x)``: how many there are is not known."""
        for part in node.args:
            if isinstance(part, ast.Starred):
                self.starred = True
                self.places.append(ex.evaluate(frame, part.value))
            else:
                self.places.append(ex.evaluate(frame, part))
        for keyword in node.keywords:
            value = ex.evaluate(frame, keyword.value)
            if keyword.arg is None:
                self.starred = True
                self.places.append(value)
            else:
                self.names[keyword.arg] = value

    def of(self, value: Value) -> Given:
        """The same call, of one value."""
        given = Given.__new__(Given)
        given.node, given.places, given.names, given.starred = self.node, [value], {}, False
        return given

    @property
    def all(self) -> list[Value]:
        """Their values."""
        return [*self.places, *self.names.values()]

    def literal(self, place: int, name: str) -> Any:
        """The constant that is written for an argument; None where there is none, or it is no constant."""
        found: Optional[ast.expr] = next((keyword.value for keyword in self.node.keywords if keyword.arg == name), None)
        if found is None and place < len(self.node.args):
            found = self.node.args[place]
        if isinstance(found, ast.UnaryOp) and isinstance(found.op, ast.USub):
            value = found.operand.value if isinstance(found.operand, ast.Constant) else None
            return -value if isinstance(value, int) else None
        return found.value if isinstance(found, ast.Constant) else None


def call(frame: Frame, node: ast.Call) -> Value:
    """What a call gives."""
    if isinstance(node.func, ast.Attribute):
        owner = ex.raw(frame, node.func.value)
        if isinstance(owner, Growing) and node.func.attr == "append":
            return _append(frame, node, owner)
        owner = frame.read(node.func.value, owner)
        if not isinstance(owner, Plain) or type(owner) is Plain:
            given = Given(frame, node)
            for kind, method in METHODS.items():
                if isinstance(owner, kind):
                    return method(frame, node, owner, node.func.attr, given)
            return opaque(frame, node, [owner, *given.all], owner=owner)
        if isinstance(owner, Known):
            called = attribute(owner.thing, node.func.attr)
            if type(called) is Plain:  # whatever a library's object does
                return opaque(frame, node, [owner, *Given(frame, node).all], owner=owner)
        else:
            called = Plain()
    else:
        called = ex.evaluate(frame, node.func)
    return applied(frame, node, called, Given(frame, node))


def applied(frame: Frame, node: ast.Call, called: Value, given: Given) -> Value:
    """What calling that value gives."""
    if isinstance(called, Closure):
        if given.starred:
            raise frame.doubt(node, "calls a function of its own with * or **")
        return inline(frame, node, called.node, called.frame, given.places, given.names)
    if isinstance(called, Known):
        result = builtin(frame, node, called.thing, given)
        if result is None:
            result = constructor(frame, node, called.thing, given)
        if result is not None:
            return result
    if not any(isinstance(value, (*ex.WHOLE, Entries, Table)) for value in given.all):
        fresh = isinstance(called, Known) and makes_numbers(called.thing)
        return opaque(frame, node, given.all, fresh=fresh)
    if isinstance(called, (Known, Method)) and not given.starred:
        return followed(frame, node, called, given.places, given.names)
    return opaque(frame, node, given.all)


def followed(frame: Frame, node: ast.Call, called: Plain, places: list[Value], names: dict[str, Value]) -> Value:
    """What a Python function makes of the whole batch."""
    thing: Any = called.thing if isinstance(called, Known) else called.function if isinstance(called, Method) else None
    if isinstance(called, Method):
        if tokenizes(called.owner, called.function):
            return _tokenized(frame, node, places, names)
        places = [Known(called.owner), *places]
    while isinstance(thing, (functools.partial, MethodType)):
        if isinstance(thing, functools.partial):
            part: functools.partial[Any] = thing  # pyright: ignore[reportUnknownVariableType]
            places = [*map(Known, part.args), *places]
            names = {**{name: Known(value) for name, value in part.keywords.items()}, **names}
            thing = part.func
        else:
            places, thing = [Known(thing.__self__), *places], thing.__func__
    if is_one_of(thing, COLLATES | CONVERT | GRAPHS):
        return _library(frame, node, thing, places)
    if not isinstance(thing, FunctionType):
        method = Plain() if isinstance(thing, type) else attribute(type(thing), "__call__")
        function = method.thing if isinstance(method, Known) else None
        if not isinstance(function, FunctionType):
            raise frame.doubt(node, f"gives the whole batch to {named(node)}, which is not known")
        if tokenizes(thing, function):
            return _tokenized(frame, node, places, names)
        places, thing = [Known(thing), *places], function
    return inline(frame, node, definition(thing), thing, places, names)


def _library(frame: Frame, node: ast.AST, thing: Any, places: list[Value]) -> Value:
    """A collate function of a library that keeps the order."""
    value = places[0] if len(places) == 1 else None
    if value is not None and is_one_of(thing, CONVERT):
        return value
    if isinstance(value, (Items, Rows)):
        return Joined() if is_one_of(thing, GRAPHS) else Tree()
    raise frame.doubt(node, "collates what is not followed")


def _tokenized(frame: Frame, node: ast.AST, places: list[Value], names: dict[str, Value]) -> Value:
    if any(not isinstance(value, (Items, Plain)) for value in [*places, *names.values()]) or not all(
        name not in names for name in ("return_overflowing_tokens", "text_pair_target")
    ):
        raise frame.doubt(node, "gives a tokenizer what is not followed")
    return Tree()


def inline(
    frame: Frame,
    node: ast.AST,
    called: Union[ast.FunctionDef, ast.Lambda],
    home: Any,
    places: list[Value],
    names: dict[str, Value],
) -> Value:
    """Follow a function: with ``home`` the function itself, or for one within another the frame it was defined in."""
    run = frame.run
    if len(run.calls) == MAX_DEPTH:
        raise frame.doubt(node, "calls functions too deep to be followed")
    function: FunctionType = home.function if isinstance(home, Frame) else home
    body = [called.body] if isinstance(called, ast.Lambda) else called.body
    arguments = [*called.args.posonlyargs, *called.args.args, *called.args.kwonlyargs]
    bound = names_bound(body) | {argument.arg for argument in arguments}
    outer = home if isinstance(home, Frame) else None
    inner = Frame(run, function, _arguments(frame, node, called, function, outer, places, names), bound, outer)
    if any(isinstance(value, Items) and value.lazy for value in inner.names.values()):
        raise frame.doubt(node, "hands an iterator on")
    before = run.loops, run.calls
    run.calls = (*run.calls, node)
    if isinstance(called, ast.Lambda):
        result = ex.evaluate(inner, called.body)
    else:
        from onthefly.capture.order.statements import returned

        result = returned(inner, called)
    run.loops, run.calls = before
    return result


def _arguments(
    frame: Frame, node: ast.AST, called: Union[ast.FunctionDef, ast.Lambda], function: FunctionType,
    outer: Optional[Frame], places: list[Value], names: dict[str, Value],
) -> dict[str, Value]:  # fmt: skip
    """The names that a function begins with."""
    given = called.args
    if given.vararg or given.kwarg:
        raise frame.doubt(node, "calls a function with * or ** among its arguments")
    positional = [argument.arg for argument in (*given.posonlyargs, *given.args)]
    found: dict[str, Value] = {}
    for number, default in enumerate(reversed(given.defaults)):
        if outer is None:
            found[positional[-1 - number]] = Known((function.__defaults__ or ())[-1 - number])
        else:
            found[positional[-1 - number]] = ex.evaluate(outer, default)
    for argument, default in zip(given.kwonlyargs, given.kw_defaults):
        if default is not None:
            known = (function.__kwdefaults__ or {}) if outer is None else {}
            found[argument.arg] = Known(known[argument.arg]) if outer is None else ex.evaluate(outer, default)
    if len(places) > len(positional):
        raise frame.doubt(node, "gives a function more than it takes")
    found.update(zip(positional, places))
    found.update(names)
    if {*positional, *(argument.arg for argument in given.kwonlyargs)} != set(found):
        raise frame.doubt(node, "gives a function other arguments than it takes")
    return found


def _append(frame: Frame, node: ast.Call, grown: Growing) -> Value:
    """``list.append(value)``: once for each item, in a loop over the items, and nothing else before or after."""
    given = Given(frame, node)
    if len(given.places) != 1 or given.names or given.starred:
        raise frame.doubt(node, "appends what is not followed")
    value, loops = given.places[0], frame.run.loops
    if grown.read:
        raise frame.doubt(node, "appends to a list that is in use by now")
    if loops == grown.loops and grown.filled is None:
        grown.entries.append(value)
    elif len(loops) == len(grown.loops) + 1 and loops[:-1] == grown.loops and not grown.entries:
        loop = loops[-1]
        if not loop.items:
            if grown.filled is not None or not isinstance(value, (Items, Rows, Tree)):
                raise frame.doubt(node, "appends what is not followed")
            grown.filled = Many(value)
        else:
            if grown.filled is not None:
                raise frame.doubt(node, "appends more than once for an item")
            grown.filled = ex.per_item(frame, node, value)
            grown.filled.listed = True
            loop.filled.add(grown.node)
        grown.by = loop
    else:
        raise frame.doubt(node, "appends several times for an item, or not for each")
    return Plain(fixed=True)


ex.EXPRESSIONS.update({ast.Call: call, ast.Subscript: subscripts.of})
