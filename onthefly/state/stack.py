"""The value stack of a frame that is running or suspended: iterators of loops, operands of half computed expressions.

Python does not show it. It lies in memory behind the variables, in an order that :mod:`onthefly.state.flow` reads from
the code; where the variables lie is known for CPython 3.9 to 3.13 and is tried out on a function of our own, whose
stack we know, before any other frame is looked at. Everywhere else nothing is read, and a rewind is refused.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import TYPE_CHECKING, Any

from onthefly.state.flow import Standing, Unreadable, standing, suspended

if TYPE_CHECKING:
    from types import FrameType

_WORD = ctypes.sizeof(ctypes.c_void_p)
_EMPTY: Any = object()
"""Stands for a place without a value: a call leaves some."""


def read(frame: FrameType, *, waits: bool = False) -> tuple[list[Any], dict[int, int]]:
    """What stays on the stack while the frame's call runs, and which of it are iterators of open loops, with lines.

    ``waits``: the frame is of a generator that is suspended. A place without a value holds :func:`empty`. Raises
    :class:`~onthefly.state.flow.Unreadable`.
    """
    if not known():
        raise Unreadable("this Python keeps its frames in a way of its own")
    found = _standing(frame, waits=waits)
    return [_load(place) for place in _places(frame, found.depth)], found.loops


def calls(frame: FrameType, function: Any) -> bool:
    """Whether the frame, from which a generator was resumed by a call, has called that function of Python's to do so.

    What it calls lies above what stays: such a function leaves it there while it runs.
    """
    try:
        return known() and any(_load(place) is function for place in _places(frame, _standing(frame).depth + 2)[-2:])
    except Unreadable:
        return False


def write(frame: FrameType, place: int, value: Any) -> None:
    """Put another value at a place of the stack that :func:`read` has told of."""
    at = _base(frame) + place * _WORD
    old = ctypes.c_void_p.from_address(at).value
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    ctypes.c_void_p.from_address(at).value = id(value)
    if old:
        ctypes.pythonapi.Py_DecRef(ctypes.c_void_p(old))


def unset(frame: FrameType, name: str) -> None:
    """Let a function's variable have no value, where Python cannot (from 3.12 on); one that closures share keeps its.

    Safe at the instruction at which it had none before: the compiler has seen that it may have none there.
    """
    code = frame.f_code
    if known() and name in code.co_varnames and name not in code.co_cellvars:
        at = _variables(frame) + code.co_varnames.index(name) * _WORD
        old = _pointer(at)
        ctypes.c_void_p.from_address(at).value = None
        if old:
            ctypes.pythonapi.Py_DecRef(ctypes.c_void_p(old))


def is_empty(value: Any) -> bool:
    """Whether :func:`read` found no value there."""
    return value is _EMPTY


@functools.lru_cache(maxsize=1)
def known() -> bool:
    """Whether frames of this interpreter can be read: the version is one we know, and a trial came out right."""
    usual = (
        sys.implementation.name == "cpython"
        and (3, 9) <= sys.version_info < (3, 14)
        and _WORD == 8
        and not hasattr(sys, "getobjects")  # a debug build: objects have two words more
        and getattr(sys, "_is_gil_enabled", lambda: True)()
        and object.__basicsize__ == 2 * _WORD
    )
    return usual and _trial()


def _trial() -> bool:
    """Read the stack of a function whose stack is known, and change one operand there."""
    outer, inner = iter([1]), iter((2,))
    operand, other = 10.5, 20.25
    seen: list[Any] = []

    def look(value: Any) -> float:
        frame = sys._getframe(1)
        values, loops = [_load(place) for place in _places(frame, 3)], _standing(frame).loops
        seen.extend([values[:2] == [outer, inner], values[2] is operand, sorted(loops) == [0, 1], value == 3])
        write(frame, 2, other)
        return 1.0

    for one in outer:
        for two in inner:
            result = operand + look(one + two)
            seen.append(result == other + 1.0)
    return seen == [True] * 5


def _standing(frame: FrameType, *, waits: bool = False) -> Standing:
    return suspended(frame.f_code, frame.f_lasti) if waits else standing(frame.f_code, frame.f_lasti)


def _places(frame: FrameType, count: int) -> list[int]:
    base = _base(frame)
    return [base + place * _WORD for place in range(count)]


def _base(frame: FrameType) -> int:
    """The address of the stack's first place."""
    if sys.version_info < (3, 11):  # pointers behind the head: back, code, builtins, globals, locals, value stack
        return _pointer(id(frame) + object.__basicsize__ + _WORD + 5 * _WORD)
    code = frame.f_code
    count = code.co_nlocals + len(set(code.co_cellvars) - set(code.co_varnames)) + len(code.co_freevars)
    return _variables(frame) + count * _WORD


def _variables(frame: FrameType) -> int:
    """The address of the first variable, from Python 3.11 on: behind nine words of the inner frame."""
    return _pointer(id(frame) + object.__basicsize__ + _WORD) + 9 * _WORD


def _pointer(address: int) -> int:
    return ctypes.c_void_p.from_address(address).value or 0


def _load(address: int) -> Any:
    return ctypes.py_object.from_address(address).value if _pointer(address) else _EMPTY
