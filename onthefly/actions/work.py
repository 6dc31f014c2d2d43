"""What takes a while at a pause: one at a time, with its progress, and ended by the command ``cancel``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from onthefly.insight.evaluation import Watch
from onthefly.protocol import ProgressInfo

if TYPE_CHECKING:
    from collections.abc import Generator

    from onthefly.core.gate import Gate


class Work:
    """What is under way."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.progress: ProgressInfo | None = None
        """Of what runs or waits, for clients."""
        self._running = ""
        self._cancelled = False
        self._was_cancelled = ""

    @contextlib.contextmanager
    def under_way(self, label: str) -> Generator[Watch, None, None]:
        """While the block lasts, that is what runs."""
        self._running, self._cancelled = label, False
        try:
            yield Watch(lambda done, of: self.show(label, done, of), lambda: self._cancelled)
        finally:
            self._running, self.progress = "", None

    def show(self, what: str, done: int, of: int) -> None:
        """Tell clients how far it is."""
        self.progress = ProgressInfo(what=what, done=done, of=of)
        self._gate.changed()

    def heard(self, name: str) -> None:
        """From the link's thread: a command comes; ``cancel`` ends what runs now, before it reaches the gate."""
        if name == "cancel" and self._running:
            self._was_cancelled, self._cancelled = self._running, True

    def cancelled(self) -> str:
        """What the command ``cancel`` that is done now has ended; empty: nothing."""
        label, self._was_cancelled = self._was_cancelled, ""
        return label
