"""``onthefly ps``: the sessions, newest first."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from onthefly.link.client import Client
from onthefly.settings import Settings

HEADINGS = ("SESSION", "NAME", "STATE", "RUN", "STEP", "EPOCH", "LOSS", "SAMPLES", "COST", "AGE", "DISK")


def main(argv: list[str]) -> int:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="onthefly ps", description="List the sessions, newest first.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv[1:])
    with Client(Settings()) as client:
        sessions: list[dict[str, Any]] = client.json("sessions")["sessions"]
        storage: dict[str, Any] = client.json("storage")
    takes = {row["id"]: row["bytes"] for row in storage["sessions"]}
    if options.json:
        print(json.dumps([{**session, "bytes": takes.get(session["id"], 0)} for session in sessions], indent=2))
        return 0
    if not sessions:
        print("no sessions yet; start one: python -m onthefly train.py")
        return 0
    rows = [HEADINGS, *(_row(session, takes.get(session["id"], 0)) for session in sessions)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for number, row in enumerate(rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        print(_coloured(line, row[2]) if number and sys.stdout.isatty() else line)
    budget = f"of {size(storage['budget'])}" if storage["budget"] else "without limit"
    print(f"{size(storage['bytes'])} {budget} (ONTHEFLY_DATA_BUDGET) in {storage['place']}; "
          f"{size(storage['free'])} are free")  # fmt: skip
    return 0


def size(count: float) -> str:
    """Bytes, for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _row(session: dict[str, Any], takes: int) -> tuple[str, ...]:
    loss, cost = session["loss"], session["onthefly_us"]
    return (
        session["id"], session["name"][:32], session["state"], _runs(session), str(session["step"]),
        str(session["epoch"]),
        "-" if loss is None else f"{loss:.4g}", str(session["samples"]), "-" if cost is None else f"{cost:.0f} us",
        _age(time.time() - session["started"]), size(takes) + (" pinned" if session["pinned"] else ""),
    )  # fmt: skip


def _runs(session: dict[str, Any]) -> str:
    """The current one, and how many others its process holds."""
    others = sum(not one["current"] for one in session["controls"]["runs"])
    return session["run"] + (f" +{others}" if others else "")


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _coloured(line: str, state: str) -> str:
    colour = {"running": 32, "paused": 33, "pausing": 33, "crashed": 31, "lost": 31}.get(state)
    return f"\x1b[{colour}m{line}\x1b[0m" if colour else line
