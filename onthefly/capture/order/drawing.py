"""Which rows of its tensors a script drew, by its source: ``xb, yb = X[ix], Y[ix]`` before the line that runs now.

A statement that stands before that line, in a block around it, was run the last time before it; and what the statements
from there on do not bind has stayed what it was. So the name ``ix`` still is the key, and ``xb`` what was drawn by it:
wherever a loop went round, the draw was run again. Everything that those statements may bind counts, whichever way they
go; so does what they may write into a key. What functions bind by ``global`` or ``nonlocal`` is not followed at all.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from onthefly.capture.order.places import Places, bound_by, stores
from onthefly.capture.order.source import scopes
from onthefly.capture.order.values import Doubt

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from types import CodeType

    Block = tuple[Sequence[ast.stmt], int, int]
    """A block around the line, and the first and the last of its statements that are in it."""

PEEKS = frozenset({"locals", "vars", "dir", "exec", "eval", "globals"})
"""Functions that see the names of a frame, or bind others, behind its source."""

OPERATORS = ast.Add, ast.Sub, ast.Mult, ast.FloorDiv

LOOKS = {"len", "print", "shape", "dtype", "tolist", "numel", "size"}
"""Functions and attributes that leave no other name for what they are asked of, and nothing in it."""

OPTIMIZED = 1
"""Flag of a function's code object, and not of a class body's."""


class Inline(NamedTuple):
    """The draw is the target of a loss function, in the very expression that made the loss."""

    function: ast.expr
    loss: str
    """The name that holds the loss; empty where the line itself back-propagates the expression."""
    factors: tuple[ast.expr, ...]
    """What the loss was multiplied with or divided by."""


class Draw(NamedTuple):
    """``table[key]``."""

    table: ast.expr
    key: ast.expr
    name: str = ""
    """Holds it at the line; empty where none does."""
    inline: Optional[Inline] = None


class Group(NamedTuple):
    """Draws by one key, of several tables."""

    key: ast.expr
    draws: tuple[Draw, ...]


class Drawing(NamedTuple):
    """What a line of a script has drawn behind it."""

    groups: tuple[Group, ...]
    names: frozenset[str]
    """All that are needed to tell."""


NOTHING = Drawing((), frozenset())


def drawing(code: CodeType, names: dict[str, Any], line: int) -> Drawing:
    """The draws that are done, and as they were, when that line of this code runs; ``names`` are its globals."""
    module = code.co_name == "<module>"
    if code.co_filename.startswith("<") or not (module or code.co_flags & OPTIMIZED):
        return NOTHING
    try:
        around = scopes(code, names)
    except Doubt:
        return NOTHING
    if _peeks(around[0] if module else around[-1]):
        return NOTHING
    blocks = list(_blocks(around[-1].body, line))
    if not blocks:
        return NOTHING
    elsewhere = {name for node in ast.walk(around[0]) if isinstance(node, (ast.Global, ast.Nonlocal))
                 for name in node.names}  # fmt: skip
    groups: dict[str, list[tuple[Draw, set[str]]]] = {}
    for draw, unsure, touched in _draws(blocks):
        bound, keys = unsure | elsewhere, _names(draw.key)
        if keys.isdisjoint(bound | set(code.co_freevars)) and _names(draw.table).isdisjoint(bound):
            groups.setdefault(ast.dump(draw.key), []).append((draw, touched))
    found: list[Group] = []
    places = Places(around)
    for several in groups.values():
        draws = tuple(draw for draw, _ in several)
        made = places.names(draws[0].key)
        if (
            made is not None and len({ast.dump(draw.table) for draw in draws}) > 1
            and any(draw.name or draw.inline for draw in draws)
            and made.isdisjoint(_touched(places.scope_of(made).body, made))
            and all(made.isdisjoint(touched) for _, touched in several)
        ):  # fmt: skip
            found.append(Group(draws[0].key, draws))
    return Drawing(tuple(found), frozenset(name for group in found for name in _needed(group)))


def _peeks(scope: ast.AST) -> bool:
    """Whether its frame's names may be seen or bound by other means; ``vars(args)`` is another's."""
    for node in ast.walk(scope):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PEEKS:
            if node.func.id not in ("vars", "dir") or not node.args:
                return True
        elif isinstance(node, ast.Attribute):
            if node.attr in ("locals", "f_locals", "_getframe", "currentframe"):
                return True
        elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return True
    return False


def _blocks(body: Sequence[ast.stmt], line: int) -> Iterator[Block]:
    """From the outermost on. Of a line that holds several statements it may be any."""
    places = [place for place, node in enumerate(body) if node.lineno <= line <= (node.end_lineno or 0)]
    if not places:
        return
    yield body, places[0], places[-1]
    if len(places) == 1 and not isinstance(body[places[0]], (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        for inner in _bodies(body[places[0]]):
            yield from _blocks(inner, line)


def _bodies(node: ast.AST) -> Iterator[Sequence[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        inner = getattr(node, field, None)
        if isinstance(inner, list):
            yield inner
    for field in ("handlers", "cases"):
        for part in getattr(node, field, ()):
            yield part.body


def _draws(blocks: Sequence[Block]) -> Iterator[tuple[Draw, set[str], set[str]]]:
    """Each with the names that may have been bound since, and those whose objects may have been written to."""
    for body, first, last in blocks:
        for place, node in enumerate(body[:first]):
            since = body[place + 1 : last + 1]
            bound, touched = stores(since), _touched([node, *since])
            for draw in _of_statement(node):
                name = draw.name if draw.name not in bound else ""
                inline = draw.inline if draw.inline is not None and draw.inline.loss not in bound else None
                yield draw._replace(name=name, inline=inline), bound | stores([node]), touched
    body, first, last = blocks[-1]
    node = body[first]
    if first == last and isinstance(node, ast.Expr):
        inline = list[Draw]()
        if isinstance(node.value, ast.Call) and getattr(node.value.func, "attr", "") == "backward":
            inline = list(_inline(getattr(node.value.func, "value", node), ""))
        bound, touched = stores([node]), _touched([node])
        for draw in [*_within(node.value), *inline]:
            yield draw, bound, touched


def _of_statement(node: ast.stmt) -> Iterator[Draw]:
    if isinstance(node, ast.Expr):
        yield from _within(node.value)
    elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
        yield from _within(node.value)
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        pairs = [pair for target in targets for pair in _pairs(target, node.value)]
        for name, value in pairs:
            if sum(other == name for other, _ in pairs) == 1:
                draw = _draw(value)
                if draw is not None:
                    yield draw._replace(name=name)
                yield from _inline(value, name)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif (
        isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (ast.Tuple, ast.List))
        and len(target.elts) == len(value.elts) and not any(isinstance(part, ast.Starred) for part in target.elts)
    ):  # fmt: skip
        for part, one in zip(target.elts, value.elts):
            yield from _pairs(part, one)


def _within(node: ast.AST) -> Iterator[Draw]:
    """All draws that an expression makes, whichever way it goes."""
    draw = _draw(node)
    if draw is not None:
        yield draw
    if not isinstance(node, (ast.Lambda, ast.IfExp, ast.BoolOp, ast.ListComp, ast.SetComp, ast.DictComp,
                             ast.GeneratorExp, ast.Compare)):  # fmt: skip
        for child in ast.iter_child_nodes(node):
            yield from _within(child)


def _draw(node: ast.AST) -> Draw | None:
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        draw = Draw(node.value, node.slice)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "index_select":
        given = list(node.args)
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"):
            given.insert(0, node.func.value)
        if len(given) != 3 or node.keywords or not (isinstance(given[1], ast.Constant) and given[1].value == 0):
            return None
        draw = Draw(given[0], given[2])
    else:
        return None
    return draw if _is_chain(draw.table) and _is_key(draw.key) else None


def _is_chain(node: ast.AST) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _is_key(node: ast.AST) -> bool:
    """Whether it is made of names alone, by arithmetic and slices."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, OPERATORS) and _is_number(node.left) and _is_number(node.right)
    return isinstance(node, ast.Name) or (isinstance(node, ast.Subscript) and _is_key(node.value) and (
        all(part is None or _is_number(part) for part in (node.slice.lower, node.slice.upper, node.slice.step))
        if isinstance(node.slice, ast.Slice) else _is_number(node.slice)))  # fmt: skip


