"""What the shim calls at the start of each interpreter below the launcher: is there something to watch here?

Nothing but the standard library is imported, and nothing of the process is touched but ``sys.meta_path``, until the
script imports torch. Then the session is armed; whatever fails on the way is one line, and the script runs on.
"""

from __future__ import annotations

import os
import sys

from onthefly.errors import Guard, report
from onthefly.patching.imports import when_imported
from onthefly.settings import Settings

OLDEST_TORCH = (2, 2)


def start() -> None:
    """Wait for torch, unless we are switched off."""
    settings = Settings()
    if not settings.disabled and settings.target_pid:
        guard = Guard("the script runs unobserved: opening its session", strict=settings.strict)
        when_imported("torch", guard.around(lambda: _torch_imported(settings)))


def _torch_imported(settings: Settings) -> None:
    reason = _arm(settings)
    if reason and settings.target_pid == os.getpid():
        report(f"the script runs unobserved: {reason}")


def _arm(settings: Settings) -> str:
    """Arm the session; why not, if it could not be done."""
    version = getattr(sys.modules["torch"], "__version__", "0")
    if _release(version) < OLDEST_TORCH:
        return f"torch {version} is older than {'.'.join(map(str, OLDEST_TORCH))}"
    try:
        from onthefly.session import arm
    except ImportError as error:
        return f"{error} (pip install onthefly-ai in the environment that runs the script)"
    arm(settings, target=settings.target_pid == os.getpid())
    return ""


def _release(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())
