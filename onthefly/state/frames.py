"""The script's frames at a pause point: which they are, what their variables hold, and putting that back.

A frame is known by its place among the others, its code and its instruction: what is put back may go into the call that
it was taken in, or into another call of the same function at the same line. Variables are read and written once for
each frame: up to Python 3.12 every look at ``f_locals`` copies them anew, and what was written before is lost.

Not only variables: ``total += train_step(batch)`` has put the old ``total`` on the value stack before the step, and a
``for`` keeps its iterator there (:mod:`onthefly.state.stack`).
"""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import os
import sys
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from onthefly.errors import Refused
from onthefly.state import stack
from onthefly.state.flow import Unreadable, calls_at
from onthefly.state.iterators import native
from onthefly.state.places import REMEDY, Place
from onthefly.state.script import is_ours, is_own

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

ELSEWHERE = "the script stands at another place than when the checkpoint was taken"
SAME_PLACE = "pause it after the same optimizer's step"

_RUNS_HOOKS = os.path.join("torch", "optim", "optimizer.py")
"""Its loop is the one over the step's hooks, which we are in; its variables have what the step will return."""

_CONSUMED = ("FOR_ITER", "SEND", "YIELD_FROM")


class Loop(NamedTuple):
    """A ``for`` that may take another item."""

    place: Place
    line: int


class FrameState:
    """One frame's variables and value stack."""

    def __init__(self, frame: FrameType, keep: Callable[[Any], Any], *, waits: bool = False) -> None:
        """``keep(value)`` gives what is remembered of a value; ``waits``: the frame is a suspended generator's."""
        self.code: CodeType = frame.f_code
        self.lasti = frame.f_lasti
        self._waits = waits
        self.roots: list[tuple[str, Any]] = []
        """Variables and objects on the value stack, to be followed; to be dropped then."""
        self.leaves: list[tuple[Any, int]] = []
        """What its open loops go over, with their lines; to be dropped once it was looked at."""
        self.obstacle = ""
        """Why the value stack is not known; empty: it is."""
        self._loops: dict[int, Loop] = {}
        self._operands: dict[int, Any] = {}
        self._managers: dict[int, FrameState] = {}
        """Context managers made of generators, which wait at their ``yield`` for the end of a ``with``."""
        self.values: Optional[dict[str, Any]] = None
        """By name; None where they are a module's, which are put back as its globals."""
        if has_own_variables(frame):
            values = variables(frame)
            self.roots += [one for one in values.items() if one[0] != "post_hook"]  # which is ours, in torch's frame
            self.values = {name: keep(value) for name, value in values.items()}
        if not self.code.co_filename.endswith(_RUNS_HOOKS):
            self._read_stack(frame, keep)

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.code.co_name

    def let_go(self) -> None:
        """Drop what was only to be followed."""
        self.roots.clear()
        self.leaves.clear()

    def _read_stack(self, frame: FrameType, keep: Callable[[Any], Any]) -> None:
        try:
            values, loops = stack.read(frame, waits=self._waits)
        except Unreadable as error:
            self.obstacle = f"what {self.name} has under way is not known: {error}"
            return
        for at, value in enumerate(values):
            if at in loops:
                self._loops[at] = Loop(Place(value), loops[at])
                found = list(Place.leaves(value))
                self.leaves += [(one, loops[at]) for one in found]
                self.roots += [(f"the loop in line {loops[at]}", one) for one in found]
            elif managed(value) is not None:
                inner = self._managers[at] = FrameState(managed(value), keep, waits=True)  # type: ignore[arg-type]
                self.obstacle = self.obstacle or inner.obstacle
                self.roots += inner.roots
                self.leaves += inner.leaves
                inner.let_go()
            elif not native(value) and not stack.is_empty(value):
                self._operands[at] = keep(value)
                self.roots.append(("a value under way", value))

    def differs(self, frame: FrameType) -> str:
        """Why this cannot be put back into that frame; empty: it can."""
        if self.obstacle:
            return self.obstacle
        if frame.f_code is not self.code or frame.f_lasti != self.lasti:
            return ELSEWHERE
        values = self._stack(frame)
        for at, loop in self._loops.items():
            reason = loop.place.differs(values[at])
            if reason and not (native(values[at]) and loop.place.remade):
                return f"{reason} (the loop in line {loop.line} of {self.name})"
        for at, state in self._managers.items():
            waiting = managed(values[at])
            if waiting is None or state.differs(waiting):
                return f"what {state.name} manages in {self.name} is not what it managed then"
        return ""

    def _stack(self, frame: FrameType) -> list[Any]:
        needed = self._loops or self._operands or self._managers
        return stack.read(frame, waits=self._waits)[0] if needed else []

    def put_back(self, frame: FrameType, give: Callable[[Any], Any]) -> None:
        """Put all of it into that frame; ``give`` turns what was kept into values."""
        values = self._stack(frame)
        for at, state in self._managers.items():
            waiting = managed(values[at])
            if waiting is not None:
                state.put_back(waiting, give)
        for at, loop in self._loops.items():
            if loop.place.differs(values[at]):  # it goes over another list: one that is made anew takes its place
                stack.write(frame, at, loop.place.make())
            else:
                loop.place.put_back(values[at])
        for at, kept in self._operands.items():
            value = give(kept)
            if values[at] is not value:
                stack.write(frame, at, value)
        if self.values is not None:
            set_variables(frame, {name: give(kept) for name, kept in self.values.items()})


