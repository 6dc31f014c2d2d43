"""Files that a script has written and closed again: how long each was at a checkpoint, so that it ends there again.

A log that is opened for each line, or a history that is read and written anew each epoch, is not open when a checkpoint
is made. Which paths the script writes to is seen by an audit hook: it costs 0.2 us in each event of the process (a
step of a small model has four, all ``id()``), and a script cannot see it. The road not taken is a look at the folders
around the script: it misses those that are elsewhere, and reads data sets.
"""

from __future__ import annotations

import base64
import functools
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from onthefly.state.openfiles import cut, tail_hash

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SMALL, IN_ALL = 64 * 1024, 1024 * 1024
"""How large a file is whose content is kept with a checkpoint, at most, and how much of that there is, in bytes."""

MOST = 4096
"""Paths that are remembered."""

WRITING = os.O_WRONLY | os.O_RDWR


class Written:
    """The paths that this process opens for writing, from its making on; once in a process, for good."""

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}
        sys.addaudithook(self._event)

    def _event(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open" and arguments[2] & WRITING and len(self._paths) < MOST:
            given = arguments[0]
            if isinstance(given, (str, bytes, os.PathLike)):
                try:
                    self._paths[os.path.abspath(os.fsdecode(given))] = None
                except (OSError, TypeError, ValueError):
                    return  # the folder is gone, or it is no path: the script's own call will say so

    def adopt(self, record: Iterable[dict[str, Any]]) -> None:
        """The files of the checkpoint from which this process goes on: it has written to them too."""
        self._paths.update((entry["path"], None) for entry in record)

    def record(self, exempt: tuple[str, ...]) -> list[dict[str, Any]]:
        """How each of those files is now, as plain JSON; none in the folders ``exempt``.

        To be called when the open ones are written out (:func:`~onthefly.state.openfiles.describe`).
        """
        found: dict[str, dict[str, Any]] = {}
        left = IN_ALL
        for given in list(self._paths):
            path = os.path.realpath(given)
            if path in found or path.startswith((*exempt, "/dev/", "/proc/")) or "__pycache__" in path:
                continue
            try:
                now = os.stat(path)
                if not stat.S_ISREG(now.st_mode):
                    continue
                entry = {"path": path, "size": now.st_size, "mtime_ns": now.st_mtime_ns,
                         "hash": tail_hash(path, now.st_size)}  # fmt: skip
                if now.st_size <= min(SMALL, left):
                    with open(path, "rb") as file:
                        entry["content"] = base64.b64encode(file.read()).decode()
                    left -= now.st_size
            except OSError:
                continue  # it is gone, or not ours to read
            found[path] = entry
        return list(found.values())


@functools.lru_cache(maxsize=1)
def written_here() -> Written:
    """The one of this process, from the first call on."""
    return Written()


def put_back(record: Iterable[dict[str, Any]], kept: Path) -> list[str]:
    """Make closed files what they were at the checkpoint; what they are now goes into the folder ``kept``.

    One that has only grown is cut, a small one is written again. Of those that are neither, a sentence each; a file
    that is not here (another machine) is not made.
    """
    told: list[str] = []
    for entry in record:
        path, size = entry["path"], entry["size"]
        try:
            now = os.stat(path)
            if (now.st_size, now.st_mtime_ns) == (size, entry["mtime_ns"]):
                continue
            if now.st_size >= size and tail_hash(path, size) == entry["hash"] and size:
                _end(path, size, kept)
            elif "content" in entry:
                _end(path, 0, kept)
                with open(path, "r+b") as file:
                    file.write(base64.b64decode(entry["content"]))
            else:
                told.append(f"{path} has been written anew since the checkpoint was made, and is left as it is")
        except OSError as error:
            told.append(f"{path} is not what it was when the checkpoint was made ({error.strerror})")
    return told


def _end(path: str, size: int, kept: Path) -> None:
    if os.stat(path).st_size > size:
        with open(path, "r+b") as file:
            cut(file.fileno(), path, size, kept)
