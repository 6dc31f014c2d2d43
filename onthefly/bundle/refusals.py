"""What a bundle refuses, on its way in and out; each message says what, and what to do about it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from onthefly.errors import ExitCode, OnTheFlyError

if TYPE_CHECKING:
    import os


class BundleError(OnTheFlyError):
    """The root of what this room refuses."""

    exit_code = ExitCode.REFUSED
    code = "bundle"


class Unrepresentable(BundleError):
    """A value that the container has no plain form for; :attr:`path` is its place in the tree."""

    code = "unrepresentable"

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path or 'the value'}: {what}", "only plain values, arrays and tensors can be kept on disk")
        self.path = path
        self.what = what


class Damaged(BundleError):
    """A bundle that is not what was written: cut, changed, or incomplete."""

    code = "damaged"

    def __init__(self, what: str, remedy: str = "use another checkpoint; this one cannot be trusted") -> None:
        super().__init__(what, remedy)


class NewerFormat(BundleError):
    """A bundle that a newer version has written."""

    code = "newer_format"

    def __init__(self, name: str, found: int, known: int) -> None:
        super().__init__(f"{name} has format {found}, and this version knows {known}", "update onthefly")


class TooLarge(BundleError):
    """More than a bundle may hold, or than the caller allows."""

    code = "too_large"


class NoSuchBundle(BundleError):
    """Nothing of that name is there."""

    code = "no_such_checkpoint"


class Untrusted(BundleError):
    """A bundle with parts that could run code when they are loaded: its taker has to say yes first."""

    code = "untrusted"


class NotWritten(BundleError):
    """The disk did not take it; nothing stands under a final name."""

    code = "not_written"


_WORDS = {
    errno.ENOSPC: ("the disk is full", "free some space; older checkpoints can be dropped"),
    errno.EDQUOT: ("the quota of this user is used up", "free some space; older checkpoints can be dropped"),
    errno.EFBIG: ("the file would exceed the limit on file sizes", "raise the limit (ulimit -f)"),
    errno.EROFS: ("the file system is read-only", "choose another folder with ONTHEFLY_DATA_DIR"),
    errno.EACCES: ("permission denied", "choose another folder with ONTHEFLY_DATA_DIR"),
    errno.EPERM: ("permission denied", "choose another folder with ONTHEFLY_DATA_DIR"),
    errno.ENOENT: ("the folder is gone", "choose another folder with ONTHEFLY_DATA_DIR"),
    errno.EEXIST: ("something of that name is there already", "choose another name"),
    errno.ENOTEMPTY: ("something of that name is there already", "choose another name"),
    errno.EIO: ("the disk reports an error", "look at the system's log"),
}


def not_written(path: os.PathLike[str], error: OSError) -> NotWritten:
    """What the system said when ``path`` was to be written, in plain words."""
    words, remedy = _WORDS.get(
        error.errno or 0, (error.strerror or str(error), "see whether the folder can be written")
    )
    return NotWritten(f"{path} is not written: {words}", remedy)
