"""What the script writes to its standard streams, on its way to the records.

Any thread may write; the link's thread takes what has gathered, a few times a second, so that a script that prints at
every step pays for appending to a list and no more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from onthefly.protocol import Logged

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.protocol import Stream

MAX_GATHERED = 1 << 20
"""Characters that may wait: what is printed faster than that is cut, with a mark."""

MAX_WRITE = 1 << 16
"""Characters of one write that are recorded."""

PARTIAL_SECONDS = 0.5
"""How long the beginning of a line waits for its end."""


class Log:
    """The text that waits to be recorded."""

    def __init__(self, soon: Callable[[], None]) -> None:
        """``soon()`` has :meth:`take` called in a moment, from the link's thread."""
        self._soon = soon
        self._gathered: deque[tuple[Stream, float, str]] = deque()
        self._size = 0
        """Characters in it, roughly: threads may write at once."""
        self._cut = 0
        self._asked = False
        self._taking = threading.Lock()

    def written(self, stream: Stream, text: str) -> None:
        """The script wrote that to the stream."""
        if not text:
            return
        if self._size > MAX_GATHERED:
            self._cut += len(text)
        else:
            if len(text) > MAX_WRITE:
                text = f"{text[:MAX_WRITE]} [onthefly: {len(text) - MAX_WRITE} more characters are not recorded]\n"
            self._size += len(text)
            self._gathered.append((stream, time.time(), text))
        if not self._asked:
            self._asked = True
            self._soon()

    def take(self, *, last: bool = False) -> list[Logged]:
        """What has gathered, neighbours of one stream joined; the beginning of a line waits, unless it is the last."""
        with self._taking:
            return self._take(last)

    def _take(self, last: bool) -> list[Logged]:
        self._asked = False
        found: list[Logged] = []
        while self._gathered:
            stream, when, text = self._gathered.popleft()
            if found and found[-1].stream == stream:
                found[-1].text += text
                found[-1].time = when
            else:
                found.append(Logged(stream=stream, time=when, text=text))
        self._size = 0
        if self._cut:
            cut, self._cut = self._cut, 0
            text = f"[onthefly: {cut} characters were printed too fast to be recorded]\n"
            found.append(Logged(stream="stdout", time=time.time(), text=text))
        if found and not last:
            self._hold_back(found)
        for entry in found:
            # Bytes that were no text (surrogates) cannot travel as such.
            entry.text = entry.text.encode("utf-8", "backslashreplace").decode()
        return found

    def _hold_back(self, found: list[Logged]) -> None:
        """Put the beginning of a line back until its end is written, or for a little while."""
        newest = found[-1]
        whole, newline, begun = newest.text.rpartition("\n")
        if not begun or time.time() - newest.time > PARTIAL_SECONDS:
            return
        self._gathered.appendleft((newest.stream, newest.time, begun))
        self._size += len(begun)
        newest.text = whole + newline
        if not newest.text:
            found.pop()
        self._asked = True
        self._soon()
