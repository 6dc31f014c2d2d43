"""At which signals a checkpoint can be made, and how they are written."""

from __future__ import annotations

import signal

from onthefly.errors import UsageError

NAMES = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""Those by which somebody asks a process to end, and those that are free for use.

Others cannot be caught (KILL, STOP), say that the process itself has failed (SEGV, ABRT), or are events of every day
(CHLD, PIPE, WINCH): to wait for the next step at these would be wrong.
"""

ONLY_SAVE = frozenset({"SIGUSR1", "SIGUSR2"})
"""Where the script has no handler for these, it goes on after the checkpoint; by itself Python would end.

A batch system sends them some time before the end (SLURM: ``--signal=USR1@60``), so that work goes on until then.
"""


def parse(text: str) -> list[str]:
    """``USR1,SIGTERM`` as names in full, each once. Raises :class:`~onthefly.errors.UsageError`."""
    found: list[str] = []
    for word in text.replace(",", " ").split():
        name = word.upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        if name not in NAMES or not hasattr(signal, name):
            known = ", ".join(one for one in NAMES if hasattr(signal, one))
            what = "no checkpoint is made at it" if hasattr(signal, name) else "there is no such signal here"
            raise UsageError(f"{word}: {what}", f"signals to save on: {known}")
        if name not in found:
            found.append(name)
    return found
