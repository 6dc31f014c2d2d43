"""The source of what runs as a tree, and only where it is just that.

``inspect`` would walk all modules to find a file, and so wake those that load lazily; the code object knows its file.
What the file says may have changed since it was imported: its compiled form must be the function's, instruction for
instruction.
"""

from __future__ import annotations

import ast
import dis
import functools
import linecache
from types import CodeType
from typing import TYPE_CHECKING, Any, Union

from onthefly.capture.order.values import Doubt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FunctionType

Definition = Union[ast.FunctionDef, ast.Lambda]
Scope = Union[ast.Module, ast.FunctionDef, ast.AsyncFunctionDef]


def definition(function: FunctionType) -> Definition:
    """The node that defines the function; raises :class:`Doubt` where there is none, or more than one."""
    code = function.__code__
    tree, compiled = _read(code, function.__globals__)
    if not any(_same(code, other) for other in _codes(compiled)):
        raise Doubt("its source is not what runs")
    found = [node for node in ast.walk(tree) if _is_of(node, code)]
    if len(found) != 1 or not isinstance(found[0], (ast.FunctionDef, ast.Lambda)):
        raise Doubt("several functions begin in its line" if found else "it is no plain function")
    return found[0]


def scopes(code: CodeType, names: dict[str, Any]) -> list[Scope]:
    """The module or function that is this code, line for line, after those around it; raises :class:`Doubt`."""
    tree, compiled = _read(code, names)
    if not any(_same(code, other) and _lines(code) == _lines(other) for other in _codes(compiled)):
        raise Doubt("its source is not what runs")
    if code.co_name == "<module>":
        return [tree]
    found = [path for path in _paths(tree, [tree]) if _is_of(path[-1], code)]
    if len(found) != 1:
        raise Doubt("several functions begin in its line" if found else "it is no plain function")
    return found[0]


def _read(code: CodeType, names: dict[str, Any]) -> tuple[ast.Module, CodeType]:
    text = "".join(linecache.getlines(code.co_filename, names))
    if not text:
        raise Doubt("its source is not there")
    try:
        return _parsed(text, code.co_filename)
    except (SyntaxError, ValueError, RecursionError):
        raise Doubt("its source cannot be read") from None


def _paths(node: ast.AST, around: list[Scope]) -> Iterator[list[Scope]]:
    """Every function within, after those around it."""
    for child in ast.iter_child_nodes(node):
        inner = around
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = [*around, child]
            yield inner
        yield from _paths(child, inner)


def _lines(code: CodeType) -> list[tuple[int, Any]]:
    """Where each line begins: a comment that was added since moves them, and leaves the instructions."""
    return list(dis.findlinestarts(code))


@functools.lru_cache(maxsize=4)
def _parsed(text: str, name: str) -> tuple[ast.Module, CodeType]:
    tree = ast.parse(text)
    return tree, compile(tree, name, "exec", dont_inherit=True)


def _is_of(node: ast.AST, code: CodeType) -> bool:
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
        return code.co_name == node.name and first == code.co_firstlineno
    return False


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _same(code: CodeType, other: CodeType) -> bool:
    """Whether both do the same, at the same place."""
    return (
        code.co_firstlineno == other.co_firstlineno
        and code.co_code == other.co_code
        and (code.co_names, code.co_varnames, code.co_freevars)
        == (other.co_names, other.co_varnames, other.co_freevars)
        and len(code.co_consts) == len(other.co_consts)
        and all(map(_same_constant, code.co_consts, other.co_consts))
    )


def _same_constant(one: Any, other: Any) -> bool:
    if isinstance(one, CodeType) and isinstance(other, CodeType):
        return _same(one, other)
    return type(one) is type(other) and bool(one == other)
