"""Paths put back to what they were: a journal of what is about to happen to each, undone from its end.

What stood at a path is saved before it changes, by a hard link where that can be, which costs nothing; then it is
never written to: who opens the path for writing gets a copy in its place. So the file that comes back is the very one
that was there, with its times and its other links, and whoever still holds the copy cannot harm it.

Every line of the journal reaches the system before the deed, so that a process killed at any point can be put right
by another one (:func:`put_right`); a power cut may lose the newest lines. Only ``os`` and ``sys`` are imported: this
runs before the script's first line.
"""

import os
import stat

TYPE_CHECKING = False  # the import of typing loads 20 modules, which the script might shadow by files of its own

LARGEST = 4 * 1024**3
"""A larger file is not copied, in bytes."""

JOURNAL = "journal"
BESIDE = ".onthefly-new"
"""What the name of a file ends with until it is whole."""

NOWHERE = (0, 0)


class TooLarge(Exception):
    """A file that would have to be copied, and is not."""


class Undo:
    """The journal of one process, in a folder of its own."""

    def __init__(self, folder: str) -> None:
        """``folder`` is made if it is missing."""
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self._journal = _open_journal(folder)
        self._count = 0
        self._known: dict[str, tuple[int, int]] = {}
        """Paths whose first state is saved, and the file itself (device, inode) while it may still stand there."""

    def writes(self, path: str, now: "os.stat_result | None", *, whole: bool) -> None:
        """A file is opened for writing, or made; ``whole``: its content goes first. ``now``: what ``lstat`` says."""
        if now is None:
            self.makes(path)
        elif stat.S_ISREG(now.st_mode):
            self.leaves(path, now)
            if self._known[path] == (now.st_dev, now.st_ino):
                _stand_in(path, now, whole=whole)
                self._known[path] = NOWHERE

    def makes(self, path: str) -> None:
        """Something is made where nothing is."""
        if path not in self._known:
            self._note("new", path)
            self._known[path] = NOWHERE

    def leaves(self, path: str, now: "os.stat_result") -> None:
        """What stands there is removed, or something else is moved to its place."""
        if path in self._known:
            return
        if stat.S_ISLNK(now.st_mode):
            self._note("link", os.readlink(path), path)
            self._known[path] = NOWHERE
        elif stat.S_ISDIR(now.st_mode):
            self._note("folder", str(stat.S_IMODE(now.st_mode)), path)
        elif stat.S_ISREG(now.st_mode):
            self._note("file", str(self._count), path)
            linked = _save(path, os.path.join(self.folder, str(self._count)), now)
            self._known[path] = (now.st_dev, now.st_ino) if linked else NOWHERE
            self._count += 1

    def moves(self, source: str, target: str, now: "os.stat_result") -> None:
        """Something gets another name; what stands there is saved already."""
        if source in self._known and not stat.S_ISDIR(now.st_mode):
            return  # it was made here: nothing has to come back from there
        self._note("moved", source, target)
        self._known.pop(target, None)
        for path in [path for path in self._known if path.startswith(source + os.sep)]:
            self._known[target + path[len(source) :]] = self._known.pop(path)
        self._known.pop(source, None)

    def knows(self, path: str) -> bool:
        """Whether something happened there."""
        return path in self._known

    def undo(self) -> "list[str]":
        """Put all back; what could not be, in sentences. The folder is gone if everything could."""
        os.close(self._journal)
        return _undo(self.folder)

    def _note(self, *words: str) -> None:
        os.write(self._journal, _line(words))


def put_right(folder: str) -> "list[str]":
    """Undo what a process that is gone has left: ``folder`` is the one of its journal.

    Nothing is done while that process lives (it holds a lock, which ends with it). What could not be put back, in
    sentences.
    """
    if not os.path.exists(os.path.join(folder, JOURNAL)):
        return []
    try:
        os.close(_open_journal(folder))
    except OSError:
        return []
    return _undo(folder)


def put_all_right(folder: "str | os.PathLike[str]") -> "list[str]":
    """Undo what prefixes that were killed have left in the world: ``folder`` holds their folders (``backup-<pid>``).

    Those of processes that live are left alone. What could not be put back, in sentences.
    """
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [said for name in names if name.startswith("backup-") for said in put_right(os.path.join(folder, name))]


def _undo(folder: str) -> "list[str]":
    journal = _open_journal(folder)
    try:
        entries, done = _read(folder)
        problems: list[str] = []
        for number in reversed(range(len(entries))):
            if number in done:
                continue
            kind, *words = entries[number]
            try:
                problem = _undo_one(folder, kind, words, entries[:number])
            except OSError as error:
                problem = f"{words[-1]} could not be put back ({error.strerror})"
            if problem:
                problems.append(problem)
            os.write(journal, _line(("done", str(number))))
        if not problems:
            _remove(folder)
    finally:
        os.close(journal)
    return problems


