"""What each kind of expression is with regard to the items of a batch. Whatever is not written here is doubted."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from torch import Tensor

from onthefly.capture.order.frame import Frame, Loop, attribute, names_bound
from onthefly.capture.order.values import (
    Closure,
    Entries,
    Growing,
    Item,
    Items,
    Joined,
    Known,
    Many,
    Other,
    Pairs,
    Plain,
    Rows,
    Shape,
    Table,
    Tree,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.capture.order.values import Value

WHOLE = (Items, Rows, Tree, Joined, Many, Growing)
TAKES_APART = "takes a part of its items, or changes their order"


def evaluate(frame: Frame, node: ast.expr) -> Value:
    """What the expression is; raises :class:`Doubt` where that is not known."""
    return frame.read(node, raw(frame, node))


def raw(frame: Frame, node: ast.expr) -> Value:
    """The same, but for a list that may be filled on: that comes as the variable which holds it."""
    found = EXPRESSIONS.get(type(node))
    if found is None:
        raise frame.doubt(node, f"holds what is not followed ({type(node).__name__})")
    return found(frame, node)


def mixed(frame: Frame, node: ast.AST, values: list[Value], *, kept: bool = False) -> Value:
    """What is made of these values together; ``kept``: each can be taken out again."""
    flat: list[Value] = []
    pending = list(values)
    # A list of constants that is made before the loop may be filled by whoever gets it.
    shared = not frame.run.at_item and any(isinstance(value, (Entries, Table)) for value in values)
    while pending:
        value = pending.pop()
        if isinstance(value, Entries):
            pending.extend(value.entries)
        elif isinstance(value, Table):
            pending.extend([*value.entries.values(), *([] if value.rest is None else [value.rest])])
        else:
            flat.append(value)
    if any(isinstance(value, WHOLE) for value in flat):
        raise frame.doubt(node, f"does with the whole batch what is not followed: {ast.unparse(node)[:60]}")
    if any(isinstance(value, Other) for value in flat):
        return Other()
    if any(isinstance(value, Item) for value in flat):
        if kept and not all(value.fixed for value in flat if isinstance(value, Plain)):
            return Other()
        return Item()
    return Plain(fixed=not shared and all(value.fixed for value in flat if isinstance(value, Plain)))


def per_item(frame: Frame, node: ast.AST, value: Value) -> Items:
    """The list of which each entry is such a value."""
    if isinstance(value, (Entries, Table)):
        value = mixed(frame, node, [value], kept=True)
    if isinstance(value, Item):
        return Items(number=value.number, row=value.row, place=value.place)
    if isinstance(value, Plain) and value.fixed and not isinstance(value, Closure):
        return Items(number=value.number)
    raise frame.doubt(node, "puts into a place what may be of another item")


def elements(frame: Frame, node: ast.AST, value: Value) -> tuple[Value, bool]:
    """What going through the value gives, and whether that is all items one by one, in their order."""
    if isinstance(value, (Items, Rows)):
        if frame.run.at_item:
            raise frame.doubt(node, "goes through all items for each item")
        return _each(value), True
    if isinstance(value, Many):
        return value.entry, False
    if isinstance(value, Table):  # its keys
        return Plain(fixed=True), False
    if isinstance(value, Entries):
        if all(isinstance(entry, Items) and not entry.lazy for entry in value.entries) and value.entries:
            return value.entries[0], False
        return mixed(frame, node, value.entries), False
    if isinstance(value, Item):
        return Item(), False
    if isinstance(value, Other):
        return Other(), False
    if isinstance(value, Plain):
        return Plain(fixed=value.fixed), False
    raise frame.doubt(node, "goes through what is not followed")


def _each(value: Items | Rows) -> Value:
    if isinstance(value, Pairs):
        return Entries(value.entries)
    return Item(number=value.number, row=value.row, place=value.place) if isinstance(value, Items) else Item()


def bind(frame: Frame, node: ast.AST, target: ast.expr, value: Value) -> None:
    """Give a value to a name, or its parts to several."""
    if isinstance(target, ast.Name):
        if isinstance(value, Items) and value.lazy:
            raise frame.doubt(node, "keeps an iterator")
        frame.names[target.id] = value
    elif isinstance(target, (ast.Tuple, ast.List)):
        for place, part in enumerate(parts(frame, node, value, len(target.elts))):
            bind(frame, node, target.elts[place], part)
    else:
        raise frame.doubt(node, "puts an item where it is not followed")


def parts(frame: Frame, node: ast.AST, value: Value, count: int) -> list[Value]:
    """The values that a sequence of that many entries holds."""
    value = frame.read(node, value)
    if isinstance(value, Entries):
        if len(value.entries) != count:
            raise frame.doubt(node, "unpacks a sequence of another length")
        return value.entries
    if isinstance(value, Many):
        return [alike(value.entry) for _ in range(count)]
    if isinstance(value, Tree):
        frame.run.unpacked.add(count)
        return [Tree() for _ in range(count)]
    if isinstance(value, Item):
        return [Item() for _ in range(count)]
    if isinstance(value, Items):
        return [Other() for _ in range(count)]
    if isinstance(value, (Plain, Other)):
        return [value if isinstance(value, Other) else Plain(number=isinstance(value, Shape)) for _ in range(count)]
    raise frame.doubt(node, "unpacks what is not followed")


def alike(value: Value) -> Value:
    """A list like that one, which is another."""
    return Items(number=value.number, row=value.row) if isinstance(value, Items) else value


def _attribute(frame: Frame, node: ast.Attribute) -> Value:
    value, name = evaluate(frame, node.value), node.attr
    sizes = name in ("shape", "ndim")
    if isinstance(value, Known):
        return attribute(value.thing, name)
    if isinstance(value, Item):
        return Item(number=sizes)
    if isinstance(value, (Rows, Other)) and name in ("dtype", "device", "ndim"):
        return Plain(fixed=True, number=name == "ndim")
    if isinstance(value, (Rows, Other)) and name == "shape":
        return Shape(of_rows=isinstance(value, Rows))
    if isinstance(value, Rows) and name == "data":
        return value
    if isinstance(value, Tree) and not hasattr(Tensor, name):  # input_ids of what a tokenizer gives
        return Tree()
    return mixed(frame, node, [value])


def _compare(frame: Frame, node: ast.Compare) -> Value:
    values = [evaluate(frame, part) for part in (node.left, *node.comparators)]
    if all(isinstance(operator, (ast.Is, ast.IsNot, ast.In, ast.NotIn)) for operator in node.ops):
        if any(isinstance(value, Item) for value in values):
            return Item(number=True)
        return Plain(number=True)
    return arithmetic(frame, node, values)


def arithmetic(frame: Frame, node: ast.AST, values: list[Value]) -> Value:
    """Of numbers, or of tensors element by element: a tensor of rows keeps its shape beside plain numbers only."""
    if any(isinstance(value, Rows) for value in values):
        if all(isinstance(value, Rows) or (isinstance(value, Plain) and value.number) for value in values) and (
            sum(isinstance(value, Rows) for value in values) == 1
        ):
            return Rows()
        raise frame.doubt(node, "computes with several tensors of the whole batch")
    result = mixed(frame, node, values)
    numbers = all(isinstance(value, (Plain, Item)) and value.number for value in values)
    if isinstance(result, Item):
        return Item(number=numbers)
    if isinstance(result, Plain):
        result.number = numbers
    return result


def test(frame: Frame, node: ast.expr) -> None:
    """A condition: nothing of it is kept."""
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            test(frame, part)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        test(frame, node.operand)
    else:
        evaluate(frame, node)


def _choice(frame: Frame, node: ast.IfExp) -> Value:
    test(frame, node.test)
    return evaluate(frame, node.body if frame.run.choose() else node.orelse)


def _unary(frame: Frame, node: ast.UnaryOp) -> Value:
    if isinstance(node.op, ast.Not):
        test(frame, node.operand)
        return Plain(number=True)
    return arithmetic(frame, node, [evaluate(frame, node.operand)])


def _display(frame: Frame, node: Any) -> Value:
    values: list[Value] = []
    for part in node.elts:
        if isinstance(part, ast.Starred):
            raise frame.doubt(node, "joins lists")
        values.append(evaluate(frame, part))
    if frame.run.at_item:
        return Item() if not values else mixed(frame, node, values, kept=True)
    return Growing(node, values, frame.run.loops) if isinstance(node, ast.List) else Entries(values)


def _table(frame: Frame, node: ast.Dict) -> Value:
    if frame.run.at_item:
        values = [evaluate(frame, part) for part in (*node.keys, *node.values) if part is not None]
        return mixed(frame, node, values, kept=True) if values else Item()
    table = Table({})
    for key, part in zip(node.keys, node.values):
        value = raw(frame, part)
        if not isinstance(value, Growing) or value.node is not part:
            value = frame.read(part, value)
        if key is None:
            spread(frame, node, table, value)
        else:
            put(frame, node, table, key, value)
    return table


def spread(frame: Frame, node: ast.AST, table: Table, value: Value) -> None:
    """``table.update(value)``, ``{**table, **value}``."""
    if frame.run.at_item:
        raise frame.doubt(node, "keeps items in a dictionary")
    if isinstance(value, Table):
        for key, entry in value.entries.items():
            table.entries[key] = entry
        if value.rest is None:
            return
        value = value.rest
    elif not isinstance(value, Tree):
        value = mixed(frame, node, [value])
    unwritten(frame, node, table, value)


def unwritten(frame: Frame, node: ast.AST, table: Table, value: Value) -> None:
    """The value goes under a key that is not known: it may replace any."""
    kinds = {type(entry) for entry in [*table.entries.values(), *([] if table.rest is None else [table.rest])]}
    if kinds - {type(value)} and not (kinds | {type(value)} <= {Rows, Tree}):
        raise frame.doubt(node, "puts different things under keys that are not known")
    if isinstance(value, Growing):
        raise frame.doubt(node, "fills a list whose name is not known")
    table.rest = Tree() if {type(table.rest), type(value)} == {Rows, Tree} else value


def put(frame: Frame, node: ast.AST, table: Table, key: ast.expr, value: Value) -> None:
    """``table[key] = value``."""
    if frame.run.at_item and not isinstance(value, Plain):
        raise frame.doubt(node, "keeps items in a dictionary")
    if isinstance(key, ast.Constant):
        table.entries[key.value] = value
    else:
        evaluate(frame, key)
        unwritten(frame, node, table, value)


def _comprehension(frame: Frame, node: Any) -> Value:
    if len(node.generators) != 1:
        if frame.run.at_item:
            raise frame.doubt(node, "holds what is not followed (a nested comprehension)")
        raise frame.doubt(node, "flattens its items, or goes through them more than once")
    generator = node.generators[0]
    entry, items = elements(frame, node, evaluate(frame, generator.iter))
    if items and generator.ifs:
        raise frame.doubt(node, "leaves out items (a condition in a comprehension)")
    before = frame.run.loops
    frame.run.loops = (*before, Loop(node, items=items))
    inner = Frame(frame.run, frame.function, {}, names_bound([generator.target]), frame)
    bind(inner, node, generator.target, entry)
    for condition in generator.ifs:
        test(inner, condition)
    if isinstance(node, ast.DictComp):
        evaluate(inner, node.key)
    value = evaluate(inner, node.value if isinstance(node, ast.DictComp) else node.elt)
    frame.run.loops = before
    return collected(frame, node, value, items=items, lazy=isinstance(node, ast.GeneratorExp))


def collected(frame: Frame, node: Any, value: Value, *, items: bool, lazy: bool) -> Value:
    """What a comprehension makes, or ``map``, of which each turn gives that value; ``items``: a turn an item."""
    if isinstance(node, ast.DictComp):
        if items:
            raise frame.doubt(node, "makes a dictionary of its items")
        return Table({}, value) if not frame.run.at_item else mixed(frame, node, [value], kept=True)
    if items:
        if isinstance(node, ast.SetComp):
            return Other()
        found = per_item(frame, node, value)
        found.lazy, found.listed = lazy, not lazy
        return found
    if frame.run.at_item:
        return mixed(frame, node, [value], kept=True)
    if isinstance(value, (Rows, Tree, Items, Table, Entries)):
        return Many(value, lazy=lazy)
    return Plain() if isinstance(value, Plain) else mixed(frame, node, [value], kept=True)


def _text(frame: Frame, node: Any) -> Value:
    values = [evaluate(frame, part) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
    result = mixed(frame, node, values)
    return Plain(fixed=True) if isinstance(result, Plain) else result


def _boolean(frame: Frame, node: ast.BoolOp) -> Value:
    """One of its operands, whichever: so each could be taken out."""
    return mixed(frame, node, [evaluate(frame, part) for part in node.values], kept=True)


def _constant(frame: Frame, node: ast.Constant) -> Value:
    return Plain(number=type(node.value) in (int, float, bool), fixed=True)


EXPRESSIONS: dict[type[ast.AST], Callable[[Frame, Any], Value]] = {  # calls and subscripts are in files of their own
    ast.Attribute: _attribute,
    ast.BinOp: lambda frame, node: arithmetic(frame, node, [evaluate(frame, node.left), evaluate(frame, node.right)]),
    ast.BoolOp: _boolean,
    ast.Compare: _compare,
    ast.Constant: _constant,
    ast.Dict: _table,
    ast.DictComp: _comprehension,
    ast.FormattedValue: _text,
    ast.GeneratorExp: _comprehension,
    ast.IfExp: _choice,
    ast.JoinedStr: _text,
    ast.Lambda: lambda frame, node: Closure(node, frame),
    ast.List: _display,
    ast.ListComp: _comprehension,
    ast.Name: lambda frame, node: frame.look_up(node),
    ast.Set: lambda frame, node: mixed(frame, node, [evaluate(frame, part) for part in node.elts]),
    ast.SetComp: _comprehension,
    ast.Tuple: _display,
    ast.UnaryOp: _unary,
}  # fmt: skip
