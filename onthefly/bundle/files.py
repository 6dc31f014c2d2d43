"""Files and folders that are whole or not there: written beside their final name, flushed to the disk, then renamed.

What ``kill -9`` or a power cut leaves is a name that begins with ``.tmp-``, never half of something under a final name.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import platform
import shutil
import stat
import time
import zlib
from typing import TYPE_CHECKING

from onthefly.bundle.refusals import Damaged, NoSuchBundle, TooLarge, not_written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from io import FileIO
    from pathlib import Path

    from onthefly.bundle.tensors import Buffer

    Sink = Callable[[Buffer], object]

PREFIX = ".tmp-"
_PIECE = 8 << 20
"""Bytes handed to the system at once; each such call lets other threads run."""
_FOREIGN_SECONDS = 24 * 3600
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def temporary_name(pid: int = 0) -> str:
    """A name that nobody else uses; it tells which machine and process (default: this one) may still need it."""
    return f"{PREFIX}{_node()}-{pid or os.getpid()}-{os.urandom(4).hex()}"


def write_file(path: Path, pieces: Iterable[Buffer], *, seen: Sink = lambda piece: None) -> int:
    """Write a new file and flush it to the disk; ``seen`` is shown every piece. Returns its bytes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600)
    written = 0
    try:
        for piece in _cut(pieces):
            seen(piece)
            at = 0
            while at < len(piece):
                at += os.write(descriptor, piece[at:])
            written += len(piece)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return written


def replace_file(path: Path, write: Callable[[Path], object]) -> int:
    """Make the file ``path``, or put a new one in its place: ``write(temporary path)`` makes it. Returns its bytes.

    Raises :class:`~onthefly.bundle.refusals.NotWritten`; then ``path`` is what it was.
    """
    temporary = path.parent / temporary_name()
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return size


def make_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Make the folder ``path``: ``fill(temporary folder)`` puts flushed files into it.

    Raises :class:`~onthefly.bundle.refusals.NotWritten`, also where something of that name is there already; then
    nothing new stands there.
    """
    temporary = path.parent / temporary_name()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.mkdir(mode=0o700)
        fill(temporary)
        flush_folder(temporary)
        if os.path.lexists(path):  # an empty folder would be replaced without a word
            raise FileExistsError(errno.EEXIST, "it exists")
        temporary.rename(path)
        flush_folder(path.parent)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Take a folder away: first its name, at once, then what is in it. ``OSError`` if its name cannot be taken."""
    temporary = path.parent / temporary_name()
    path.rename(temporary)
    flush_folder(path.parent)
    shutil.rmtree(temporary, ignore_errors=True)


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to the disk (Windows does that by itself)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot flush a folder, and need not
            raise
    finally:
        os.close(descriptor)


def sweep(folder: Path, *, start: bool = True) -> int:
    """Remove what processes that ended have left there half-written. Returns how many there were.

    ``start``: this process has nothing under way there yet, and what bears its number is an earlier one's.
    What a living process of this machine may be writing stays, and what another machine's may, for a day.
    """
    swept = 0
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name.startswith(PREFIX) and _abandoned(path, start):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        path.unlink()
                swept += not os.path.lexists(path)
    return swept


def open_file(path: Path) -> FileIO:
    """Open a regular file to read it, unbuffered; no link is followed.

    Raises :class:`~onthefly.bundle.refusals.NoSuchBundle`, :class:`~onthefly.bundle.refusals.Damaged`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as error:
        raise NoSuchBundle(
            f"{path} is not there", "see what there is with: onthefly ctl SESSION checkpoints"
        ) from error
    except OSError as error:
        raise Damaged(
            f"{path} cannot be opened: {error.strerror}", "see who may read it, and that it is no link"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Damaged(f"{path} is no file")
    return io.FileIO(descriptor, "rb")


def read_file(path: Path, limit: int) -> bytearray:
    """A regular file of at most so many bytes, whole.

    Raises as :func:`open_file`, and :class:`~onthefly.bundle.refusals.TooLarge` before anything is read.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise TooLarge(f"{path} has {size} bytes, where {limit} are allowed", "")
        data = bytearray(size)
        at = 0
        while at < len(data):
            try:
                count = file.readinto(memoryview(data)[at:])
            except OSError as error:
                raise Damaged(f"{path} cannot be read: {error.strerror}") from error
            if not count:
                raise Damaged(f"{path} ended after {at} of {len(data)} bytes")
            at += count
    return data


def _cut(pieces: Iterable[Buffer]) -> Iterator[memoryview]:
    for piece in pieces:
        view = memoryview(piece).cast("B")
        for at in range(0, len(view), _PIECE):
            yield view[at : at + _PIECE]


def _node() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _abandoned(path: Path, start: bool) -> bool:
    node, _, rest = path.name[len(PREFIX) :].partition("-")
    pid = rest.partition("-")[0]
    if node == _node() and pid.isdigit():
        return start if int(pid) == os.getpid() else not _lives(int(pid))
    try:
        return time.time() - path.lstat().st_mtime > _FOREIGN_SECONDS
    except OSError:
        return False


def _lives(pid: int) -> bool:
    if os.name == "nt":
        return False  # os.kill would end it; a folder that is in use cannot be removed there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
