"""From what Python is about to do to files (its audit events) to a journal that undoes it.

Seen is what goes through Python's own functions: ``open``, ``os``, ``shutil``, ``pathlib``, and all that is built on
them. Not seen is what a library writes by itself (:meth:`AuditedWrites.writes` is for those that are known) and what
other processes do. Only ``os``, ``sys`` and the interpreter's own modules are imported: this runs before the script's
first line.
"""

import _thread
import os
import stat
import sys

from onthefly.core.undo import TooLarge, Undo

TYPE_CHECKING = False  # the import of typing loads 20 modules, which the script might shadow by files of its own
if TYPE_CHECKING:
    from typing import Any, Callable

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

REFUSED = 5
"""What the process ends with where a deed cannot be undone (:class:`onthefly.errors.ExitCode`, which loads much)."""

TEMPORARY = ("/tmp", "/var/tmp")
OTHERS = ("tmp", "pymp-", "torch", "triton", "matplotlib-")
"""What the names begin with of temporary files and caches, in the folders for these: they are left alone."""


class AuditedWrites:
    """What this process, and no child of it, does to files, told to the journal before it is done."""

    def __init__(self, undo: Undo, exempt: "list[str]") -> None:
        """``exempt``: folders that are left alone, beside caches and the interpreter's own."""
        self._undo = undo
        folders = [os.path.join(os.path.realpath(path), "") for path in [*exempt, *_not_the_scripts()]]
        names = [os.path.join(os.path.realpath(folder), name) for folder in TEMPORARY for name in OTHERS]
        self._exempt = (*folders, *names)
        self._pid = os.getpid()
        self._lock = _thread.allocate_lock()
        self._owner = 0
        self._on = False
        self.refused = ""
        """Why this prefix cannot be undone, and was ended; empty: it can."""
        self._events: dict[str, Callable[..., None]] = {
            "open": self._open, "os.rename": self._rename, "os.remove": self._leave, "os.rmdir": self._leave,
            "os.mkdir": self._mkdir, "os.truncate": self._change, "os.link": self._link, "os.symlink": self._symlink,
            "os.chmod": self._change_mode, "os.chown": self._change_owner, "os.utime": self._change_times,
            "sqlite3.connect": self._database, "mmap.__new__": self._map,
        }  # fmt: skip

    def watch(self) -> None:
        """From now on, until :meth:`rest`; once: no hook of this kind can be taken out."""
        self._on = True
        sys.addaudithook(self._event)

    def rest(self) -> None:
        """See nothing any more."""
        self._on = False

    def writes(self, path: str) -> None:
        """A library that does not go through Python's functions is about to write that file anew."""
        if self._on:
            self._event("open", (path, None, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))

    def _event(self, name: str, arguments: "tuple[Any, ...]") -> None:
        if not self._on or name not in self._events or os.getpid() != self._pid:
            return
        if self._owner == _thread.get_ident():
            return  # what we do ourselves
        with self._lock:
            self._owner = _thread.get_ident()
            try:
                self._events[name](*arguments)
            except (OSError, TooLarge) as error:
                self.refused = f"what the script does to its files before that step could not be undone: {error}"
                raise SystemExit(REFUSED) from error  # before the deed
            finally:
                self._owner = 0

    def _open(self, given: "Any", mode: "Any", flags: "Any") -> None:
        if isinstance(flags, int) and flags & WRITING and not isinstance(given, int):
            path = os.path.realpath(os.fsdecode(given))
            now = self._look(path)
            fails = flags & os.O_EXCL if now is not None else not flags & os.O_CREAT
            if not fails and not self._spared(path):
                self._undo.writes(path, now, whole=not flags & os.O_TRUNC)

    def _change(self, given: "Any", *rest: "Any") -> None:
        """What is there is changed in place."""
        if not isinstance(given, int):
            path = os.path.realpath(os.fsdecode(given))
            now = self._look(path)
            if now is not None and not self._spared(path):
                self._undo.writes(path, now, whole=True)

    def _change_mode(self, given: "Any", mode: int, folder: int) -> None:
        self._change(given if isinstance(given, int) else _entry(given, folder))

    def _change_owner(self, given: "Any", user: int, group: int, folder: int) -> None:
        self._change(given if isinstance(given, int) else _entry(given, folder))

    def _change_times(self, given: "Any", times: "Any", ns: "Any", folder: int) -> None:
        self._change(given if isinstance(given, int) else _entry(given, folder))

    def _leave(self, given: "Any", folder: int = -1) -> None:
        path = _entry(given, folder)
        now = self._look(path)
        if now is not None and not self._spared(path):
            self._undo.leaves(path, now)

    def _mkdir(self, given: "Any", mode: int, folder: int) -> None:
        self._make(_entry(given, folder))

    def _symlink(self, target: "Any", given: "Any", folder: int) -> None:
        self._make(_entry(given, folder))

    def _link(self, given: "Any", target: "Any", from_folder: int, to_folder: int) -> None:
        source = _entry(given, from_folder)
        now = self._look(source)
        if now is not None and not self._spared(source):
            self._undo.writes(source, now, whole=True)  # who writes to its other name shall not write to it
        self._make(_entry(target, to_folder))

    def _make(self, path: str) -> None:
        if self._look(path) is None and not self._spared(path):
            self._undo.makes(path)

    def _rename(self, given: "Any", target: "Any", from_folder: int, to_folder: int) -> None:
        source, path = _entry(given, from_folder), _entry(target, to_folder)
        now, there = self._look(source), self._look(path)
        if now is None or (there is not None and os.path.samestat(now, there)):
            return
        if not self._spared(path):
            if there is None:
                self._undo.makes(path)
            else:
                self._undo.leaves(path, there)
        if not self._spared(source):
            self._undo.moves(source, path, now)

    def _database(self, given: "Any") -> None:
        name = os.fsdecode(given)
        if name and ":memory:" not in name and "mode=ro" not in name and not self._spared(os.path.realpath(name)):
            raise TooLarge(f"it opens the database {name}")

    def _map(self, number: int, length: int, access: int, offset: int) -> None:
        if number < 0 or access not in (0, 2) or os.name == "nt":  # neither read only nor a copy
            return
        import fcntl

        now = os.fstat(number)
        path = os.path.realpath(f"/proc/self/fd/{number}") if sys.platform == "linux" else ""
        writable = fcntl.fcntl(number, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR)
        if writable and now.st_nlink and stat.S_ISREG(now.st_mode) and not self._spared(path):
            raise TooLarge(f"it maps {path or 'a file'} into memory to write to it")

    @staticmethod
    def _look(path: str) -> "os.stat_result | None":
        try:
            return os.lstat(path)
        except OSError:
            return None

    def _spared(self, path: str) -> bool:
        """Whether that path is none of the script's results."""
        return path.startswith(self._exempt) or f"{os.sep}__pycache__{os.sep}" in path + os.sep


def _entry(given: "Any", folder: int) -> str:
    """The absolute path of an entry of a folder: links are followed on the way there, and not at its end."""
    path = os.fsdecode(given)
    if folder >= 0 and not os.path.isabs(path):
        path = os.path.join(_path_of(folder), path)
    head, tail = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(head), tail)


def _path_of(folder: int) -> str:
    if sys.platform == "linux":
        return os.readlink(f"/proc/self/fd/{folder}")
    import fcntl

    return os.fsdecode(fcntl.fcntl(folder, 50, bytes(1024)).rstrip(b"\0"))  # F_GETPATH (macOS)


def _not_the_scripts() -> "list[str]":
    home = os.path.expanduser("~")
    inside = [
        os.path.join(prefix, name)
        for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix}
        for name in ("lib", "lib64", "Lib")
    ]
    return [
        "/proc", "/dev", "/sys", *inside,
        *[os.path.join(home, name) for name in (".cache", ".triton", ".nv", ".config", "Library/Caches")],
    ]  # fmt: skip
