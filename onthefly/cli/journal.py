"""``onthefly journal SESSION``: what was changed in a session, in the order in which it was done."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from onthefly.link.client import Client
from onthefly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


def main(argv: list[str]) -> int:
    """Print the entries, or write them to a file as JSON, one a line."""
    parser = argparse.ArgumentParser(prog="onthefly journal", description="What was changed in a session: the journal.")
    parser.add_argument("session", help="id, unique prefix, or last")
    parser.add_argument("-o", "--output", metavar="FILE", help="write JSON to a file, one entry a line")
    parser.add_argument("--rank", type=int, help="only this rank (all ranks of a job make the same changes)")
    parser.add_argument("--json", action="store_true", help="print entries as JSON, one a line")
    options = parser.parse_args(argv[1:])
    query = {} if options.rank is None else {"rank": options.rank}
    with Client(Settings()) as client:
        entries = client.json(f"sessions/{quote(options.session, safe='')}/journal", query)["entries"]
    if options.output:
        Path(options.output).write_text("".join(_lines(entries)), encoding="utf-8")
        sys.stderr.write(f"onthefly: {options.output}: {len(entries)} entries\n")
    elif options.json:
        sys.stdout.writelines(_lines(entries))
    elif entries:
        for entry in entries:
            print(_told(entry))
    else:
        print("nothing was changed")
    return 0


def _lines(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Keys in one order: the same journal is the same file."""
    return (json.dumps(entry, sort_keys=True) + "\n" for entry in entries)


def _told(entry: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["time"]))
    rank = f" rank {entry['rank']}" if entry.get("rank") else ""
    change = f"{_values(entry['before'])} -> {_values(entry['after'])}" if entry["after"] else ""
    given = _values(entry["args"])
    return "  ".join(part for part in (when, f"step {entry['step']}{rank}", entry["name"], given, change, entry["by"])
                     if part)  # fmt: skip


def _values(values: dict[str, Any], width: int = 100) -> str:
    text = " ".join(f"{name}={json.dumps(value)}" for name, value in values.items())
    return text if len(text) <= width else f"{text[: width - 3]}..."
