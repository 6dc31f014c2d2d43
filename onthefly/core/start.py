"""What a script's random numbers depend on before its first line: recorded by the shim, set again by a resume.

Python seeds ``random`` from the system when that is imported, NumPy its global generator likewise: a script that draws
before it seeds them gives other numbers each time. The states are taken at that moment, right after the module's body,
where the process that resumes sets them; what the script seeds itself comes later, and wins. PyTorch begins with a seed
that never changes. The states travel as ``start.json``, a member of each checkpoint, and once in the session's folder.

No module is imported at the top, and none before the script's first line: what was loaded would hide a file of that
name beside the script. So ``start.json`` is read here line by line; :func:`read` reads it elsewhere, as JSON.
"""

import os
import sys

TYPE_CHECKING = False  # the import of typing loads 20 modules
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    State = tuple[Any, ...]

NAME = "start.json"
FORMAT = 1
MAX_BYTES = 256 * 1024
WORDS = 624
"""Of the Mersenne Twister, which both generators are; the place in them comes with them."""

_recorded: "dict[str, State]" = {}
"""By module: the words, the place in them, and the second normal number that a draw has left over (or None)."""

_about: "dict[str, Any]" = {}
"""Of this process, as it began."""

_keep: "list[Callable[[], None]]" = []
"""Writes the session's copy again."""


_leave: "list[Callable[[], None]]" = []


def begin(when_imported: "Callable[[str, Callable[[], None]], Any]", hash_seed: "str | None", path: str = "") -> str:
    """In the shim: record the states as their modules come, after setting those in the file ``path``, if one is given.

    Returns why that cannot be done; empty if it can. A file that is not there asks for nothing.
    """
    wanted: dict[str, State] = {}
    if path:
        try:
            wanted = _wanted(path)
        except (OSError, ValueError) as error:
            return f"{path} cannot be read: {error}"
    try:
        folder = os.getcwd()
    except OSError:  # it was deleted
        folder = ""
    _about.update(hash_seed=hash_seed, hash_randomization=bool(sys.flags.hash_randomization), cwd=folder)
    for name, (take, put) in _GENERATORS.items():
        _leave.append(when_imported(name, _at_import(name, take, put, wanted.get(name))))
    return ""


def rest() -> None:
    """The script runs unobserved: wait for no module any more."""
    for leave in _leave:
        leave()
    _leave.clear()


def members() -> "dict[str, bytes]":
    """The member of a checkpoint that tells how this process began, by name; none where no shim has looked."""
    if not _about:
        return {}
    import json

    found: dict[str, Any] = {"format": FORMAT}
    for name, (words, place, left) in _recorded.items():
        text = "".join([f"{word:08x}" for word in words])
        found[name] = f"{text}:{place}:{'' if left is None else float(left).hex()}"
    found.update(python=sys.version.split()[0], command=_command(), **_about)
    return {NAME: json.dumps(found, indent=1).encode("ascii")}


def keep(folder: str) -> None:
    """Have the session's folder hold a copy, from now on; one that is there stays, it tells of the first process."""
    path = os.path.join(folder, NAME)
    if not _about or os.path.exists(path):
        return

    def write() -> None:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(members()[NAME])
        os.replace(f"{path}.new", path)

    write()
    _keep.append(write)


def read(path: str) -> "dict[str, Any]":
    """All that a ``start.json`` says; ``ValueError`` or ``OSError`` if it is none."""
    import json

    found = json.loads(_text(path))
    command = found.get("command") if isinstance(found, dict) else None
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise ValueError("it is no description of how a script was started")
    return found


def _text(path: str) -> str:
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    return data.decode("ascii")


def _wanted(path: str) -> "dict[str, State]":
    """The states in a file, each checked; the lines are those of ``json.dumps(..., indent=1)``."""
    if not os.path.exists(path):
        return {}
    text = _text(path)
    lines = [line.rstrip(",") for line in text.split("\n")]
    if f' "format": {FORMAT}' not in lines:
        raise ValueError("it is of another version")
    if not text.endswith("\n}"):
        raise ValueError("it is not whole")
    found: dict[str, State] = {}
    for line in lines:
        for name in _GENERATORS:
            before, _, text = line.partition(f' "{name}": "')  # a line within a list begins with two blanks
            if text and not before:
                found[name] = _state(text[:-1])
    return found


def _state(text: str) -> "State":
    digits, place, left = text.split(":") if text.count(":") == 2 else ("", "0", "")
    words = tuple([int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)])
    if len(digits) != 8 * WORDS or not digits.isalnum() or not 0 <= int(place) <= WORDS:
        raise ValueError("a random state in it is none")
    return words, int(place), float.fromhex(left) if left else None


def _at_import(
    name: str, take: "Callable[[], State]", put: "Callable[[State], None]", wanted: "State | None"
) -> "Callable[[], None]":
    """What is called right after the body of that module."""

    def came() -> None:
        try:
            if wanted is not None:
                put(wanted)
            _recorded[name] = take()
        except (AttributeError, TypeError, ValueError, KeyError):
            return  # a file of the script's has that name, and is no such module
        for write in _keep:
            try:
                write()
            except OSError:
                return  # the disk is full: checkpoints say so

    return came


def _python() -> "Any":
    """The module ``random``, if it is Python's own: a file of the script's may have its name."""
    module = sys.modules["random"]
    if not isinstance(module._inst, sys.modules["_random"].Random):
        raise TypeError("not Python's")
    return module


def _take_python() -> "State":
    _, words, left = _python().getstate()
    return words[:WORDS], words[WORDS], left


def _put_python(state: "State") -> None:
    words, place, left = state
    _python().setstate((3, (*words, place), left))


def _take_numpy() -> "State":
    kind, words, place, has_left, left = sys.modules["numpy.random"].get_state()
    if kind != "MT19937":
        raise ValueError(kind)
    return words.tolist(), int(place), left if has_left else None


def _put_numpy(state: "State") -> None:
    words, place, left = state
    words = sys.modules["numpy"].array(words, dtype="uint32")
    sys.modules["numpy.random"].set_state(("MT19937", words, place, int(left is not None), left or 0.0))


_GENERATORS: "dict[str, tuple[Callable[[], State], Callable[[State], None]]]" = {
    "random": (_take_python, _put_python), "numpy.random": (_take_numpy, _put_numpy),
}  # fmt: skip
"""By module: how the state of its global generator is taken and set."""


def _command() -> "list[str]":
    """The command line of this process, its interpreter by path."""
    words = list(getattr(sys, "orig_argv", ()))
    if not words:  # Python 3.9
        try:
            with open("/proc/self/cmdline", "rb") as file:
                words = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
        except OSError:
            return []
    return [sys.executable, *words[1:]]
