"""How scripts are started: what is named on the command line, the interpreter's options, and the surroundings."""

from __future__ import annotations

import os
import py_compile
import sys
import zipfile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PLAIN = 'exec "$@"'
CLOSED_PIPE = "import os, sys; r, w = os.pipe(); os.dup2(w, 1); os.close(r); os.execv(sys.argv[1], sys.argv[1:])"
"""What ``| head`` leaves, without a race: nobody reads standard output any more."""


class Way(NamedTuple):
    """One way to start a script."""

    lay: Callable[[Path, str], tuple[str, ...]]
    """Lays the source down in a folder; the words that name it."""
    options: tuple[str, ...] = ()
    """Of the interpreter."""
    environment: Mapping[str, str] = {}
    shell: str = PLAIN
    """What a shell does with the command, ``"$@"``."""


def _script(folder: Path, source: str, name: str = "s.py") -> tuple[str, ...]:
    (folder / name).write_text(source, encoding="utf-8")
    return (name, "--flag", "x y", "", "-m", "\udcff")


def _named(name: str) -> Callable[[Path, str], tuple[str, ...]]:
    return lambda folder, source: _script(folder, source, name)


def _absolute(folder: Path, source: str) -> tuple[str, ...]:
    return (str(folder / _script(folder, source)[0]), "a")


def _elsewhere(folder: Path, source: str) -> tuple[str, ...]:
    (folder / "sub").mkdir()
    _script(folder / "sub", source)
    return ("sub/../sub/./s.py", "a")


def _package(*words: str) -> Callable[[Path, str], tuple[str, ...]]:
    def lay(folder: Path, source: str) -> tuple[str, ...]:
        package = folder / "pkg"
        package.mkdir()
        for name in ("__init__", "__main__", "mod"):
            (package / f"{name}.py").write_text("" if name == "__init__" else source, encoding="utf-8")
        return (*words, "a", "-c")

    return lay


def _zip(folder: Path, source: str) -> tuple[str, ...]:
    with zipfile.ZipFile(folder / "app.zip", "w") as archive:
        archive.writestr("__main__.py", source)
    return ("app.zip", "a")


def _compiled(folder: Path, source: str) -> tuple[str, ...]:
    _script(folder, source)
    py_compile.compile(str(folder / "s.py"), str(folder / "c.pyc"))
    return ("c.pyc", "a")


def _link(folder: Path, source: str) -> tuple[str, ...]:
    _elsewhere(folder, source)
    (folder / "link.py").symlink_to("sub/s.py")
    return ("link.py", "a")


def _linked_folder(folder: Path, source: str) -> tuple[str, ...]:
    _elsewhere(folder, source)
    (folder / "there").symlink_to("sub")
    return ("there/s.py", "a")


def _code(folder: Path, source: str) -> tuple[str, ...]:
    return ("-c", source, "a", "-m")


def _stdin(*words: str) -> Callable[[Path, str], tuple[str, ...]]:
    def lay(folder: Path, source: str) -> tuple[str, ...]:
        _script(folder, source)
        return words

    return lay


def _unreadable(folder: Path, source: str) -> tuple[str, ...]:
    """A folder without ``__main__``: for root, who may read every file, the nearest to one that cannot be read."""
    words = _script(folder, source)
    if os.access(folder / "s.py", os.R_OK) and os.getuid() == 0:
        (folder / "sub").mkdir()
        return ("sub",)
    (folder / "s.py").chmod(0)
    return words


def _tools(*words: str) -> Callable[[Path, str], tuple[str, ...]]:
    return lambda folder, source: (*words, *_script(folder, source))


