"""Whether a thread runs, known by its number alone."""

from __future__ import annotations

import sys


def runs(thread: int) -> bool:
    """Whether the thread of that ``get_ident()`` is alive. A number may come again, for a thread that began later."""
    return thread in sys._current_frames()  # pyright: ignore[reportPrivateUsage]
