"""``onthefly samples``, ``metrics``, ``dynamics``, ``suspects``: a session's records, on the terminal or in a file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from onthefly.errors import Refused, UsageError
from onthefly.link.client import Client
from onthefly.settings import Settings

FORMATS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".feather": "arrow", ".arrow": "arrow"}
SHOWN = 20
COLUMNS = {
    "samples": ("step", "epoch", "backward", "position", "sample", "loss", "certificate", "identity"),
    "metrics": ("step", "epoch", "name", "value"),
    "suspects": ("place", "sample", "key", "given_label", "predicted_label", "verdict", "evidence"),
    "selection": ("sample", "key", "loss", "epoch", "target", "predicted", "confidence", "margin", "tags"),
    "dynamics": (
        "sample",
        "key",
        "count",
        "loss_mean",
        "loss_last",
        "forgetting",
        "learned",
        "confidence",
        "variability",
        "margin",
    ),
}


def main(argv: list[str]) -> int:
    """Print or write the rows."""
    table = argv[0]
    options = _parser(table).parse_args(argv[1:])
    filters = ("phase", "epoch", "run", "rank", "limit", "name", "order", "evaluation")
    query = {name: getattr(options, name) for name in filters if getattr(options, name, None) is not None}
    if getattr(options, "worst", False):
        query["order"] = "worst"
    form = "json"
    if options.output:
        form = FORMATS.get(Path(options.output).suffix.lower(), "")
        if not form:
            raise UsageError(f"{options.output}: the name must end in one of {', '.join(FORMATS)}")
    elif not options.json:
        query.setdefault("limit", SHOWN)
    with Client(Settings()) as client:
        body = client.get(f"sessions/{quote(options.session, safe='')}/{table}", {**query, "format": form})
    if options.output:
        write(options.output, body)
        sys.stderr.write(f"onthefly: {options.output}: {len(body):,} bytes\n")
    elif options.json:
        sys.stdout.write(body.decode() + "\n")
    else:
        show(table, json.loads(body), "limit" in query and len(json.loads(body)) == query["limit"])
    return 0


def _parser(table: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"onthefly {table}", description=f"The table `{table}` of a session.")
    parser.add_argument("session", help="id, unique prefix, or last")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a .parquet, .csv, .json or .feather file")
    parser.add_argument("--json", action="store_true", help="print all rows as JSON")
    parser.add_argument("--limit", type=int, help="at most so many rows")
    if table in ("dynamics", "suspects"):
        parser.add_argument("--run", help="this run; the newest if none is named")
    if table == "dynamics":
        parser.add_argument("--order", help="worst first by: loss_mean (default), loss_variance, loss_last, loss_max, "
                            "forgetting, confidence, variability, margin")  # fmt: skip
    elif table != "suspects":
        parser.add_argument("--run", help="only this run")
        parser.add_argument("--epoch", metavar="A:B", help="epochs A to B, or one")
        parser.add_argument("--rank", type=int, help="only this rank")
    if table == "samples":
        parser.add_argument("--worst", action="store_true", help="highest losses first")
        parser.add_argument("--evaluation", metavar="LABEL", help="of this test or scan: test_1, scan_1, ...")
    if table == "metrics":
        parser.add_argument("--name", help="only this metric")
    elif table != "suspects":
        parser.add_argument("--phase", help="train (default), valid, test or scan")
    return parser


def write(output: str, body: bytes) -> None:
    """Into that file; what keeps it from being written is said."""
    try:
        Path(output).write_bytes(body)
    except OSError as error:
        raise Refused(f"{output} cannot be written: {error.strerror or error}") from error


def show(table: str, rows: list[dict[str, Any]], cut: bool) -> None:
    """A table for a person; ``cut``: there may be more rows."""
    if not rows:
        print(f"no {table} yet")
        return
    cells = [COLUMNS[table], *(tuple(_cell(row[name]) for name in COLUMNS[table]) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for row in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths)))
    if cut:
        print(f"({len(rows)} rows; --limit N for more, --json or -o FILE for all)")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
