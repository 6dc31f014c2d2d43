"""``onthefly rm``, ``prune``, ``pin`` and ``unpin``: which sessions stay on the disk."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from onthefly.cli.ps import size
from onthefly.errors import ExitCode, OnTheFlyError, UsageError
from onthefly.link.client import Client
from onthefly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = {"": 86400, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def main(argv: list[str]) -> int:
    """Do it, to each session that was named; the code of the first that it could not be done to."""
    if argv[0] == "prune":
        return _prune(argv[1:])
    parser = argparse.ArgumentParser(prog=f"onthefly {argv[0]}", description={
        "rm": "Remove sessions that have ended: their folders, and nothing else.",
        "pin": "Keep sessions whatever the budget on disk.", "unpin": "Let the budget on disk take them again.",
    }[argv[0]])  # fmt: skip
    parser.add_argument("sessions", nargs="+", metavar="SESSION", help="id, unique prefix, or last")
    parser.add_argument("--json", action="store_true", help="print the ids as JSON")
    options = parser.parse_args(argv[1:])
    with Client(Settings(), start=True) as client:
        return _each(options.sessions, lambda name: _act(client, argv[0], name), options.json)


def _act(client: Client, what: str, name: str) -> str:
    found: str = client.json(f"sessions/{quote(name, safe='')}")["id"]
    if what == "rm":
        client.delete(f"sessions/{found}")
    else:
        client.post(f"sessions/{found}/pin", {"pinned": what == "pin"})
    return found


def _each(names: list[str], act: Callable[[str], str], as_json: bool) -> int:
    done: list[str] = []
    code = int(ExitCode.DONE)
    for name in names:
        try:
            done.append(act(name))
        except OnTheFlyError as error:
            sys.stderr.write(f"onthefly: {error}\n")
            code = code or int(error.exit_code)
    if as_json:
        print(json.dumps(done))
    else:
        for name in done:
            print(name)
    return code


def _prune(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="onthefly prune",
        description="Remove sessions that have ended; never one that runs, is pinned, or was imported.",
    )
    parser.add_argument("--keep", type=int, metavar="N", help="all but the newest N")
    parser.add_argument("--older-than", metavar="AGE", help="started before that: 30d, 12h, 2w")
    parser.add_argument("--dry-run", action="store_true", help="only say which")
    parser.add_argument("--json", action="store_true", help="print the ids as JSON")
    options = parser.parse_args(argv)
    if options.keep is None and options.older_than is None:
        raise UsageError("prune: say what may go", "--keep N, --older-than 30d, or both (then both must hold)")
    if options.keep is not None and options.keep < 0:
        raise UsageError("prune: --keep takes a number of sessions")
    before = time.time() - _seconds(options.older_than) if options.older_than else float("inf")
    with Client(Settings(), start=True) as client:
        sessions, rows = client.json("sessions")["sessions"], client.json("storage")["sessions"]
        takes: dict[str, Any] = {row["id"]: row for row in rows}
        old = sessions[options.keep or 0 :]
        chosen = [session["id"] for session in old if session["started"] < before and session["id"] in takes
                  and takes[session["id"]]["kept"] in ("", "newest")]  # fmt: skip
        if not options.json:
            total = sum(takes[name]["bytes"] for name in chosen)
            sys.stderr.write(f"onthefly: {len(chosen)} sessions, {size(total)}\n")
        act: Callable[[str], str] = (lambda name: name) if options.dry_run else lambda name: _act(client, "rm", name)
        return _each(chosen, act, options.json)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([mhdw]?)", text)
    if not match:
        raise UsageError(f"prune: {text!r} is no age", "such as 30d, 12h, 2w")
    return float(match[1]) * _UNITS[match[2]]
