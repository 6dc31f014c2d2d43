"""Exact slots: one attribute of one object, replaced and put back.

A replacement is a plain closure with the original's metadata (``functools.wraps``), not a ``wrapt`` proxy: importing
``wrapt`` costs 65 ms and more, each call through a proxy about a microsecond, and its transparency buys nothing here:
the originals are plain functions that nobody inspects beyond ``__wrapped__``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_MISSING: Final = object()


class Slot:
    """``owner.name``, filled with ours while armed.

    Undo is exact: what stood in ``vars(owner)`` is put back, or the attribute deleted when it was inherited, but only
    while ours is outermost. If somebody wrapped ours since, it is left in place and switched off instead: the
    replacement must look at :attr:`enabled` and then do nothing but call the original.
    """

    __slots__ = ("_before", "_ours", "enabled", "name", "owner")

    def __init__(self, owner: Any, name: str, make: Callable[[Slot, Callable[..., Any]], Callable[..., Any]]) -> None:
        """Fill the slot with ``make(slot, original)``; AttributeError if the owner has no such attribute."""
        self.owner = owner
        self.name = name
        self.enabled = True
        self._before: Any = vars(owner).get(name, _MISSING)
        self._ours = make(self, getattr(owner, name))
        setattr(owner, name, self._ours)

    def restore(self) -> bool:
        """Switch ours off, and take it out if nobody stands on it; whether it is out."""
        self.enabled = False
        return self._take_out()

    @contextlib.contextmanager
    def aside(self) -> Generator[None, None, None]:
        """Ours is out for a while, if nobody stands on it, and comes back if nobody else has come since."""
        out = self.enabled and self._take_out()
        try:
            yield
        finally:
            if out and self.enabled and vars(self.owner).get(self.name, _MISSING) is self._before:
                setattr(self.owner, self.name, self._ours)

    def _take_out(self) -> bool:
        if vars(self.owner).get(self.name, _MISSING) is not self._ours:
            return False
        if self._before is _MISSING:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self._before)
        return True
