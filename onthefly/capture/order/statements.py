"""What statements do, up to the value that a function returns."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING, Any, Optional, Union

from onthefly.capture.order import expressions as ex
from onthefly.capture.order.frame import Frame, Loop, names_bound
from onthefly.capture.order.subscripts import mixed_index
from onthefly.capture.order.values import Closure, Growing, Item, Known, Other, Plain, Rows, Table, Tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.capture.order.values import Value


class Returned(Exception):
    """The function returns."""

    def __init__(self, value: Value) -> None:
        self.value = value


class Raised(Exception):
    """The function raises: there is no batch."""


class Left(Exception):
    """``continue`` and ``break`` of a loop that is none over items."""


def returned(frame: Frame, function: Union[ast.FunctionDef, ast.Lambda]) -> Value:
    """What the function gives."""
    if isinstance(function, ast.Lambda):
        return ex.evaluate(frame, function.body)
    try:
        execute(frame, function.body)
    except Returned as done:
        return done.value
    return Plain(fixed=True)


def execute(frame: Frame, body: list[ast.stmt]) -> None:
    """Statements one after the other."""
    for node in body:
        found = STATEMENTS.get(type(node))
        if found is None:
            raise frame.doubt(node, f"holds a statement that is not followed ({type(node).__name__.lower()})")
        found(frame, node)


def _assign(frame: Frame, node: ast.Assign) -> None:
    target, source = node.targets[0], node.value
    if isinstance(target, ast.Tuple) and isinstance(source, ast.Tuple) and len(node.targets) == 1:
        if len(target.elts) != len(source.elts):
            raise frame.doubt(node, ex.TAKES_APART)
        values = [_assigned(frame, part) for part in source.elts]
        for part, value in zip(target.elts, values):
            store(frame, node, part, value)
        return
    value = _assigned(frame, source)
    for target in node.targets:
        store(frame, node, target, value)


def _assigned(frame: Frame, node: ast.expr) -> Value:
    """The value; a new list as the variable that it is filled in."""
    value = ex.raw(frame, node)
    return value if isinstance(value, Growing) and value.node is node else frame.read(node, value)


def store(frame: Frame, node: ast.stmt, target: ast.expr, value: Value) -> None:
    """Put a value where it goes."""
    if isinstance(target, ast.Subscript):
        _store_in(frame, node, target, value)
    elif isinstance(target, ast.Attribute):
        owner = ex.evaluate(frame, target.value)
        if isinstance(owner, Item) and isinstance(value, (Item, Plain)):
            return
        if not (isinstance(value, Plain) and value.fixed and isinstance(owner, (Plain, Other))):
            raise frame.doubt(node, "keeps items in an attribute")
    elif isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, Growing):
        store(frame, node, target, frame.read(node, value))
    elif isinstance(target, (ast.Tuple, ast.List)):
        for part, value_of in zip(target.elts, ex.parts(frame, node, value, len(target.elts))):
            if isinstance(part, ast.Starred):
                raise frame.doubt(node, ex.TAKES_APART)
            store(frame, node, part, value_of)
    else:
        ex.bind(frame, node, target, value)


def _store_in(frame: Frame, node: ast.stmt, target: ast.Subscript, value: Value) -> None:
    """``owner[...] = value``."""
    owner = ex.evaluate(frame, target.value)
    if isinstance(owner, Table):
        ex.put(frame, node, owner, target.slice, value)
        return
    index = mixed_index(frame, target.slice) if not isinstance(owner, Rows) else None
    own = isinstance(value, Item) or (isinstance(value, Plain) and value.fixed)
    if isinstance(owner, Item) and own and not isinstance(index, Other):
        return
    if isinstance(owner, Tree) and isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, str):
        if isinstance(value, (Rows, Tree)) or (isinstance(value, Plain) and value.fixed):
            return
        raise frame.doubt(node, "puts what is not followed into the batch")
    if isinstance(owner, Rows):
        _fill(frame, node, target.slice, value)
        return
    if isinstance(owner, Plain) and isinstance(value, Plain) and isinstance(index, Plain):
        return
    raise frame.doubt(node, "changes a list of items, or keeps items elsewhere")


def _fill(frame: Frame, node: ast.stmt, place: ast.expr, value: Value) -> None:
    """``rows[i] = ...`` with the place of the item at hand; or a plain number, anywhere."""
    if isinstance(value, Plain) and value.number:
        return
    first = place.elts[0] if isinstance(place, ast.Tuple) and place.elts else place
    index = ex.evaluate(frame, first) if not isinstance(first, ast.Slice) else Plain()
    own = isinstance(index, Item) and index.place and isinstance(value, Item)
    if own and (not isinstance(place, ast.Tuple) or isinstance(mixed_index(frame, place), Item)):
        return
    raise frame.doubt(node, "writes into the batch where it is not clear whose row that is")


def _augment(frame: Frame, node: ast.AugAssign) -> None:
    value = ex.evaluate(frame, node.value)
    target: Any = node.target
    load = ast.copy_location(_loaded(target), target)
    before = ex.evaluate(frame, load)
    if isinstance(before, Item) and not isinstance(value, (Item, Plain)):
        raise frame.doubt(node, "mixes items")
    if isinstance(before, Rows) and not (isinstance(value, Plain) and value.number):
        raise frame.doubt(node, "computes with several tensors of the whole batch")
    result = before if isinstance(before, Rows) else ex.arithmetic(frame, node, [before, value])
    if isinstance(target, ast.Name):
        frame.names[target.id] = result
    else:
        store(frame, node, target, result)


def _loaded(target: Any) -> Any:
    """The same expression, read."""
    fields = {name: getattr(target, name) for name in target._fields if name != "ctx"}
    return type(target)(**fields, ctx=ast.Load())


def _if(frame: Frame, node: ast.If) -> None:
    ex.test(frame, node.test)
    execute(frame, node.body if frame.run.choose() else node.orelse)


def _for(frame: Frame, node: ast.For) -> None:
    if node.orelse:
        raise frame.doubt(node, "holds a loop with an else")
    entry, items = ex.elements(frame, node, ex.evaluate(frame, node.iter))
    run, before = frame.run, frame.run.loops
    loop = Loop(node, items=items)
    # What an earlier turn left in these names is another item's.
    carried = names_bound([node.target, *node.body])
    frame.names.update(dict.fromkeys(carried, Other()))
    run.loops = (*before, loop)
    store(frame, node, node.target, entry)
    try:
        execute(frame, node.body)
    except Left as left:
        if items:
            raise frame.doubt(node, f"leaves out items ({left})") from None
    except Returned:
        raise frame.doubt(node, "returns from within a loop") from None
    run.loops = before
    frame.names.update(dict.fromkeys(carried, Other()))
    if items and not run.agrees(loop):
        raise frame.doubt(node, "appends under a condition")


def _return(frame: Frame, node: ast.Return) -> None:
    raise Returned(ex.evaluate(frame, node.value) if node.value is not None else Plain(fixed=True))


def _raise(frame: Frame, node: ast.Raise) -> None:
    raise Raised


def _leave(frame: Frame, node: ast.stmt) -> None:
    raise Left(type(node).__name__.lower())


def _annotated(frame: Frame, node: ast.AnnAssign) -> None:
    if node.value is not None:
        store(frame, node, node.target, _assigned(frame, node.value))


def _define(frame: Frame, node: ast.FunctionDef) -> None:
    if node.decorator_list:
        raise frame.doubt(node, "decorates a function of its own")
    frame.names[node.name] = Closure(node, frame)


def _import(frame: Frame, node: Union[ast.Import, ast.ImportFrom]) -> None:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            module: Optional[Any] = sys.modules.get(node.module or "") if not node.level else None
            known = vars(module).get(alias.name) if module is not None else None
        else:
            known = sys.modules.get(alias.name if alias.asname else alias.name.partition(".")[0])
        frame.names[alias.asname or alias.name.partition(".")[0]] = Known(known) if known is not None else Plain()


def _delete(frame: Frame, node: ast.Delete) -> None:
    for target in node.targets:
        if not isinstance(target, ast.Name):
            raise frame.doubt(node, "deletes what is not followed")
        frame.names.pop(target.id, None)


def _expression(frame: Frame, node: ast.Expr) -> None:
    if not isinstance(node.value, ast.Constant):  # a docstring
        ex.evaluate(frame, node.value)


STATEMENTS: dict[type[ast.AST], Callable[[Frame, Any], None]] = {
    ast.AnnAssign: _annotated,
    ast.Assert: lambda frame, node: ex.test(frame, node.test),
    ast.Assign: _assign,
    ast.AugAssign: _augment,
    ast.Break: _leave,
    ast.Continue: _leave,
    ast.Delete: _delete,
    ast.Expr: _expression,
    ast.For: _for,
    ast.FunctionDef: _define,
    ast.If: _if,
    ast.Import: _import,
    ast.ImportFrom: _import,
    ast.Pass: lambda frame, node: None,
    ast.Raise: _raise,
    ast.Return: _return,
}  # fmt: skip
