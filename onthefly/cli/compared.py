"""``onthefly ctl SESSION compare``: the runs side by side, as a table, with the verdict below it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onthefly.link.client import Client


def show(client: Client, session: str, runs: list[str], loader: str, select: str, *, printing: bool) -> None:
    """Fetch what the hub makes of the tests, and print it."""
    query = {"runs": ",".join(runs), "loader": loader, "select": select}
    found = client.json(f"sessions/{session}/comparison", query)
    print(json.dumps(found) if printing else "\n".join(lines(found)))


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The table: a row for each part, columns for each run."""
    names = [one["run"] for one in found["runs"]]
    classes = any(one["accuracy"] is not None for part in found["parts"] for one in part["runs"])
    yield f"on {found['loader']}: " + ", ".join(
        f"{one['run']} at step {one['step']} ({one['evaluation']})" for one in found["runs"]
    )
    if found["select"]:
        yield f"slice: {found['select']}"
    headings = ["PART", "SAMPLES"]
    for place, name in enumerate(names):
        headings += [f"{name} LOSS", *(["ACCURACY"] if classes else []),
                     *([f"AGAINST {names[0]} (95 %)", "WINS/LOSSES"] if place else [])]  # fmt: skip
    rows = [headings, *(_row(part, classes) for part in found["parts"])]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    yield found["verdict"]


def _row(part: dict[str, Any], classes: bool) -> list[str]:
    row = [part["name"], f"{part['count']:,}"]
    for place, one in enumerate(part["runs"]):
        row.append(_number(one["loss"]))
        if classes:
            row.append("-" if one["accuracy"] is None else f"{one['accuracy']:.2%}")
        if place:
            ends = "" if one["low"] is None else f" ({one['low']:+.4g} to {one['high']:+.4g})"
            row += ["-" if one["difference"] is None else f"{one['difference']:+.4g}{ends}",
                    f"{one['wins']:,}/{one['losses']:,}"]  # fmt: skip
    return row


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
