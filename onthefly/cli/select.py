"""``onthefly select SESSION TERMS``: the samples that a selection means, on the terminal or into a file; and tags.

``onthefly tags SESSION`` lists tags, and puts them on samples by index. Both speak the language of the page:
``loss=2: class=3,5 region=hard !tag=label:fine worst=100``.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from onthefly.cli.table import FORMATS, show, write
from onthefly.errors import UsageError
from onthefly.link.client import Client
from onthefly.settings import Settings

SHOWN = 20


def main(argv: list[str]) -> int:
    """One of the two commands."""
    return _tags(argv[1:]) if argv[0] == "tags" else _select(argv[1:])


def _select(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    wanted: dict[str, Any] = {"select": " ".join(options.terms), "phase": options.phase, "run": options.run}
    wanted.update({name: value for name in ("evaluation", "epoch", "limit", "clusters")
                   if (value := getattr(options, name)) is not None})  # fmt: skip
    wanted["what"] = "indices" if options.indices else "rows"
    if options.output or options.indices:
        wanted["format"] = _format(options.output) if options.output else "json"
    elif not options.json and not options.tag:
        wanted.setdefault("limit", SHOWN)
    path = f"sessions/{quote(options.session, safe='')}"
    with Client(Settings()) as client:
        found = client.post(f"{path}/selection", wanted)
        if options.tag:
            return _put(client, path, found["rows"], found["count"], options.tag)
    if options.output:
        body = base64.b64decode(found["file"])
        write(options.output, body)
        sys.stderr.write(f"onthefly: {options.output}: {found['count']:,} samples, {len(body):,} bytes\n")
    elif options.indices:
        sys.stdout.write(base64.b64decode(found["file"]).decode() + "\n")
    elif options.json:
        sys.stdout.write(json.dumps(found) + "\n")
    elif not found["rows"]:
        print(found["says"])
    else:
        show("selection", found["rows"], False)
        print(f"({len(found['rows']):,} of {found['count']:,}, the highest loss first; -o FILE for all)")
    return 0


def _put(client: Client, path: str, rows: list[dict[str, Any]], count: int, tag: str) -> int:
    if len(rows) < count:
        raise UsageError(
            f"{count:,} samples are meant: at most {len(rows):,} are tagged at once", "a narrower selection"
        )
    changed = 0
    for loader in sorted({row["loader"] or "" for row in rows}):
        mine = [row for row in rows if (row["loader"] or "") == loader]
        body = {"tag": tag, "loader": loader, "by": _by(),
                "samples": [row["sample"] for row in mine if row["sample"] is not None],
                "keys": [row["key"] for row in mine if row["sample"] is None and row["key"] is not None]}  # fmt: skip
        changed += client.post(f"{path}/tags", body)["changed"]
    print(f"{tag}: put on {changed:,} samples" + (f" ({count - changed:,} had it)" if changed < count else ""))
    return 0


def _tags(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="onthefly tags", description="Tags of a session's samples.")
    parser.add_argument("session", help="id, unique prefix, or last")
    parser.add_argument("tag", nargs="?", default="", help="only this one; with samples, put it on them")
    parser.add_argument("samples", nargs="*", type=int, metavar="SAMPLE", help="indices in the data set")
    parser.add_argument("--off", action="store_true", help="take it off these samples")
    parser.add_argument("--loader", default="", help="of whose data set; the one that is trained on if none is named")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    path = f"sessions/{quote(options.session, safe='')}/tags"
    with Client(Settings()) as client:
        if options.samples:
            body = {"tag": options.tag, "samples": options.samples, "loader": options.loader, "by": _by()}
            found = client.post(path, body, method="DELETE" if options.off else "POST")
        else:
            found = client.json(path, {"tag": options.tag} if options.tag else {})
    if options.json:
        print(json.dumps(found))
    elif options.samples:
        print(f"{options.tag}: {'taken off' if options.off else 'put on'} {found['changed']:,} samples")
    elif options.tag:
        for one in found["tags"]:
            print(one["key"] if one["sample"] is None else one["sample"])
    else:
        print("\n".join(f"{count:>8,}  {tag}" for tag, count in found["counts"].items()) or "no sample has a tag")
    return 0


def _format(output: str) -> str:
    form = FORMATS.get(Path(output).suffix.lower(), "")
    if not form:
        raise UsageError(f"{output}: the name must end in one of {', '.join(FORMATS)}")
    return form


def _by() -> str:
    try:
        return f"{os.getlogin()} (cli)"
    except OSError:  # no terminal
        return "cli"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onthefly select", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Samples by terms that must all hold; ! in front turns one around:\n  loss=2:  quantile=0.99:  "
        "worst=50  class=3,5  predicted=3  region=easy|ambiguous|hard|suspect\n  cluster=0  tag=label:wrong  "
        "sample=7,10:19  key=a7",
    )  # fmt: skip
    parser.add_argument("session", help="id, unique prefix, or last")
    parser.add_argument("terms", nargs="*", metavar="TERM", help="none: all samples")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a .parquet, .csv, .json or .feather file")
    parser.add_argument("--indices", action="store_true", help="only their indices: as JSON a list for torch's Subset")
    parser.add_argument("--tag", default="", help="put this tag on all of them")
    parser.add_argument("--phase", default="train", help="train (default), valid, test or scan")
    parser.add_argument("--evaluation", help="losses of this test or scan")
    parser.add_argument("--epoch", type=int, help="losses of that epoch; else each sample's newest")
    parser.add_argument("--run", default="", help="this run; the newest if none is named")
    parser.add_argument("--clusters", type=int, help="how many the map is divided into (8)")
    parser.add_argument("--limit", type=int, help="at most so many rows")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
