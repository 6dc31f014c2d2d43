"""Whether an expression of the source makes places in a data set, and no labels: by the functions that it comes from.

An integer tensor that indexes another one need not tell samples: ``weights[y]`` looks up what belongs to a class. What
was drawn by ``randint`` or cut out of ``randperm`` does, whatever its numbers are. A name counts where everything
that its scope ever binds to it does.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from onthefly.capture.order.source import Scope

MAKERS = {"randint", "randrange", "integers", "randperm", "arange", "range", "multinomial", "argsort"}
"""Functions, of whatever library, that give places."""

CHOOSERS = {"choice", "choices", "sample", "permutation", "permuted"}
"""Functions that give some of so many places, or of what they are given: which may be labels."""

KEEPERS = {
    "astype", "chunk", "clone", "contiguous", "copy", "cpu", "flatten", "flip", "int", "long", "numpy", "ravel",
    "reshape", "split", "squeeze", "tensor_split", "to", "tolist", "unbind", "unfold", "view",
}  # fmt: skip
"""Methods that give the same numbers or some of them."""

WRAPPERS = {
    "array", "array_split", "as_tensor", "asarray", "chunk", "flip", "from_numpy", "iter", "list", "reversed", "sorted",
    "split", "tensor", "tqdm",
}  # fmt: skip
"""Functions that give the numbers of their first argument or some of them."""

COUNTS = {"len", "int", "numel", "size"}
"""Functions that give one number."""


class Places:
    """Asks the scopes of a function, the module's first."""

    def __init__(self, scopes: Sequence[Scope]) -> None:
        self._scopes = scopes
        self._bindings = [_bindings(scope) for scope in scopes]
        self._own = {node.name for scope in scopes for node in _own(scope)
                     if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}  # fmt: skip

    def names(self, node: ast.AST) -> set[str] | None:
        """The names that the places come by; None where it is not known to make places."""
        passed: set[str] = set()
        return passed if self._makes(node, passed) else None

    def scope_of(self, names: set[str]) -> Scope:
        """All that may use these names: the innermost function if it binds them all, else the module."""
        return self._scopes[-1 if names.issubset(self._bindings[-1]) else 0]

    def _makes(self, node: ast.AST | None, passed: set[str]) -> bool:
        if isinstance(node, ast.Name):
            return self._bound(node.id, passed)
        if isinstance(node, ast.Subscript):
            return self._makes(node.value, passed)
        if isinstance(node, ast.BinOp):
            sides = node.left, node.right
            made = [self._makes(side, passed) for side in sides]
            return any(made) and all(known or self._counts(side, set()) for known, side in zip(made, sides))
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            within: set[str] = set()
            made_by = isinstance(node.elt, (ast.Subscript, ast.Call)) and self._makes(node.elt, within)
            passed |= within
            return made_by and within.isdisjoint(stores(node.generators))
        return isinstance(node, ast.Call) and self._called(node, passed)

    def _called(self, node: ast.Call, passed: set[str]) -> bool:
        called, first = node.func, node.args[0] if node.args else None
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if isinstance(called, ast.Name) and called.id in self._own:
            return False  # the script's own function of that name may give labels
        if name in MAKERS:
            return True
        if name in CHOOSERS:
            return self._makes(first, passed) or self._counts(first, set())
        if name in WRAPPERS and self._makes(first, passed):
            return True
        return name in KEEPERS and isinstance(called, ast.Attribute) and self._makes(called.value, passed)

    def _bound(self, name: str, passed: set[str]) -> bool:
        if name in passed:
            return True  # it goes round: what else is bound to it decides
        before = set(passed)
        passed.add(name)
        if all(self._makes(value, passed) for value in self._values(name)):
            return True
        passed.intersection_update(before)
        return False

    def _counts(self, node: ast.AST | None, passed: set[str]) -> bool:
        """Whether it is one number, and no tensor."""
        if isinstance(node, ast.Name):
            if node.id in passed:
                return True
            passed.add(node.id)
            return all(self._counts(value, passed) for value in self._values(node.id))
        if isinstance(node, ast.BinOp):
            return self._counts(node.left, passed) and self._counts(node.right, passed)
        if isinstance(node, ast.Subscript):
            return isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
        if isinstance(node, ast.Call):
            called = node.func
            return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) in COUNTS
        return isinstance(node, ast.Constant) and type(node.value) is int

    def _values(self, name: str) -> list[Optional[ast.AST]]:
        """What the name is bound to in the innermost scope that binds it; nothing known where none does."""
        return next((bindings[name] for bindings in reversed(self._bindings) if name in bindings), [None])


def _bindings(scope: Scope) -> dict[str, list[Optional[ast.AST]]]:
    """What each name of a scope is bound to, anywhere in it, as :func:`bound_by` tells it."""
    found: dict[str, list[Optional[ast.AST]]] = {}
    if not isinstance(scope, ast.Module):
        for given in ast.walk(scope.args):
            if isinstance(given, ast.arg):
                found[given.arg] = [None]
    for node in _own(scope):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.For, ast.AsyncFor)):
            for name, bound in bound_by(node):
                found.setdefault(name, []).append(bound)
        elif isinstance(node, ast.AugAssign):
            continue  # arithmetic on what it was
        else:
            for name in _stored(node):
                found.setdefault(name, []).append(None)
    return found


def bound_by(node: ast.AST) -> list[tuple[str, Optional[ast.AST]]]:
    """The names that an assignment or a loop binds, and to what: an expression whose value or items it is, or None."""
    told: list[tuple[ast.AST, Optional[ast.AST]]] = []
    if isinstance(node, ast.Assign):
        told = [(target, node.value) for target in node.targets]
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
        told = [(node.target, node.value)] if node.value is not None else []
    elif isinstance(node, (ast.For, ast.AsyncFor)):
        told = [(node.target, node.iter)]
    return [pair for target, value in told for pair in _unpacked(target, value)]


def _unpacked(target: ast.AST, value: Optional[ast.AST]) -> Iterator[tuple[str, Optional[ast.AST]]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, (ast.Tuple, ast.List)):
        values: list[Optional[ast.AST]] = [None] * len(target.elts)
        if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
            values = list[Optional[ast.AST]](value.elts)
        elif isinstance(value, ast.Call) and getattr(value.func, "id", "") == "enumerate" and len(target.elts) == 2:
            values = [None, value.args[0] if value.args else None]
        for part, one in zip(target.elts, values):
            yield from _unpacked(part, one)
    elif isinstance(target, ast.Starred):
        yield from _unpacked(target.value, None)


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a scope but those within its functions and classes."""
    pending: list[ast.AST] = list(getattr(scope, "body", []))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))


def _stored(node: ast.AST) -> set[str]:
    """Names that a node binds itself, but for ``ast.Name``, which is part of what binds it."""
    found: set[str] = set()
    if isinstance(node, ast.alias):
        found.add((node.asname or node.name).partition(".")[0])
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        found |= {name for item in node.items if item.optional_vars for name, _ in _unpacked(item.optional_vars, None)}
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        found.add(node.name)
    else:
        for field in ("name", "rest"):  # of handlers and patterns
            name: Any = getattr(node, field, None)
            if isinstance(name, str):
                found.add(name)
    return found


def stores(nodes: Sequence[ast.AST]) -> set[str]:
    """Every name that these may bind or unbind, within functions too; of attributes with a dot before it."""
    found: set[str] = set()
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            found.add(f".{node.attr}")
        else:
            found |= _stored(node)
    return found
