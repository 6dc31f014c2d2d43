"""Watches what the script writes to its standard output and error, which goes where it went, byte for byte.

The ``write`` of the two stream objects is wrapped: ``print``, tracebacks, ``logging`` and progress bars come by,
whoever holds the stream. What a C library or a subprocess writes to the descriptor does not; replacing the descriptor
by a pipe would show it, and would take the terminal away from the script (``isatty``, colours, the width of progress
bars).
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from onthefly.errors import leave_frame_out
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.errors import Guard


class StdioInstrument:
    """The slots ``sys.__stdout__.write`` and ``sys.__stderr__.write``."""

    def __init__(self, written: Callable[[Any, str], None], guard: Guard) -> None:
        """``written(stream, text)`` is called after each write, in whatever thread wrote."""
        self._written = guard.around(written)
        self._slots = [
            Slot(stream, "write", functools.partial(self._wrap, name))
            for name, stream in (("stdout", sys.__stdout__), ("stderr", sys.__stderr__))
            if stream is not None and hasattr(stream, "__dict__")
        ]

    def disarm(self) -> None:
        """Put back what was there."""
        for slot in reversed(self._slots):
            slot.restore()

    def _wrap(self, name: str, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        written = self._written

        @functools.wraps(original)
        def write(*args: Any) -> Any:
            try:
                count = original(*args)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if slot.enabled:
                written(name, args[0])
            return count

        return write