def _is_number(node: ast.AST) -> bool:
    return _is_key(node) or (isinstance(node, ast.Constant) and type(node.value) is int)


def _inline(node: ast.AST, loss: str) -> Iterator[Draw]:
    """The target of a loss function that an expression is, but for factors and a mean or sum."""
    factors: list[ast.expr] = []
    while True:
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
            factors.append(node.right)
            node = node.left
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("mean", "sum")
            and not node.args and not node.keywords and isinstance(node.func.value, ast.Call)
        ):  # fmt: skip
            node = node.func.value
        else:
            break
    if isinstance(node, ast.Call):
        targets = [given.value for given in node.keywords if given.arg == "target"] or node.args[1:2]
        draw = _draw(targets[0]) if targets else None
        if draw is not None and _is_chain(node.func):
            yield draw._replace(inline=Inline(node.func, loss, tuple(factors)))


def _touched(nodes: Sequence[ast.AST], made: Collection[str] = ()) -> set[str]:
    """Names that are used for more than to index by them, or to be looked at.

    With those that a key is made of: for more than that, and to be shuffled, or bound to each other.
    """
    found: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Subscript) and _is_key(node.slice):
            pending.append(node.value)
        elif isinstance(node, ast.Attribute) and node.attr in LOOKS and isinstance(node.value, ast.Name):
            continue
        elif isinstance(node, ast.Call) and _draw(node) is not None:
            pending.extend([node.func, *node.args[:-1]])
        elif isinstance(node, ast.Call) and (
            getattr(node.func, "id", "") in LOOKS or (made and getattr(node.func, "attr", "") == "shuffle")
        ):
            continue
        elif made and isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.For)) and _binds_names(node):
            pairs = bound_by(node)
            pending.extend(value for name, value in pairs if name not in made and value is not None)
            whole = node.iter if isinstance(node, ast.For) else node.value
            if whole is not None and any(value is None for _, value in pairs):
                pending.append(whole)
            pending.extend([*node.body, *node.orelse] if isinstance(node, ast.For) else [])
        else:
            pending.extend(ast.iter_child_nodes(node))
    return found


def _binds_names(node: ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.For) -> bool:
    """Whether names are all that it binds, and no entry or attribute of something."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    kinds = ast.Name, ast.Tuple, ast.List, ast.Starred, ast.expr_context
    return all(isinstance(part, kinds) for target in targets for part in ast.walk(target))


def _names(node: ast.AST) -> set[str]:
    """With a dot before those of attributes."""
    found: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            found.add(inner.id)
        elif isinstance(inner, ast.Attribute):
            found.add(f".{inner.attr}")
    return found


def _needed(group: Group) -> Iterator[str]:
    for draw in group.draws:
        nodes: list[ast.AST] = [draw.table, draw.key]
        if draw.inline is not None:
            nodes += [draw.inline.function, *draw.inline.factors]
            yield draw.inline.loss
        yield draw.name
        for node in nodes:
            yield from _names(node)