WAYS: dict[str, Way] = {
    "script": Way(_script),
    "absolute": Way(_absolute),
    "elsewhere": Way(_elsewhere),
    "odd-name": Way(_named("s p\u00e4 ce")),
    "named-as-a-command": Way(_named("./ps")),
    "link": Way(_link),
    "linked-folder": Way(_linked_folder),
    "module": Way(_package("-m", "pkg.mod")),
    "module-joined": Way(_package("-mpkg.mod")),
    "package": Way(_package("-m", "pkg")),
    "folder": Way(_package("pkg")),
    "zip": Way(_zip),
    "compiled": Way(_compiled),
    "code": Way(_code),
    "stdin": Way(_stdin("-", "a"), shell='exec "$@" < s.py'),
    "dev-stdin": Way(_stdin("/dev/stdin", "a"), shell='exec "$@" < s.py'),
    "fifo": Way(_stdin("fifo", "a"), shell='mkfifo fifo; { exec 3> fifo; rm fifo; cat s.py >&3; } & exec "$@"'),
    "missing": Way(lambda folder, source: ("absent.py", "a")),
    "missing-module": Way(lambda folder, source: ("-m", "no.such.module")),
    "broken": Way(lambda folder, source: _script(folder, "def f(:\n" + source)),
    "unreadable": Way(_unreadable),
    "not-utf8": Way(lambda folder, source: _script(folder, "# coding: no-such\n" + source)),
    "after-pdb": Way(_tools("-m", "pdb", "-c", "continue"), shell='echo q | "$@"'),
    "after-profile": Way(_tools("-m", "cProfile", "-o", "profile")),
    "after-trace": Way(_tools("-m", "trace", "--count", "-C", "counts")),
    "-O": Way(_script, ("-O",)),
    "-OO -B": Way(_script, ("-OO", "-B")),
    "-u": Way(_script, ("-u",)),
    "-ub": Way(_script, ("-ub",)),
    "-W error": Way(_script, ("-W", "error")),
    "-Wonce": Way(_package("-m", "pkg.mod"), ("-Wonce",)),
    "-X utf8": Way(_script, ("-X", "utf8")),
    "-X utf8=0": Way(_script, ("-X", "utf8=0"), {"LC_ALL": "POSIX"}),
    "-X dev": Way(_script, ("-X", "dev")),
    "-X faulthandler": Way(_code, ("-X", "faulthandler")),
    "-P": Way(_script, ("-P",)),
    "-s": Way(_script, ("-s",)),
    "-q -R": Way(_script, ("-q", "-R")),
    "-i": Way(_script, ("-i",), shell='echo "print(41 + 1)" | "$@"'),
    "--check-hash-based-pycs": Way(_package("-m", "pkg"), ("--check-hash-based-pycs", "always")),
    "PYTHONSAFEPATH": Way(_script, environment={"PYTHONSAFEPATH": "1"}),
    "PYTHONUTF8": Way(_script, environment={"PYTHONUTF8": "1"}),
    "PYTHONSTARTUP": Way(_script, environment={"PYTHONSTARTUP": "absent.py"}),
    "PYTHONIOENCODING": Way(_script, environment={"PYTHONIOENCODING": "ascii:replace"}),
    "PYTHONWARNINGS": Way(_script, environment={"PYTHONWARNINGS": "default"}),
    "PYTHONUNBUFFERED": Way(_script, environment={"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "3"}),
    "PYTHONINSPECT": Way(_script, environment={"PYTHONINSPECT": "1"}),
    "PYTHONNOUSERSITE": Way(_script, environment={"PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}),
    "PYTHONPATH empty": Way(_script, environment={"PYTHONPATH": ""}),
    "PYTHONPATH here": Way(_script, environment={"PYTHONPATH": os.pathsep}),
    "PYTHONPATH two": Way(_script, environment={"PYTHONPATH": f"/a{os.pathsep}b"}),
    "LC_ALL=C": Way(_script, environment={"LC_ALL": "C"}),
    "no locale": Way(_script, environment={"LC_ALL": "", "LC_CTYPE": "C", "LANG": ""}),
    "closed stdin": Way(_script, shell='exec "$@" <&-'),
    "closed stdout": Way(_script, shell='exec "$@" >&-'),
    "closed stderr": Way(_script, shell='exec "$@" 2>&-'),
    "all closed": Way(_script, shell='exec "$@" <&- >&- 2>&-'),
    "full device": Way(_script, shell='exec "$@" > /dev/full'),
    "one stream": Way(_script, shell='exec "$@" 2>&1'),
    "closed pipe": Way(_script, shell=f"exec {sys.executable} -c '{CLOSED_PIPE}' \"$@\""),
    "no PIPE": Way(_script, shell='trap "" PIPE; exec "$@"'),
    "in background": Way(_script, shell='"$@" & wait $!'),
    "nohup": Way(_script, shell='trap "" HUP INT TERM; exec "$@"'),
    "few files": Way(_script, shell='ulimit -n 64; exec "$@"'),
    "umask": Way(_script, shell='umask 0; exec "$@"'),
    "commands": Way(_script, shell='printf "p x\\nc\\n" | "$@"'),
    "no home": Way(_script, shell='unset HOME; exec "$@"'),
    "no environment": Way(_script, shell='exec env -i SEEN="$SEEN" ONTHEFLY_RUNTIME_DIR="$ONTHEFLY_RUNTIME_DIR" "$@"'),
    "folder gone": Way(_absolute, shell='mkdir x; cd x; rmdir ../x; exec "$@"'),
}
