"""Keeps a watchdog from repeating itself."""

from __future__ import annotations


class Calm:
    """Holds back further findings of one thing until so many values in a row were harmless."""

    def __init__(self, length: int) -> None:
        self._length, self._left = length, 0

    def passes(self, alarming: bool) -> bool:
        """Whether this is the first alarming value since it was calm."""
        first = alarming and not self._left
        if alarming:
            self._left = self._length
        elif self._left:
            self._left -= 1
        return first
