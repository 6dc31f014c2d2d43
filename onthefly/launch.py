"""Runs the script under us: re-executes the interpreter with the shim on its path; its exit code is the answer.

Python itself runs the script. Measured against plain Python, this was equal in every case tried (tracebacks, exit
codes, pickling of ``__main__`` in late threads, spawn), where ``runpy.run_path`` adds four frames and breaks pickling.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from onthefly.errors import Guard, OnTheFlyError, Refused, report
from onthefly.settings import Settings
from onthefly.version import __version__, release

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

DEFEATING = {"I": "isolated mode", "E": "ignoring the environment", "S": "leaving out site"}
"""Interpreter options, by letter, under which no shim is imported."""


def shim_folder() -> Path:
    """Where ``sitecustomize.py`` lies: in the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "_shim"
    return inside if inside.is_dir() else package.parent / "sitecustomize"


def interpreter_command() -> list[str]:
    """The interpreter and its own options as they were given to us (``python -O -u -m onthefly ...``).

    Counted from the end, where our arguments are: looking for ``-m`` from the front finds the script's own under
    ``python -Bm onthefly -m pkg`` or the console script, and would have us execute ourselves for ever.
    """
    original: list[str] = list(getattr(sys, "orig_argv", []))
    spec = sys.modules["__main__"].__spec__
    if not original or spec is None or spec.name != "onthefly.__main__":
        options: list[str] = getattr(subprocess, "_args_from_interpreter_flags")()  # noqa: B009 - not in its type stub
        return [sys.executable, *options]
    *head, word = original[: len(original) - len(sys.argv[1:])]
    if not word.startswith("-"):
        word = head.pop()  # "-m", "onthefly" as two words; else "-monthefly"
    joined = word.partition("m")[0]
    return [*head, joined] if joined != "-" else head


def run(command: Sequence[str], overrides: Mapping[str, str], taken: Collection[int] = ()) -> int:
    """Become that command, watched; ``overrides`` are ``ONTHEFLY_*`` variables that the options set.

    Does not return on POSIX, unless the command cannot be executed (127 or 126, as a shell says it), or this process
    has one of the numbers ``taken``: then the command is a child of it.

    Raises:
        Refused: the command is to take up a session, and would run unobserved: that would begin it again.
    """
    environment = _found()
    settings = Settings()
    resumes = "ONTHEFLY_RESUME_EXPECTED" in overrides
    environment.update(overrides)
    unobserved = _unobserved(settings, command, resumes=resumes)
    if unobserved and resumes:
        raise Refused(f"not resumed: {unobserved}", "give the script's own command: ... -- python train.py")
    if settings.disabled:
        return _become(command, _found())
    if unobserved:
        report(f"{unobserved}; the script runs unobserved")
        return _become(command, environment)
    if not resumes:
        environment["ONTHEFLY_SESSION"] = _new_session()
    environment["ONTHEFLY_SHIM"] = str(shim_folder())
    rest = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = str(shim_folder()) + (os.pathsep + rest if rest else "")
    guard = Guard("the script runs unobserved: starting the hub", strict=settings.strict)
    guard.around(_start_hub)()
    if guard.failures and resumes:
        raise Refused("OnTheFly does not work here")
    if guard.failures:  # what is broken here would be broken there
        return _become(command, _found())
    child = _fork_out_of(taken)
    if child:
        return _wait_for(child)
    environment["ONTHEFLY_TARGET"] = str(os.getpid())
    if _is_python(command) and not environment.get("PYTHONHASHSEED"):
        environment["PYTHONHASHSEED"], environment["ONTHEFLY_HASH_SEED"] = _hash_seed(), "1"
    return _become(command, environment)


def _unobserved(settings: Settings, command: Sequence[str], *, resumes: bool) -> str:
    """Why the command would run unobserved; empty if it does not."""
    if settings.disabled:
        return "ONTHEFLY_DISABLE is set"
    if not _is_python(command):  # what it starts may be watched; which of that would be resumed?
        return f"{command[0]} is no Python" if resumes else ""
    defeated = _defeating(command)
    return f"-{defeated} ({DEFEATING[defeated]}) keeps OnTheFly out" if defeated else ""


