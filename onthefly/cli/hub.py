"""``onthefly hub``: run the hub in the foreground."""

from __future__ import annotations

import signal

from onthefly.settings import Settings


def main(argv: list[str]) -> int:
    """Serve until SIGTERM, SIGINT or idle."""
    from onthefly.hub.server import run

    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a link's thread starts us, which takes no signal
    return run(Settings())
