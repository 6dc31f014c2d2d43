"""Files that a script has open: where each is at a checkpoint, and going on from there in another process.

A description is plain JSON. Going on means that the file on the disk ends where it ended, so that what the interrupted
run has written since is written again and not twice, and that the live object, which the script's other objects hold,
stays the same object: only the file beneath its descriptor is another one.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import io
import os
import stat
from typing import TYPE_CHECKING, Any

from onthefly.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

TAIL = 64 * 1024
"""How much before a position is compared, in bytes."""

LAYERS: dict[type, str] = {
    io.TextIOWrapper: "text",
    io.BufferedWriter: "buffered",
    io.BufferedReader: "buffered",
    io.BufferedRandom: "buffered",
    io.FileIO: "raw",
}


def describe(file: Any) -> dict[str, Any] | None:
    """Where that file object is; its buffer is written out. None: it is none of Python's own file objects.

    ``kind`` is ``file``, ``memory`` (``StringIO``, ``BytesIO``), ``standard`` (one of the three streams), ``closed``,
    or ``other``, with ``what`` that is: nothing of it is kept (pipes, sockets, terminals, files without a name).
    """
    if type(file) in (io.StringIO, io.BytesIO):
        return _describe_memory(file)
    if type(file) not in LAYERS:
        return None
    if file.closed:
        return {"kind": "closed"}
    number = file.fileno()
    if number <= 2:
        return {"kind": "standard", "number": number}
    now = os.fstat(number)
    path = _path(file, now)
    if not path:
        return {"kind": "other", "what": "a file without a name" if stat.S_ISREG(now.st_mode) else "no file"}
    writes: bool = file.writable()
    if writes:
        file.flush()
    position = _tell(file)
    size = os.fstat(number).st_size
    bytes_before = size if writes else min(size, _raw(file).tell())
    return {
        "kind": "file", "path": path, "name": file.name if isinstance(file.name, str) else path, "mode": file.mode,
        "layer": LAYERS[type(file)],
        "encoding": getattr(file, "encoding", None), "errors": getattr(file, "errors", None),
        "line_buffering": getattr(file, "line_buffering", False), "writes": writes, "reads": file.readable(),
        "position": position, "size": size, "mtime_ns": os.fstat(number).st_mtime_ns,
        "before": bytes_before, "hash": tail_hash(path, bytes_before),
    }  # fmt: skip


def behind(value: Any) -> list[Any]:
    """The files that a reader or writer of :mod:`csv` alone holds (``csv.writer(open(...))``)."""
    held = [getattr(one, "__self__", one) for one in gc.get_referents(value)]
    return [one for one in held if isinstance(one, io.IOBase)]


def restore(live: Any, described: dict[str, Any], kept: Path) -> str:
    """Have a live file object go on where the described one was; what is not as it was then, in a sentence.

    To be called after the prefix is undone. What the interrupted run has written since is cut off the file, and saved
    in the folder ``kept``.
    """
    kind = described["kind"]
    if kind == "memory":
        _restore_memory(live, described)
        return ""
    if kind == "closed":
        live.close()
        return ""
    if kind != "file":
        return f"{described['what']}, which the script had open, is another one now" if kind == "other" else ""
    if LAYERS.get(type(live)) != described["layer"] or live.closed or live.mode != described["mode"]:
        raise Refused(f"{described['path']} is open in another way than when the checkpoint was made")
    if described["writes"]:
        live.flush()  # into the prefix's own file, which has no name any more
    path = described["path"]
    try:
        number = os.open(path, _flags(described), 0o666)
    except OSError as error:
        raise Refused(f"{path}, which the script had open, cannot be opened ({error.strerror})") from error
    try:
        problem, position = _fit(number, described, kept)
        os.dup2(number, live.fileno(), inheritable=False)
    finally:
        os.close(number)
    live.seek(0, os.SEEK_END)  # whatever was read ahead is dropped, which a seek within it would not do
    if position is not None:
        live.seek(position)
    return problem


def open_anew(described: dict[str, Any], kept: Path) -> tuple[Any, str]:
    """A file object as described, where the script has none; and a sentence, as of :func:`restore`."""
    kind = described["kind"]
    if kind == "memory":
        file: Any = io.StringIO() if described["text"] else io.BytesIO()
        return file, restore(file, described, kept)
    if kind != "file":
        raise Refused(f"a file of the script cannot be opened again: it was {described.get('what', kind)}")
    text = described["layer"] == "text"
    if text and described["reads"] and _has_returns(described["path"]):
        raise Refused(f"{described['path']} cannot be opened again: how its ends of line were read is not known")

    def opener(path: str, flags: int) -> int:
        return os.open(described["path"], _flags(described), 0o666)

    try:
        file = open(  # noqa: SIM115 - it is the script's
            described["name"],
            described["mode"] if text or "b" in described["mode"] else described["mode"] + "b",
            0 if described["layer"] == "raw" else 1 if text and described["line_buffering"] else -1,
            encoding=described["encoding"] if text else None,
            errors=described["errors"] if text else None,
            opener=opener,
        )
    except OSError as error:
        raise Refused(f"{described['path']}, which the script had open, cannot be opened ({error.strerror})") from error
    return file, restore(file, described, kept)


def cut(number: int, path: str, size: int, kept: Path) -> None:
    """End a file at ``size``; what stood behind goes into the folder ``kept``."""
    kept.mkdir(parents=True, exist_ok=True)
    with open(kept / f"{len(list(kept.iterdir()))}-{os.path.basename(path)}", "wb") as copy, open(path, "rb") as file:
        file.seek(size)
        while part := file.read(1 << 20):
            copy.write(part)
    os.ftruncate(number, size)


def tail_hash(path: str, end: int) -> str:
    """What stands before that place of a file, the last 64 KiB of it."""
    with open(path, "rb") as file:
        file.seek(max(0, end - TAIL))
        return hashlib.sha256(file.read(min(end, TAIL))).hexdigest()


def _fit(number: int, described: dict[str, Any], kept: Path) -> tuple[str, int | None]:
    """Make the file on the disk end where it ended; a sentence, and the position (None: its end)."""
    path, size, before = described["path"], os.fstat(number).st_size, described["before"]
    if described["writes"] and described["size"] and not size:
        return f"{path} is not here, or empty: it begins at the step where the script goes on", None
    if size < before:
        return f"{path} is shorter than it was when the checkpoint was made: it goes on at its end", None
    if tail_hash(path, before) != described["hash"]:
        return f"{path} is not what it was when the checkpoint was made: it goes on at its end", None
    changed = os.fstat(number).st_mtime_ns != described["mtime_ns"]
    if described["writes"] and size > described["size"]:
        cut(number, path, described["size"], kept)
    if described["writes"] and described["reads"] and changed and before > TAIL:
        return f"{path} may have been changed in its middle since the checkpoint was made", described["position"]
    return "", described["position"]


def _flags(described: dict[str, Any]) -> int:
    """As its mode says, but that it is neither emptied nor has to be new."""
    if not described["writes"]:
        return os.O_RDONLY | os.O_CLOEXEC
    flags = os.O_RDWR if described["reads"] else os.O_WRONLY
    return flags | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if "a" in described["mode"] else 0)


def _raw(file: Any) -> Any:
    while type(file) is not io.FileIO:
        file = file.buffer if type(file) is io.TextIOWrapper else file.raw
    return file


def _path(file: Any, now: os.stat_result) -> str:
    """Its absolute path, if that leads to it still."""
    candidates = [f"/proc/self/fd/{file.fileno()}"] if os.path.isdir("/proc/self/fd") else []
    if isinstance(_raw(file).name, (str, bytes)):
        candidates.append(os.fsdecode(_raw(file).name))
    for candidate in candidates:
        path = os.path.realpath(candidate)
        if stat.S_ISREG(now.st_mode) and os.path.exists(path) and os.path.samestat(os.stat(path), now):
            return path
    return ""


def _has_returns(path: str) -> bool:
    with open(path, "rb") as file:
        return b"\r" in file.read(1 << 20)


def _tell(file: Any) -> int:
    """Its position, as ``seek`` takes it."""
    try:
        return file.tell()
    except OSError:  # a text file within a ``for`` over its lines
        return _tell_within_lines(file)


def _tell_within_lines(file: Any) -> int:
    """The position of a text file that will not tell it: what it has decoded and not given is counted, and put back.

    Character by character, until it reads on from the disk: at most one chunk (8 KiB) of them.
    """
    encoding = file.encoding.lower().replace("_", "-")
    if encoding not in ("utf-8", "ascii", "us-ascii", "latin-1", "iso-8859-1") or file.newlines not in (None, "\n"):
        raise Refused(f"{file.name} is being read line by line, and its position in {file.encoding} is not told")
    read = file.buffer.tell()
    waiting: list[str] = []
    while character := file.read(1):
        if file.buffer.tell() != read:
            break
        waiting.append(character)
    ahead = "".join(waiting).encode(file.encoding, file.errors)
    position = read - len(ahead) - _incomplete(file, read)
    file.seek(position)
    return position


def _incomplete(file: Any, end: int) -> int:
    """How many bytes before ``end`` begin a character that goes on behind it (UTF-8)."""
    if not file.encoding.lower().startswith("utf"):
        return 0
    last = os.pread(file.fileno(), min(3, end), end - min(3, end))
    for back in range(1, len(last) + 1):
        byte = last[-back]
        if byte >= 0xC0:
            return back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            return 0
    return 0


def _describe_memory(file: Any) -> dict[str, Any]:
    if file.closed:
        return {"kind": "closed"}
    if type(file) is io.BytesIO:
        content = base64.b64encode(file.getvalue()).decode()
        return {"kind": "memory", "text": False, "content": content, "position": file.tell()}
    content, newline, position, _ = file.__getstate__()
    return {"kind": "memory", "text": True, "content": content, "newline": newline, "position": position}


def _restore_memory(live: Any, described: dict[str, Any]) -> None:
    if described["text"]:
        live.__setstate__((described["content"], described["newline"], described["position"], None))
    else:
        live.__setstate__((base64.b64decode(described["content"]), described["position"], None))
