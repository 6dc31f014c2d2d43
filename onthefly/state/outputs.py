"""What a resumed script prints and writes before it has come to its step: it does not reach the world.

:mod:`onthefly.core.early` holds it from the script's first line on; here, where torch is, are the writers of files that
do not go through Python's functions, and what the user is told meanwhile.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import torch

from onthefly.core.early import early_hold
from onthefly.core.undo import put_all_right
from onthefly.patching.imports import when_imported
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from onthefly.errors import Guard

__all__ = ["Outputs", "put_all_right"]

TERMINAL_SECONDS, LOG_SECONDS = 1.0, 10.0
"""How often progress is told, at most: on a terminal, and elsewhere."""


class Outputs:
    """The outputs of this process, from :meth:`hold` to :meth:`release` or :meth:`fail`."""

    def __init__(self, folder: Path, guard: Guard, exempt: Sequence[str] = ()) -> None:
        """``folder``: a new one, for what is saved; ``exempt``: folders of ours, in which nothing is undone."""
        self._folder = folder
        self._guard = guard
        self._exempt = exempt
        self._slots: list[Slot] = []
        self._leave: list[Callable[[], None]] = []
        self._told = -LOG_SECONDS

    def hold(self) -> None:
        """Hold the prints and note the writes, if the shim has not begun with it already."""
        self._prefix = early_hold(str(self._folder), self._exempt)
        writer: Any = getattr(torch.serialization, "_open_zipfile_writer_file")  # noqa: B009 - not in its type stub
        self._slots += [
            Slot(writer, "__init__", self._wrap(1)),
            Slot(torch.jit, "save", self._wrap(1)),
            Slot(torch.jit.ScriptModule, "save", self._wrap(1)),
        ]
        for name in ("safetensors.torch", "safetensors.numpy"):
            self._leave.append(when_imported(name, lambda name=name: self._arm_safetensors(name)))

    @property
    def refused(self) -> str:
        """Why this prefix must be given up: something that cannot be undone; empty: nothing."""
        return self._prefix.writes.refused

    def say(self, text: str) -> None:
        """One line on the real standard error."""
        self._prefix.streams.say(text)

    def progress(self, step: int, of: int) -> None:
        """Say how far the prefix is, now and then."""
        now = time.monotonic()
        if now - self._told >= (TERMINAL_SECONDS if self._prefix.streams.watched else LOG_SECONDS):
            self._told = now
            self._prefix.streams.say(f"resuming: step {step} of {of}")

    def put_files_back(self) -> list[str]:
        """The files are what they were before this process began; what could not be put back, in sentences.

        After it the script's open files are moved to them (:func:`onthefly.state.openfiles.restore`), and then all is
        released.
        """
        self._disarm()
        return self._prefix.end()

    def release(self) -> list[str]:
        """The script prints and writes for real from now on; what was held is gone. What is not right, in sentences."""
        problems = self.put_files_back()
        self._prefix.streams.let_go()
        return problems + [
            f"{path} is open, and was not when the checkpoint was made: what is written to it is lost"
            for path in self._prefix.strays
        ]

    def fail(self, reason: str) -> None:
        """The resume has failed: files and streams are put back, and what the script said last is shown."""
        self._disarm()
        self._prefix.fail(reason)

    def _disarm(self) -> None:
        for leave in self._leave:
            leave()
        for slot in reversed(self._slots):
            slot.restore()
        self._leave.clear()
        self._slots.clear()

    def _arm_safetensors(self, name: str) -> None:
        self._slots.append(Slot(sys.modules[name], "serialize_file", self._wrap(1)))

    def _wrap(self, place: int) -> Callable[[Slot, Callable[..., Any]], Callable[..., Any]]:
        """Note the file that is the argument at that place, if it is a path."""

        def writes(*arguments: Any, **named: Any) -> None:
            target: Any = arguments[place] if len(arguments) > place else named.get("f", named.get("filename"))
            if isinstance(target, str) or hasattr(target, "__fspath__"):
                self._prefix.writes.writes(target)

        return lambda slot, original: self._guard.ahead_of(original, writes, slot)