def managed(value: Any) -> Optional[FrameType]:
    """The frame of the generator that waits for the end of a ``with``, if the value is how the ``with`` will end.

    Each pass through the ``with`` has a generator of its own: the one of an earlier pass has ended, so what it held is
    put into the one that waits now.
    """
    manager = getattr(value, "__self__", None) if isinstance(value, MethodType) else None
    if isinstance(manager, contextlib._GeneratorContextManager):
        generator: Any = manager.gen
        if not generator.gi_running:
            return generator.gi_frame
    return None


def script_frames(start: Optional[FrameType], own: Callable[[str], bool] = is_own) -> list[FrameType]:
    """The frames of a script from ``start`` on, innermost first, without ours.

    ``own(file)`` tells the script's files: frames below its outermost, of what started it, are left out as well. Those
    of libraries in between are not, torch's neither: ``loss = optimizer.step(closure)`` is in a variable of theirs.
    """
    found: list[FrameType] = []
    outermost = 0
    while start is not None:
        if not is_ours(start.f_code.co_filename):
            found.append(start)
            if own(start.f_code.co_filename):
                outermost = len(found)
        start = start.f_back
    return found[:outermost]


def drivers(frames: list[FrameType]) -> str:
    """Why a generator among the frames cannot be wound back; empty: all can.

    ``sum(step(batch) for batch in loader)`` has its partial sum in C, where nobody reaches it.
    """
    for frame in frames:
        caller = frame.f_back
        if (
            frame.f_code.co_flags & inspect.CO_GENERATOR
            and caller is not None
            and calls_at(caller.f_code, caller.f_lasti) not in _CONSUMED
            and not stack.calls(caller, next)
        ):
            return (
                f"the step is taken inside a generator ({frame.f_code.co_name}) that a function goes over: what that"
                " has gathered so far cannot be reached"
            )
    return ""


def check(states: list[FrameState], frames: list[FrameType]) -> None:
    """Refuse unless every state can be put back into the frame at its place."""
    if len(states) != len(frames):
        raise Refused(ELSEWHERE, SAME_PLACE)
    for state, frame in zip(states, frames):
        reason = state.differs(frame)
        if reason:
            raise Refused(reason, SAME_PLACE if reason == ELSEWHERE else remedy_of(reason))


def remedy_of(reason: str) -> str:
    """What to do about it."""
    if "an earlier epoch" in reason:
        return REMEDY
    return ""


def has_own_variables(frame: FrameType) -> bool:
    """Whether its variables are not a module's."""
    return bool(frame.f_code.co_flags & inspect.CO_OPTIMIZED)


def variables(frame: FrameType) -> dict[str, Any]:
    """What a function's variables hold now; nothing of it stays behind in the frame."""
    values = dict(frame.f_locals)
    _let_go(frame)
    return values


def named(frames: list[Any]) -> dict[str, Any]:
    """The script's variables by name, the innermost function's first."""
    found: dict[str, Any] = {}
    for frame in frames:
        values = variables(frame) if has_own_variables(frame) else frame.f_globals
        for name, value in list(values.items()):
            if not name.startswith("__"):
                found.setdefault(name, value)
    return found


def set_variables(frame: FrameType, values: dict[str, Any]) -> None:
    """Let a function's variables hold that, and no others."""
    local = frame.f_locals
    surplus = [name for name in local if name not in values]
    if sys.version_info >= (3, 13):
        for name, value in values.items():
            if local.get(name, local) is not value:
                local[name] = value
    else:
        if sys.version_info < (3, 12):
            for name in surplus:
                del local[name]
        _push(frame, local, values)
    if sys.version_info >= (3, 12):  # which gives a variable that is deleted there the value None, and warns
        for name in surplus:
            stack.unset(frame, name)


def _push(frame: FrameType, local: Any, values: dict[str, Any]) -> None:
    local.update(values)
    ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(1))
    _let_go(frame)


def _let_go(frame: FrameType) -> None:
    """Empty the copy of the variables that a frame keeps up to Python 3.12, or all that it names stays alive.

    Not where the function asks for that copy itself: it may hold it.
    """
    if sys.version_info < (3, 13) and "locals" not in frame.f_code.co_names:
        frame.f_locals.clear()
