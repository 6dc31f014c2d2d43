"""Descriptors 1 and 2 of this process put aside: what Python and C write there goes into files that have no name.

In files, not in pipes: a pipe that nobody empties stops its writer, and a thread that empties it needs the lock which a
C library may hold while it prints. Only ``os`` and ``sys`` are imported: this runs before the script's first line.
"""

import os
import sys

TYPE_CHECKING = False  # the import of typing loads 20 modules, which the script might shadow by files of its own
if TYPE_CHECKING:
    from typing import Any

LINE = 4096
"""The buffer of C's standard output on a terminal, in bytes."""

TAIL = 64 * 1024
"""How much of the held standard error is shown when a resume fails, in bytes."""


class Streams:
    """Standard output and error of one process, held until :meth:`let_go`."""

    def __init__(self, folder: str) -> None:
        """``folder``: where the files are made; it is there, and writable."""
        self._folder = folder
        self._saved: dict[int, int] = {}
        self._held: dict[int, int] = {}
        self._told: list[Any] = []

    @property
    def held(self) -> bool:
        """Whether they are put aside now."""
        return bool(self._saved)

    def hold(self) -> None:
        """Put them aside; a descriptor that is closed stays so."""
        if self._saved:
            return
        _flush()
        for number in (1, 2):
            try:
                saved = _high(os.dup(number))
            except OSError:
                continue
            self._saved[number] = saved
            self._held[number] = _high(_nameless(os.path.join(self._folder, f"held-{number}")))
            os.dup2(self._held[number], number)
        # The script may ask before it draws a progress bar or colours: it shall go the way that it went before.
        for stream, number in ((sys.__stdout__, 1), (sys.__stderr__, 2)):
            if number in self._saved and os.isatty(self._saved[number]) and hasattr(stream, "__dict__"):
                setattr(stream, "isatty", lambda: True)  # noqa: B010 - an attribute of the object hides the method
                self._told.append(stream)

    def let_go(self) -> None:
        """Put them back; what was held is gone."""
        self._back()
        self._close()

    def tell(self) -> None:
        """Put them back, and write the end of what standard error was told, and how much standard output was."""
        sizes = self._back()
        if 2 in self._held:
            start = max(0, sizes[2] - TAIL)
            os.lseek(self._held[2], start, os.SEEK_SET)
            if start:
                write(2, b"onthefly: (%d bytes of standard error left out)\n" % start)
            while sizes[2] > start:
                part = os.read(self._held[2], sizes[2] - start)
                if not part:
                    break
                write(2, part)
                start += len(part)
        if sizes.get(1):
            write(2, b"onthefly: (%d bytes of standard output were held back)\n" % sizes[1])
        self._close()

    def say(self, text: str) -> None:
        """Write one line to the real standard error."""
        write(self._saved.get(2, 2), f"onthefly: {text}\n".encode("utf-8", "backslashreplace"))

    @property
    def watched(self) -> bool:
        """Whether the real standard error is a terminal."""
        try:
            return os.isatty(self._saved.get(2, 2))
        except OSError:
            return False

    def _back(self) -> "dict[int, int]":
        """Both descriptors are what they were; how much each was told, in bytes."""
        _flush()
        libc = _flush_c()
        for stream in self._told:
            vars(stream).pop("isatty", None)
        self._told.clear()
        sizes = {number: os.fstat(held).st_size for number, held in self._held.items()}
        for number, saved in self._saved.items():
            os.dup2(saved, number)
        if libc is not None and 1 in self._saved and os.isatty(1):
            _by_line(libc)
        return sizes

    def _close(self) -> None:
        for number in [*self._saved.values(), *self._held.values()]:
            os.close(number)
        self._saved.clear()
        self._held.clear()


def write(number: int, text: bytes) -> None:
    """All of it, unless nobody is there to read it."""
    try:
        while text:
            text = text[os.write(number, text) :]
    except OSError:
        return


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # pyright: ignore[reportOptionalMemberAccess] - None where there is no such stream
        except (OSError, ValueError, AttributeError):
            continue


def _flush_c() -> "Any":
    """Have C's own buffers written, if torch (which loads ctypes) is there; the C library."""
    ctypes = sys.modules.get("ctypes")
    if ctypes is None or os.name == "nt":
        return None
    libc = ctypes.CDLL(None)
    libc.fflush(None)
    return libc


def _by_line(libc: "Any") -> None:
    """C's standard output is written by line, as on every terminal: it may have met ours first, which is a file."""
    ctypes: Any = sys.modules["ctypes"]
    try:
        stdout = ctypes.c_void_p.in_dll(libc, "stdout")
    except ValueError:
        return
    libc.malloc.restype = ctypes.c_void_p
    buffer = ctypes.c_void_p(libc.malloc(LINE))  # C's for good; without a new one glibc holds the next line back
    libc.setvbuf(stdout, buffer, 1, ctypes.c_size_t(LINE))


def _high(number: int) -> int:
    """The same with a number that no script meets, and that no child inherits."""
    if os.name == "nt":
        return number
    import fcntl

    try:
        moved = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 200)
    except OSError:  # fewer are allowed
        return number
    os.close(number)
    return moved


def _nameless(path: str) -> int:
    """A new file that nobody else can open."""
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_TEMPORARY", 0), 0o600)
    if os.name != "nt":
        os.unlink(path)
    return number
