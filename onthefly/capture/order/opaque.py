"""Calls of which nothing is known but what they are given."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Optional

from onthefly.capture.order import expressions as ex
from onthefly.capture.order.values import Closure, Doubt, Item, Other, Plain

if TYPE_CHECKING:
    from onthefly.capture.order.frame import Frame
    from onthefly.capture.order.values import Value

CONTAINERS = ("append", "appendleft", "add", "extend", "insert", "update", "setdefault", "put", "push", "__setitem__")
"""Methods that keep what they are given."""
OF_TEXTS = ("join", "format", "get", "index", "startswith", "endswith", "replace", "split")


def opaque(
    frame: Frame, node: ast.Call, values: list[Value], *, owner: Optional[Value] = None, fresh: bool = False
) -> Value:
    """What a call gives of which nothing is known; nothing may flow from one item into another."""
    if any(isinstance(value, Closure) for value in values):
        raise frame.doubt(node, f"hands a function of its own to {named(node)}")
    others = sum(isinstance(value, Other) for value in values)
    if others and (others > 1 or any(isinstance(value, Item) for value in values)):
        raise frame.doubt(node, f"gives {named(node)} several items at once")
    try:
        result = ex.mixed(frame, node, values)
    except Doubt:
        raise frame.doubt(node, f"gives the whole batch to {named(node)}, which is not known") from None
    name = named(node).rpartition(".")[2]
    # Of a thing that the code has made itself, any method may keep what it is given; those of texts do not.
    if isinstance(result, Item) and (
        (isinstance(owner, Plain) and name in CONTAINERS) or (type(owner) is Plain and name not in OF_TEXTS)
    ):
        raise frame.doubt(node, f"keeps items in {named(node)}")
    if isinstance(result, Plain) and not fresh:
        return Other()  # it may give what it was once given
    return Plain(number=result.number) if isinstance(result, Plain) else result


def makes_numbers(thing: Any) -> bool:
    """A function of torch, NumPy, ``math`` or ``random``, or a type of numbers: it keeps nothing that it is given."""
    module: Any = getattr(thing, "__module__", None)
    owner: Any = getattr(thing, "__self__", None)
    if module is None and owner is not None:  # random.random is bound to the module's generator
        module = type(owner).__module__
    return isinstance(module, str) and module.partition(".")[0] in ("torch", "numpy", "math", "random", "builtins")


def named(node: ast.Call) -> str:
    """What is called, as it is written."""
    return ast.unparse(node.func)[:60]