def _fork_out_of(taken: Collection[int]) -> int:
    """Become a process with another number than those; the first one gets the number of its child, that one gets 0.

    Records are told apart by the number of their process. In a container it repeats: the script's is always the first.
    """
    child = 0
    while os.getpid() in taken and not child and hasattr(os, "fork"):
        child = os.fork()
    return child


def _wait_for(child: int) -> int:
    """Hand on signals to a child, as if it had been in our place; its exit code."""
    names = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT", *(() if os.isatty(0) else ("SIGINT",)))
    for name in names:
        signal.signal(getattr(signal, name), lambda number, _: os.kill(child, number))
    if os.isatty(0):  # the terminal sends it to both
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _found() -> dict[str, str]:
    """Our environment as it was found: Python under the C locale puts ``LC_CTYPE=C.UTF-8`` into its own (PEP 538).

    The script's interpreter must meet the C locale too, or it would not turn its UTF-8 mode on.
    """
    environment = dict(os.environ)
    asked = environment.get("PYTHONUTF8") or "utf8" in getattr(sys, "_xoptions")  # noqa: B009 - not in its type stub
    coerced = sys.flags.utf8_mode and not asked and not environment.get("LC_ALL")  # which Python leaves as it is
    if coerced and environment.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8"):
        environment["LC_CTYPE"] = "C"
    return environment


def _is_python(command: Sequence[str]) -> bool:
    return os.path.basename(command[0]).startswith("python")


def _defeating(command: Sequence[str]) -> str:
    """The first letter of ``DEFEATING`` among the interpreter's own options; the script's are none of ours."""
    words = iter(command[1:])
    for word in words:
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(words, "")
            continue
        if word == "-" or not word.startswith("-"):
            return ""
        for place, letter in enumerate(word):
            if letter in DEFEATING:
                return letter
            if letter in "cm":
                return ""
            if letter in "WX":  # the rest of the word is its value, or the next word is
                if place == len(word) - 1:
                    next(words, "")
                break
    return ""


def _new_session() -> str:
    import secrets

    alphabet = "23456789abcdefghjkmnpqrstuvwxyz"  # protocol.SESSION_ALPHABET, whose import costs 30 ms here
    return "".join(secrets.choice(alphabet) for _ in range(8))


def _hash_seed() -> str:
    """A random seed of text's hashes, as Python draws one, but known: the order of a set's texts follows from it.

    Without it a script that goes through a set of texts could not be resumed exactly. The shim takes it out of the
    environment before the script's first line.
    """
    import secrets

    return str(1 + secrets.randbelow((1 << 32) - 1))


def _start_hub() -> None:
    """Start a hub if none is alive, and do not wait for it: the import of torch takes longer than its start."""
    try:
        from onthefly.link.discovery import living_hub, spawn_hub
    except SystemExit as error:  # a module of that name that takes itself for a program
        raise ImportError(f"what it needs exits when it is imported, with {error.code!r}") from error

    settings = Settings()
    try:
        hub = living_hub(settings)
        if hub is not None and release(hub.version) < release(__version__):
            os.kill(hub.pid, signal.SIGTERM)  # it commits what it has, and ours takes over: agents find it by its file
            hub = None
        if hub is None:
            spawn_hub(settings)
    except OnTheFlyError as error:
        remedy = f" ({error.remedy})" if error.remedy else ""
        report(f"{error.message}{remedy}; the script runs, its records wait in {settings.data_dir}")


def _become(command: Sequence[str], environment: dict[str, str]) -> int:
    try:
        if os.name == "nt":
            return subprocess.run(list(command), env=environment, check=False).returncode
        for name in ("SIGPIPE", "SIGXFZ", "SIGXFSZ"):  # Python ignores them, and a command that is no Python must not
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.execvpe(command[0], list(command), environment)
    except FileNotFoundError:
        report(f"no such command: {command[0]}")
        return 127
    except OSError as error:
        report(f"{command[0]}: {error.strerror}")
        return 126
