"""What must be there before the first line of a script that is resumed: its prints are held, its writes are noted.

Called by the shim. No module is loaded that Python has not loaded by itself, but our own: it would hide a file of that
name beside the script.
"""

import atexit
import os
import sys

from onthefly.core.audited import AuditedWrites
from onthefly.core.streams import Streams
from onthefly.core.undo import Undo

TYPE_CHECKING = False  # the import of typing loads 20 modules, which the script might shadow by files of its own
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import ClassVar

DELETED = " (deleted)"
"""What Linux adds to the path of an open file that has no name any more."""


class Prefix:
    """The part of a resumed script that runs to no effect: from its top to where everything is put back."""

    current: "ClassVar[Prefix | None]" = None
    """The one of this process, from its hold to its end."""

    def __init__(self, folder: str, exempt: "Sequence[str]") -> None:
        """``folder``: a new one for what is saved; ``exempt``: folders of ours, in which nothing is undone."""
        self._pid = os.getpid()
        self._undo = Undo(folder)
        self.streams = Streams(folder)
        self.writes = AuditedWrites(self._undo, [folder, *exempt])
        self.over = False

    def begin(self) -> None:
        """Hold and note, from now on."""
        Prefix.current = self
        atexit.register(self._ended)  # before the script's, and so called after them
        self.streams.hold()
        self.writes.watch()

    @property
    def strays(self) -> "list[str]":
        """Files of the prefix that are open for writing still, and have no name any more (Linux)."""
        found: list[str] = []
        for entry in os.listdir("/proc/self/fd") if sys.platform == "linux" else ():
            try:
                path = os.readlink(f"/proc/self/fd/{entry}")
                gone = os.stat(f"/proc/self/fd/{entry}").st_nlink == 0
            except OSError:
                continue  # the one of the listing itself
            path = path[: -len(DELETED)] if path.endswith(DELETED) else path
            if gone and self._undo.knows(path):
                found.append(path)
        return sorted(set(found))

    def end(self) -> "list[str]":
        """The files are what they were; what could not be put back, in sentences. The prints are held still."""
        if self.over:
            return []
        self.over = True
        self.writes.rest()
        return self._undo.undo()

    def fail(self, reason: str) -> None:
        """Put back the files and the streams, and show the end of what standard error was told meanwhile."""
        problems = self.end()
        if self.streams.held:
            self.streams.tell()
        for sentence in [reason, *problems]:
            self.streams.say(sentence)

    def _ended(self) -> None:
        if os.getpid() == self._pid and not self.over:
            self.fail(self.writes.refused or "the script ended before it came to the step where it was to be resumed")


def early_hold(folder: str, exempt: "Sequence[str]" = ()) -> Prefix:
    """Hold this process from now on, if it is not held yet; ``folder`` is where what it writes to is saved."""
    if Prefix.current is None:
        Prefix(folder, exempt).begin()
    assert Prefix.current is not None
    return Prefix.current
