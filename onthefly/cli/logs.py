"""``onthefly logs SESSION``: what the script wrote, as it wrote it, and with ``--follow`` what it goes on to write."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from onthefly.link.client import Client
from onthefly.protocol import LIVE_STATES
from onthefly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 1000
POLL_SECONDS = 0.3


def main(argv: list[str]) -> int:
    """Print entries to the stream that they came from; 0 also when interrupted while following."""
    parser = argparse.ArgumentParser(prog="onthefly logs", description="What the script of a session wrote.")
    parser.add_argument("session", help="id, unique prefix, or last")
    parser.add_argument("-f", "--follow", action="store_true", help="go on while the script runs")
    parser.add_argument("--search", default="", metavar="TEXT", help="only lines with this text (letter case ignored)")
    parser.add_argument("--rank", type=int, help="only this rank")
    parser.add_argument("--json", action="store_true", help="print entries as JSON, one a line")
    options = parser.parse_args(argv[1:])
    with Client(Settings()) as client:
        session: str = client.json(f"sessions/{quote(options.session, safe='')}")["id"]
        try:
            for entry in _entries(client, session, options.search, options.follow):
                if options.rank in (None, entry["rank"]):
                    _print(entry, options)
        except KeyboardInterrupt:
            return 0
    return 0


def _entries(client: Client, session: str, search: str, follow: bool) -> Iterator[dict[str, Any]]:
    """All entries from the first, page by page; with ``follow`` until the script has ended and all is there."""
    after, last_round = "0", not follow
    while True:
        page = client.json(f"sessions/{session}/logs", {"after": after, "limit": PAGE, "search": search})
        yield from page["entries"]
        after = page["cursor"]
        if len(page["entries"]) == PAGE:
            continue
        if last_round:
            return
        if client.json(f"sessions/{session}")["state"] not in LIVE_STATES:
            last_round = True
        else:
            time.sleep(POLL_SECONDS)


def _print(entry: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(entry), flush=True)
        return
    stream, text = getattr(sys, entry["stream"]), entry["text"]
    if options.search:
        lines = [line for line in text.splitlines() if options.search.lower() in line.lower()]
        text = "".join(f"{line}\n" for line in lines)
    stream.write(text)
    stream.flush()
