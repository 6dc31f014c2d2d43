"""A function that is followed: its names, the loops under way, and which way each branch is taken."""

from __future__ import annotations

import ast
import builtins
from types import FunctionType
from typing import TYPE_CHECKING, Any, Optional

from onthefly.capture.order.values import Doubt, Growing, Items, Known, Many, Method, Plain

if TYPE_CHECKING:
    from onthefly.capture.order.values import Value

MAX_DEPTH, MAX_RUNS = 6, 256


class Loop:
    """A loop or comprehension that is under way."""

    def __init__(self, node: ast.AST, *, items: bool) -> None:
        self.node = node
        self.items = items
        """It goes over all items, one by one, in their order."""
        self.filled: set[ast.AST] = set()
        """The expressions that made the lists which got an entry in it."""


class Run:
    """One way through the code; all ways are gone through, each with other branches taken."""

    def __init__(self) -> None:
        self.loops: tuple[Loop, ...] = ()
        self.calls: tuple[ast.AST, ...] = ()
        """Those of followed functions that are under way."""
        self.unpacked: set[int] = set()
        """Into how many names a batch was unpacked that might be one tensor: no batch may have as many items."""
        self._choices: list[bool] = []
        self._place = 0
        self._filled: dict[tuple[Any, ...], set[ast.AST]] = {}

    def again(self) -> bool:
        """Go back to the beginning to take another way; False after the last."""
        while self._choices and self._choices[-1]:
            self._choices.pop()
        if not self._choices:
            return False
        self._choices[-1] = True
        self._place, self.loops, self.calls = 0, (), ()
        return True

    def choose(self) -> bool:
        """Which way a branch goes this time."""
        if self._place == len(self._choices):
            self._choices.append(False)
        self._place += 1
        return self._choices[self._place - 1]

    @property
    def at_item(self) -> bool:
        """A loop over items is under way."""
        return any(loop.items for loop in self.loops)

    def agrees(self, loop: Loop) -> bool:
        """Whether the loop filled the same lists as on every other way through it: an entry an item, whatever it is."""
        return self._filled.setdefault((*self.calls, loop.node), loop.filled) == loop.filled


class Frame:
    """Names of a function."""

    def __init__(
        self, run: Run, function: FunctionType, names: dict[str, Value], bound: set[str], outer: Optional[Frame] = None
    ) -> None:
        self.run = run
        self.function = function
        self.names = names
        self.bound = bound
        """The names that are its own, whether they are set by now or not."""
        self.outer = outer

    def doubt(self, node: ast.AST, why: str) -> Doubt:
        """The error that says why, and where."""
        line = getattr(node, "lineno", 0)
        return Doubt(f"{self.function.__name__} {why}" + (f" (line {line})" if line else ""))

    def look_up(self, node: ast.Name) -> Value:
        """What a name stands for."""
        frame: Optional[Frame] = self
        while frame is not None:
            if node.id in frame.names:
                return frame.names[node.id]
            if node.id in frame.bound:
                raise self.doubt(node, f"uses {node.id} before it is set")
            frame = frame.outer
        function, name = self.function, node.id
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
        if name in cells:
            try:
                return Known(cells[name].cell_contents)
            except ValueError:
                raise self.doubt(node, f"uses {name} before it is set") from None
        for known in (function.__globals__, vars(builtins)):
            if name in known:
                return Known(known[name])
        raise self.doubt(node, f"uses {name}, which is not known")

    def read(self, node: ast.AST, value: Value) -> Value:
        """The value of a variable, now that it is used for something."""
        if isinstance(value, Growing):
            if value.by in self.run.loops and isinstance(value.filled, Items):
                raise self.doubt(node, "reads a list that it is filling")
            value.read = True
            return value.filled if value.filled is not None else value.settled()
        if isinstance(value, (Items, Many)) and value.lazy and isinstance(node, (ast.Name, ast.Subscript)):
            if value.spent:
                raise self.doubt(node, "goes through an iterator twice")
            value.spent = True
        return value


def attribute(thing: Any, name: str) -> Plain:
    """An attribute of a real object, without running a line of its class."""
    if isinstance(thing, type):
        return _of_class(thing, name)
    try:
        own: dict[str, Any] = vars(thing)
    except TypeError:
        own = {}
    if type(own) is dict and name in own:
        return Known(own[name])
    for kind in type(thing).__mro__:
        found = vars(kind).get(name)
        if isinstance(found, FunctionType):
            return Method(thing, found)
        if isinstance(found, staticmethod):
            return Known(found.__func__)  # pyright: ignore[reportUnknownMemberType]
        if type(found) in (int, float, bool, str):
            return Known(found)
        if found is not None:
            break
    return Plain()


def _of_class(kind: type[Any], name: str) -> Plain:
    for base in kind.__mro__:
        found = vars(base).get(name)
        if isinstance(found, staticmethod):
            return Known(found.__func__)  # pyright: ignore[reportUnknownMemberType]
        if isinstance(found, FunctionType):
            return Known(found)
        if found is not None:
            break
    return Plain()


def names_bound(nodes: list[Any]) -> set[str]:
    """The names that these statements bind, but for those of functions within."""
    found: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.SetComp)):
            continue
        pending.extend(ast.iter_child_nodes(node))
    return found