def _read(folder: str) -> "tuple[list[list[str]], set[int]]":
    entries: list[list[str]] = []
    done: set[int] = set()
    with open(os.path.join(folder, JOURNAL), "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break  # the process was killed in the middle of it: the deed was not done
            words = [word.decode("unicode_escape") for word in line[:-1].split(b"\t")]
            if words[0] == "done":
                done.add(int(words[1]))
            else:
                entries.append(words)
    return entries, done


def _line(words: "tuple[str, ...]") -> bytes:
    return b"\t".join(word.encode("unicode_escape") for word in words) + b"\n"


def _open_journal(folder: str) -> int:
    """Its descriptor, with the lock; OSError if another process has that."""
    number = os.open(os.path.join(folder, JOURNAL), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if os.name != "nt":
        import fcntl

        try:
            fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process: no child of it inherits it
        except OSError:
            os.close(number)
            raise
    return number


def _undo_one(folder: str, kind: str, words: "list[str]", before: "list[list[str]]") -> str:
    """Undo a deed; ``before``: those that are undone after it. What is left over, in a sentence."""
    if kind == "new":
        return _undo_new(words[0], {entry[-1] for entry in before})
    first, path = words
    if kind == "file":
        _undo_file(os.path.join(folder, first), path)
    elif kind == "link":
        _undo_link(first, path)
    elif kind == "folder":
        _undo_folder(first, path)
    else:
        _undo_moved(first, path)
    return ""


def _undo_new(path: str, earlier: "set[str]") -> str:
    """``earlier``: paths that are put back after this one, whatever is there now."""
    if os.path.isdir(path) and not os.path.islink(path):
        for name in os.listdir(path):
            if os.path.join(path, name) in earlier:
                _remove(os.path.join(path, name))
        try:
            os.rmdir(path)
        except OSError:
            return f"{path} was made, and stays: something is in it that this process is not known to have made"
    elif os.path.lexists(path):
        os.unlink(path)
    return ""


def _undo_file(saved: str, path: str) -> None:
    _discard(path + BESIDE)
    if not os.path.exists(saved):
        return  # killed before it was saved, and so before the deed
    if os.path.lexists(path) and os.path.samestat(os.lstat(path), os.lstat(saved)):
        os.unlink(saved)  # it was never changed
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _place(saved, path)


def _undo_link(target: str, path: str) -> None:
    if not (os.path.islink(path) and os.readlink(path) == target):
        _discard(path)
        os.symlink(target, path)


def _undo_folder(mode: str, path: str) -> None:
    if not os.path.lexists(path):
        os.makedirs(path)
        os.chmod(path, int(mode))


def _undo_moved(source: str, target: str) -> None:
    if os.path.lexists(target) and not os.path.lexists(source):
        os.rename(target, source)


def _save(path: str, saved: str, now: "os.stat_result") -> bool:
    """Save a file; whether that is the file itself, by another name."""
    try:
        os.link(path, saved)
    except OSError:  # another file system, or one without such links
        _copy(path, saved, now)
        return False
    return True


def _stand_in(path: str, now: "os.stat_result", *, whole: bool) -> None:
    """Another file in the place of one that is saved: its copy, or an empty one."""
    if whole:
        _copy(path, path, now)
        return
    beside = path + BESIDE
    os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    os.chmod(beside, stat.S_IMODE(now.st_mode))
    os.replace(beside, path)


def _copy(path: str, target: str, now: "os.stat_result") -> None:
    """A copy with the same mode and times, whole or not there."""
    if now.st_size > LARGEST:
        raise TooLarge(f"{path} is larger than {LARGEST >> 30} GiB")
    beside = target + BESIDE
    with open(path, "rb") as source, open(beside, "wb") as copy:
        if not _cloned(source.fileno(), copy.fileno()):
            while True:
                part = source.read(1 << 20)
                if not part:
                    break
                copy.write(part)
    os.chmod(beside, stat.S_IMODE(now.st_mode))
    os.utime(beside, ns=(now.st_atime_ns, now.st_mtime_ns))
    os.replace(beside, target)


def _cloned(source: int, target: int) -> bool:
    """Have the file system share the blocks, where it can (Linux)."""
    if not hasattr(os, "copy_file_range"):
        return False
    import fcntl

    try:
        fcntl.ioctl(target, 0x40049409, source)  # FICLONE
    except OSError:
        return False
    return True


def _place(saved: str, path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    try:
        os.replace(saved, path)
    except OSError:  # another file system
        _copy(saved, path, os.stat(saved))
        os.unlink(saved)


def _discard(path: str) -> None:
    if os.path.lexists(path):
        _remove(path)


def _remove(path: str) -> None:
    """Whatever is there, with what is in it; no link is followed."""
    if os.path.isdir(path) and not os.path.islink(path):
        with os.scandir(path) as entries:
            inside = [entry.path for entry in entries]
        for entry in inside:
            _remove(entry)
        os.rmdir(path)
    else:
        os.unlink(path)
