"""Knowing a piece of code again in another process: by its file, its name, its line and what it does.

The file is known by its name without the folders above (the project may lie elsewhere on another machine), the rest by
a digest over instructions, names and constants. So a resumed script may have been edited elsewhere than in what runs.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from onthefly.state.script import is_own, modules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType


@functools.lru_cache(maxsize=8192)
def code_id(code: CodeType) -> list[Any]:
    """File, qualified name, first line and digest of a code object, as plain values; not to be changed."""
    return [file_label(code.co_filename), _name(code), code.co_firstlineno, _digest(code)]


def file_label(file: str) -> str:
    """How a file is known on every machine."""
    if is_own(file):
        return os.path.basename(file)
    parts = file.split(os.sep)
    for number, part in enumerate(reversed(parts)):
        if part in ("site-packages", "dist-packages") or part.startswith("python3"):
            return "/".join(parts[len(parts) - number :])
    return os.path.basename(file)


def codes(frames: Iterable[FrameType]) -> Iterator[CodeType]:
    """The code of everything that the script could have made a function of: that of its frames and of its modules."""
    seen: set[int] = set()
    pending: list[Any] = [frame.f_code for frame in frames]
    for _, variables in modules():
        for value in list(variables.values()):
            pending += _codes_of(value)
    while pending:
        code = pending.pop()
        if id(code) not in seen:
            seen.add(id(code))
            yield code
            pending += [one for one in code.co_consts if isinstance(one, CodeType)]


def named(name: str) -> Any:
    """What stands under ``module:qualified.name`` now, where its module is imported; :data:`MISSING` if nothing does.

    Looked up in the dictionaries of modules and classes, so that nothing of theirs runs.
    """
    module, _, path = name.partition(":")
    value: Any = sys.modules.get(module, MISSING)
    for part in path.split(".") if path else ():
        owners = value.__mro__ if isinstance(value, type) else (value,)
        value = next((vars(one)[part] for one in owners if part in getattr(one, "__dict__", {})), MISSING)
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
    return value


def name_of(value: Any) -> str:
    """The name under which :func:`named` finds this very value again; empty: there is none."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if type(module) is not str or type(name) is not str or "<" in name:
        return ""
    known_as = [f"{module}:{name}", f"{module}:{name.rpartition('.')[2]}"]  # torch.relu is of a class without a name
    return next((full for full in known_as if named(full) is value), "")


MISSING: Any = type("Missing", (), {"__slots__": (), "__doc__": "Stands for what is not there."})()


def _codes_of(value: Any) -> list[CodeType]:
    if isinstance(value, FunctionType):
        return [value.__code__]
    if isinstance(value, type):
        inner = [getattr(one, "__func__", getattr(one, "fget", one)) for one in vars(value).values()]
        return [one.__code__ for one in inner if isinstance(one, FunctionType)]
    return []


def _name(code: CodeType) -> str:
    return getattr(code, "co_qualname", code.co_name)


@functools.lru_cache(maxsize=8192)
def _digest(code: CodeType) -> str:
    found = hashlib.sha1(code.co_code, usedforsecurity=False)
    for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
        found.update(repr(names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            text = _digest(constant)
        elif isinstance(constant, frozenset):
            text = repr(sorted(map(repr, constant)))  # whose order differs from process to process
        else:
            text = repr(constant)
        found.update(text.encode("utf-8", "backslashreplace"))
    return found.hexdigest()[:16]
