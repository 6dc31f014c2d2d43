"""What is different where the process is the kernel of a notebook: its name, and how a training in it is stopped."""

from __future__ import annotations

import builtins
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from onthefly.settings import Settings

UNNAMED = "notebook"


def is_interactive() -> bool:
    """Whether somebody types or runs cells here, so that the process goes on after an error."""
    return hasattr(sys, "ps1") or bool(getattr(builtins, "__IPYTHON__", False))


def notebook(settings: Settings) -> str:
    """The path of the notebook whose kernel this process is, as far as known; empty if it is no kernel.

    Children of a kernel inherit its environment, and are none: IPython leaves a mark in the process itself.
    """
    if not getattr(builtins, "__IPYTHON__", False) or "ipykernel" not in sys.modules:
        return ""
    # An editor (VS Code) leaves the path among the notebook's own names; Jupyter's server in the environment.
    given = getattr(sys.modules.get("__main__"), "__vsc_ipynb_file__", "")
    path = given if isinstance(given, str) and given else settings.notebook
    return path if os.path.basename(path) else UNNAMED


def in_background_task() -> bool:
    """Whether a task of the kernel's own event loop runs this, which no cell waits in.

    The loop passes a ``SystemExit`` of such a task on to its own caller, and the kernel would end.
    """
    asyncio: Any = sys.modules.get("asyncio")  # a kernel has loaded it; a script may have a file of that name
    if "ipykernel" not in sys.modules or asyncio is None:
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return False
    return task is not None and not _in_cell(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]


def cancelled() -> BaseException:
    """What ends such a task, and nothing else."""
    from asyncio import CancelledError

    return CancelledError("stopped in the dashboard")


def _in_cell(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "run_code" and frame.f_globals.get("__name__") == "IPython.core.interactiveshell":
            return True
        frame = frame.f_back
    return False
