"""``onthefly ps``: the sessions, newest first."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from onthefly.link.client import Client
from onthefly.settings import Settings

HEADINGS = ("SESSION", "NAME", "STATE", "STEP", "EPOCH", "LOSS", "SAMPLES", "COST", "AGE")


def main(argv: list[str]) -> int:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="onthefly ps", description="List the sessions, newest first.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv[1:])
    with Client(Settings()) as client:
        sessions: list[dict[str, Any]] = client.json("sessions")["sessions"]
    if options.json:
        print(json.dumps(sessions, indent=2))
        return 0
    if not sessions:
        print("no sessions yet; start one: python -m onthefly train.py")
        return 0
    rows = [HEADINGS, *(_row(session) for session in sessions)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for number, row in enumerate(rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        print(_coloured(line, row[2]) if number and sys.stdout.isatty() else line)
    return 0


def _row(session: dict[str, Any]) -> tuple[str, ...]:
    loss, cost = session["loss"], session["onthefly_us"]
    return (
        session["id"], session["name"][:32], session["state"], str(session["step"]), str(session["epoch"]),
        "-" if loss is None else f"{loss:.4g}", str(session["samples"]), "-" if cost is None else f"{cost:.0f} us",
        _age(time.time() - session["started"]),
    )  # fmt: skip


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _coloured(line: str, state: str) -> str:
    colour = {"running": 32, "paused": 33, "pausing": 33, "crashed": 31, "lost": 31}.get(state)
    return f"\x1b[{colour}m{line}\x1b[0m" if colour else line
