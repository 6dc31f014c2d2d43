"""Methods of batches and of their parts, builtins, and the functions that make a tensor of a list."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch.nn import functional as F
from torch.nn.utils import rnn

from onthefly.capture.order import expressions as ex
from onthefly.capture.order.opaque import opaque
from onthefly.capture.order.values import (
    Entries,
    Growing,
    Item,
    Items,
    Many,
    Other,
    Plain,
    Rows,
    Shape,
    Table,
    Tree,
)

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable

    from onthefly.capture.order.calls import Given
    from onthefly.capture.order.frame import Frame
    from onthefly.capture.order.values import Value

REORDERS = {
    "sort": "sorts its items", "reverse": "reverses its items", "pop": "drops items", "remove": "drops items",
    "clear": "drops items", "insert": "adds items", "extend": "joins lists", "append": "adds items",
}  # fmt: skip
SAME_ROWS = frozenset({
    "to", "cuda", "cpu", "long", "int", "short", "float", "double", "half", "bfloat16", "bool", "byte", "type",
    "contiguous", "clone", "detach", "pin_memory", "requires_grad_", "astype", "copy", "type_as", "numpy",
    "eq", "ne", "gt", "ge", "lt", "le", "add", "sub", "mul", "div", "add_", "sub_", "mul_", "div_", "abs", "neg",
    "clamp", "clamp_", "clip", "log", "exp", "sqrt", "logical_not", "isnan", "nan_to_num", "fill_", "zero_",
})  # fmt: skip
"""Element by element, beside plain numbers and types."""
OVER_OTHER_DIMENSIONS = frozenset({
    "sum", "mean", "amax", "amin", "argmax", "argmin", "any", "all", "std", "var", "softmax", "log_softmax", "cumsum",
    "squeeze", "unsqueeze", "flatten", "norm",
})  # fmt: skip
"""Good where the dimension is written, and is not the first."""
NUMBERS = frozenset({"size", "dim", "numel", "ndimension", "nelement", "item", "__len__"})


def of_items(frame: Frame, node: ast.Call, owner: Items, name: str, given: Given) -> Value:
    """A method of a list of all items."""
    if name in ("copy", "__iter__") and not given.all:
        return Items(number=owner.number, row=owner.row, place=owner.place)
    if name in ("index", "count"):
        return Other()
    raise frame.doubt(node, REORDERS.get(name, f"calls .{name} of the list of items"))


def of_rows(frame: Frame, node: ast.Call, owner: Rows, name: str, given: Given) -> Value:
    """A method of a tensor of all rows."""
    if name in ("dim", "numel", "nelement", "ndimension"):
        return Plain(number=True)
    if name == "size":
        return Plain(number=True, count=given.literal(0, "dim") == 0) if given.all else Shape(of_rows=True)
    if not all(isinstance(value, Plain) for value in given.all) or given.starred:
        raise frame.doubt(node, f"calls .{name} of the batch with what is not plain")
    if name in SAME_ROWS and all(isinstance(value, Plain) and (value.fixed or value.number) for value in given.all):
        return owner
    if name in SAME_ROWS and name in ("to", "type", "astype", "cuda", "type_as") and len(given.places) <= 1:
        return owner  # a device or a type, from wherever
    if name in OVER_OTHER_DIMENSIONS and _not_the_first(given):
        return Rows()
    if name in ("view", "reshape") and given.places and _is_count(given.places[0]):
        return Rows()
    if name == "transpose" and _later(given.literal(0, "dim0")) and _later(given.literal(1, "dim1")):
        return Rows()
    if name == "permute" and given.literal(0, "dims") == 0:
        return Rows()
    if name in ("max", "min", "sum", "mean", "any", "all", "tolist", "item") and not given.all:
        return Items() if name == "tolist" else Other()
    raise frame.doubt(node, f"calls .{name} of the batch")


def _not_the_first(given: Given) -> bool:
    dimension = given.literal(0, "dim")
    return len(given.all) == 1 and type(dimension) is int and (dimension > 0 or dimension == -1)


def _later(dimension: Any) -> bool:
    return type(dimension) is int and dimension > 0


def _is_count(value: Value) -> bool:
    if isinstance(value, Entries) and value.entries:
        value = value.entries[0]
    return isinstance(value, Plain) and value.count


def of_tree(frame: Frame, node: ast.Call, owner: Tree, name: str, given: Given) -> Value:
    """A method of what a library collated."""
    if name in ("keys", "to", "pin_memory") and all(isinstance(value, Plain) for value in given.all):
        return Plain(fixed=True) if name == "keys" else owner
    if name in ("pop", "get") and isinstance(given.literal(0, "key"), str) and len(given.all) == 1:
        return Tree()
    if name == "items" and not given.all:
        return Many(Entries([Plain(fixed=True), Tree()]))
    if name == "values" and not given.all:
        return Many(Tree())
    raise frame.doubt(node, f"calls .{name} of the batch")


def of_table(frame: Frame, node: ast.Call, owner: Table, name: str, given: Given) -> Value:
    """A method of a dictionary."""
    entries = [frame.read(node, entry) for entry in owner.entries.values()]
    entries += [] if owner.rest is None else [owner.rest]
    alike = len({type(entry) for entry in entries}) == 1 and not isinstance(entries[0], (Growing, Table, Entries))
    if name == "keys" and not given.all:
        return Plain(fixed=True)
    if name in ("items", "values") and not given.all and alike:
        return Many(Entries([Plain(fixed=True), entries[0]]) if name == "items" else entries[0])
    if name == "update" and len(given.all) == 1 and given.places:
        ex.spread(frame, node, owner, given.places[0])
        return Plain(fixed=True)
    raise frame.doubt(node, f"calls .{name} of a dictionary of the batch")


def of_item(frame: Frame, node: ast.Call, owner: Item, name: str, given: Given) -> Value:
    """A method of one item, or of a part of it: whatever it is, with plain things and its own."""
    result = opaque(frame, node, [owner, *given.all], owner=owner)
    if not isinstance(result, Item):
        return result
    first = given.literal(0, "dim" if name == "unsqueeze" else "shape")
    row = (name == "unsqueeze" and first == 0) or (name in ("view", "reshape") and first == 1)
    return Item(number=name in NUMBERS and name != "item", row=row)


def of_other(frame: Frame, node: ast.Call, owner: Other, name: str, given: Given) -> Value:
    """A method of one item of the batch, such as the first."""
    if name in ("dim", "numel", "size", "ndimension") and all(isinstance(value, Plain) for value in given.all):
        return Plain(number=True) if given.all or name != "size" else Shape(of_rows=False)
    if name == "keys" and not given.all:
        return Plain(fixed=True)
    if name in ("new_zeros", "new_ones", "new_full", "new_empty"):
        return blank(frame, node, given)
    return opaque(frame, node, [owner, *given.all], owner=owner)


def of_many(frame: Frame, node: ast.Call, owner: Value, name: str, given: Given) -> Value:
    """A method of a list that was made by hand."""
    if isinstance(owner, Entries) and all(isinstance(entry, Plain) for entry in owner.entries):
        return ex.mixed(frame, node, [owner, *given.all])
    raise frame.doubt(node, f"calls .{name} of a list that is not followed")


METHODS: dict[type[Any], Callable[[Frame, ast.Call, Any, str, Given], Value]] = {
    Items: of_items, Rows: of_rows, Tree: of_tree, Table: of_table, Item: of_item, Other: of_other, Many: of_many,
    Entries: of_many,
}  # fmt: skip


def blank(frame: Frame, node: ast.Call, given: Given) -> Value:
    """``torch.zeros(len(batch), ...)``: as many rows as items, all alike until they are filled."""
    sizes = list(given.places)
    if sizes and isinstance(sizes[0], Entries):
        sizes[:1] = sizes[0].entries
    if not all(isinstance(value, Plain) for value in [*sizes, *given.names.values()]) or given.starred:
        return ex.mixed(frame, node, given.all)
    return Rows() if sizes and _is_count(sizes[0]) else Plain()


def _stack(frame: Frame, node: ast.Call, given: Given) -> Value:
    """One tensor of all entries of a list, along a new first dimension."""
    dimension = given.literal(1, "dim" if "dim" in given.names else "axis")
    along_first = dimension == 0 or (len(given.places) == 1 and not {"dim", "axis"} & set(given.names))
    if not isinstance(given.places[0], (Items, Rows)) or given.starred:
        return ex.mixed(frame, node, given.all)
    if not along_first or "out" in given.names:
        raise frame.doubt(node, "stacks its items along another dimension than the first")
    return Rows()


def _array(frame: Frame, node: ast.Call, given: Given) -> Value:
    """A tensor or array of a list, or the same again."""
    if not isinstance(given.places[0], (Items, Rows)) or given.starred:
        return ex.mixed(frame, node, given.all)
    if not all(isinstance(value, Plain) for value in [*given.places[1:], *given.names.values()]):
        raise frame.doubt(node, "makes a tensor of what is not followed")
    if "ndmin" in given.names or "order" in given.names:
        raise frame.doubt(node, "makes an array of another shape")
    return Rows()


def _join(frame: Frame, node: ast.Call, given: Given) -> Value:
    """Rows below each other: one for each item only where each part has certainly one."""
    value = given.places[0]
    if isinstance(value, Items) and value.row and len(given.all) == (2 if given.literal(1, "dim") == 0 else 1):
        return Rows()
    if not isinstance(value, (Items, Rows, Many, Entries)):
        return ex.mixed(frame, node, given.all)
    if isinstance(value, Entries) and not any(isinstance(entry, ex.WHOLE) for entry in value.entries):
        return ex.mixed(frame, node, given.all)
    raise frame.doubt(node, "joins tensors of any number of rows")


def _pad(frame: Frame, node: ast.Call, given: Given) -> Value:
    """``pad_sequence``."""
    if not isinstance(given.places[0], (Items, Rows)):
        return ex.mixed(frame, node, given.all)
    if given.literal(1, "batch_first") is not True:
        raise frame.doubt(node, "pads with time first: rows are not items (batch_first=True would be)")
    return Rows()


def _one_hot(frame: Frame, node: ast.Call, given: Given) -> Value:
    if isinstance(given.places[0], Rows) and all(isinstance(value, Plain) for value in [*given.places[1:]]):
        return Rows()
    return ex.mixed(frame, node, given.all)


Maker = Any
"""Takes frame, node and arguments."""


@functools.lru_cache(maxsize=1)
def _of_torch() -> dict[Any, Maker]:
    return {
        torch.stack: _stack,
        **dict.fromkeys((torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, torch.LongTensor,
                         torch.FloatTensor, torch.IntTensor, torch.BoolTensor, torch.DoubleTensor), _array),
        **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _join),
        rnn.pad_sequence: _pad,
        **dict.fromkeys((torch.zeros, torch.ones, torch.full, torch.empty), blank),
    }  # fmt: skip


def constructor(frame: Frame, node: ast.Call, thing: Any, given: Given) -> Optional[Value]:
    """What a function of torch or NumPy makes of a list; None for all others."""
    found: Maker = None
    try:
        found = _of_torch().get(thing)
        if found is None and thing in (F.one_hot, getattr(F.one_hot, "__wrapped__", None)):  # a slot: it changes
            found = _one_hot
        numpy: Any = sys.modules.get("numpy")
        if found is None and numpy is not None:
            found = {
                numpy.stack: _stack, numpy.array: _array, numpy.asarray: _array, numpy.concatenate: _join,
                numpy.zeros: blank, numpy.ones: blank, numpy.full: blank, numpy.empty: blank,
            }.get(thing)  # fmt: skip
    except TypeError:  # it cannot be hashed
        return None
    return found(frame, node, given) if found is not None and given.places else None
