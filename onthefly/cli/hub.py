"""``onthefly hub``: run the hub in the foreground."""

from __future__ import annotations

from onthefly.settings import Settings


def main(argv: list[str]) -> int:
    """Serve until SIGTERM, SIGINT or idle."""
    from onthefly.hub.server import run

    return run(Settings())
