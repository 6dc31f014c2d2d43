"""Carries the state of a small script, through the form of a checkpoint, into another run of it: two processes in one.

Each run has a module of its own, under the same name, so that its classes and functions are others, as in another
process. Where the script calls ``__pause__()`` the image is taken in the first run; in the second it is tried at each
call, until it fits.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.state import codes, script, winding
from onthefly.state.building import Unbuildable
from onthefly.state.form import Form
from onthefly.state.image import Image
from onthefly.state.matching import Match
from onthefly.state.objects import find
from onthefly.state.random import RandomStates
from onthefly.state.rebuilding import Loading, Rebuild
from tests.state.trainings import PLACE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    import pytest

NAME = "carried_script"


class Carried(NamedTuple):
    """What became of it."""

    whole: Any
    """What ``main(1)`` gave, which nobody disturbed."""
    resumed: Any
    """What the other run gave, into which the state of that one was put."""
    other: Any
    """What it gives by itself."""
    arrival: int
    """The call of ``__pause__`` at which it fitted; 0: at none."""
    reason: str
    """Why it did not at the last call before that."""
    obstacle: str
    left_out: list[str]


class Carrier:
    """One script, given as text, with a function ``main(seed)``."""

    def __init__(self, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._code = compile(text, str(folder / "script.py"), "exec")
        self._monkeypatch = monkeypatch
        self._began: dict[int, winding.Began] = {}
        monkeypatch.setattr(script, "modules", self._modules)
        monkeypatch.setattr(codes, "modules", self._modules)
        monkeypatch.setattr(script, "log_files", lambda: iter(()))

    def carry(self, at: int = 3, other: int = 2) -> Carried:
        """Take it at that call of ``__pause__`` of ``main(1)``, and put it into a run of ``main(other)``."""
        states, count = RandomStates.take(), 0
        members: dict[str, bytearray] = {}
        told: dict[str, Any] = {"arrival": 0, "reason": "", "obstacle": "", "left_out": []}

        def take(frames: list[FrameType]) -> None:
            nonlocal count
            count += 1
            if count == at:
                image = Image(frames, winding.began_of)
                form = Form.of(find({}), PLACE, random=RandomStates.take().tree(), image=image.finish)
                told.update(obstacle=image.obstacle, left_out=image.left_out)
                members.update({name: bytearray(b"".join(map(bytes, part))) for name, part in form.members().items()})

        def put(frames: list[FrameType]) -> None:
            nonlocal count
            count += 1
            if told["arrival"] or count > at:
                return
            form = Form.read(members)
            match = Match(form.sections["script"])
            if not match.arrived(frames):
                return
            match.go(frames)
            rebuild = Rebuild(match, _wind, self._folder / "cut", last=count == at)
            try:
                rebuild.check()
            except Unbuildable as reason:
                told["reason"] = str(reason)
                return
            rebuild.write()
            winding.states_of(form.random).put_back()
            told["arrival"] = count

        whole = self._run(1, take)
        undisturbed = self._run(other, lambda frames: None)
        count = 0
        resumed = self._run(other, put)
        states.put_back()
        return Carried(whole, resumed, undisturbed, **told)

    def _run(self, seed: int, at_pause: Callable[[list[FrameType]], None]) -> Any:
        module = types.ModuleType(NAME)
        module.__file__ = self._code.co_filename

        def pause(*hooked: object) -> None:
            at_pause(_frames(sys._getframe(1)))  # pyright: ignore[reportPrivateUsage]

        vars(module)["__pause__"] = pause
        self._monkeypatch.setitem(sys.modules, NAME, module)
        exec(self._code, vars(module))
        return vars(module)["main"](seed)

    def _modules(self) -> list[tuple[str, dict[str, Any]]]:
        return [(NAME, vars(sys.modules[NAME]))]


def _frames(frame: FrameType | None) -> list[FrameType]:
    """Innermost first, up to that of ``main``."""
    found: list[FrameType] = []
    while frame is not None:
        found.append(frame)
        if frame.f_code.co_name == "main" and frame.f_globals["__name__"] == NAME:
            break
        frame = frame.f_back
    return found


def _wind(loading: Loading) -> None:
    winding.wind(loading, lambda done, of: None)
