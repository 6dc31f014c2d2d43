"""How a process introduces itself to the hub: what its session and its script are called."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from typing import TYPE_CHECKING

from onthefly.core.expected import RESUME, REWIND, first_free, read
from onthefly.core.kernel import notebook
from onthefly.protocol import PROTOCOL, Hello
from onthefly.version import __version__

if TYPE_CHECKING:
    from onthefly.settings import Settings

RUN = "baseline"
"""What a run is called that nobody has named."""


def run_name(name: str) -> str:
    """``name`` as the name of a run: letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:64].strip("-") or RUN


class Runs:
    """The names of the session's runs: that of this process, and those that begin when it goes back."""

    def __init__(self, settings: Settings, run: str = RUN) -> None:
        """``ValueError`` or ``OSError`` if the process takes up a session and cannot read as what."""
        self.expected = read(settings.resume_expected) if settings.resume_expected else None
        """Of a process that takes up a session."""
        self.first = self.expected.run if self.expected is not None else run
        self._taken = {self.first, *(self.expected.runs if self.expected is not None else ())}

    def origin(self, parent: str, step: int) -> tuple[str, int]:
        """The run that a run goes on from and how far; where none is given, what the process itself goes on from."""
        if parent or self.expected is None:
            return parent, step
        return self.expected.origin.run, self.expected.origin.step

    def next(self, stem: str = REWIND) -> str:
        """The name of a run that begins now: ``rewind1``, ``rewind2``, ...; that of the process, where it resumes."""
        if stem == RESUME and self.expected is not None:
            return self.first
        name = self.free(stem)
        self._taken.add(name)
        return name

    def free(self, stem: str) -> str:
        """The next name of that kind; it is not taken by that."""
        return first_free(stem, self._taken)

    def has(self, name: str) -> bool:
        """Whether a run is called that."""
        return name in self._taken

    def take(self, name: str) -> None:
        """A run of that name begins."""
        self._taken.add(name)


def hello(settings: Settings, run: str, torch: str, *, rank: int, world_size: int, process: str) -> Hello:
    """The first words of this process to the hub; ``torch`` is its version."""
    return Hello(
        protocol=PROTOCOL,
        session=settings.session,
        rank=rank,
        pid=os.getpid(),
        process=process,
        node=platform.node(),
        argv=list(sys.argv) if hasattr(sys, "argv") else [],
        cwd=os.getcwd(),
        script=_script(settings),
        name=settings.name or base(settings),
        project=settings.project,
        run=run,
        world_size=world_size,
        started=time.time(),
        versions={"onthefly": __version__, "python": platform.python_version(), "torch": torch},
        resumes=bool(settings.resume_expected),
    )


def base(settings: Settings) -> str:
    """What the session is called if nobody named it: as the script."""
    return os.path.basename(_script(settings))


def _script(settings: Settings) -> str:
    """What the user would call the script: its path, that of the notebook, ``-m package.module`` or ``-c``."""
    found = notebook(settings)
    if found:
        return found
    original: list[str] = getattr(sys, "orig_argv", [])
    for place, word in enumerate(original[:-1]):
        if word == "-m":
            return f"-m {original[place + 1]}"
    return sys.argv[0] if getattr(sys, "argv", None) and sys.argv[0] else "python"
