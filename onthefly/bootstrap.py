"""What the shim calls at the start of each interpreter below the launcher: is there something to watch here?

Nothing but the standard library is imported, and nothing of the process is touched but ``sys.meta_path``, until the
script imports torch. Then the session is armed; whatever fails on the way is one line, and the script runs on.
"""

from __future__ import annotations

import os
import sys

from onthefly.errors import Guard, report
from onthefly.patching.imports import when_imported
from onthefly.settings import Settings, claim_rank

OLDEST_TORCH = (2, 2)


def start() -> None:
    """Wait for torch, unless we are switched off."""
    settings = Settings()
    if not settings.disabled and settings.target_pid:
        target = settings.target_pid == os.getpid()
        main = claim_rank() or target
        guard = Guard("the script runs unobserved: opening its session", strict=settings.strict)
        when_imported("torch", guard.around(lambda: _torch_imported(settings, target, main)))


def _torch_imported(settings: Settings, target: bool, main: bool) -> None:
    reason = _arm(settings, main)
    if reason and target:
        report(f"the script runs unobserved: {reason}")


def _arm(settings: Settings, main: bool) -> str:
    """Watch the script or a rank of it, or wait in a child until it trains; why not, if that cannot be done."""
    version = getattr(sys.modules["torch"], "__version__", "0")
    if _release(version) < OLDEST_TORCH:
        return f"torch {version} is older than {'.'.join(map(str, OLDEST_TORCH))}"
    try:
        if main:
            from onthefly.session import open_session

            open_session(settings)
        else:
            await_training(settings)
    except ImportError as error:
        return f"{error} (pip install onthefly-ai in the environment that runs the script)"
    except SystemExit as error:  # a module of that name beside the script, which ends the process that imports it
        return f"a module that OnTheFly needs ended with {error!r}"
    return ""


def await_training(settings: Settings) -> None:
    """In a child: join the session when it trains, and not before (most children never do)."""
    from onthefly.instruments.first_use import FirstUse

    def join() -> None:
        from onthefly.session import join_session

        join_session(settings)

    FirstUse(join, Guard("watching a child of the script", strict=settings.strict))


def _release(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())
