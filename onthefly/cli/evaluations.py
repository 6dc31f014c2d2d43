"""``onthefly evaluations SESSION``: tests and scans, one a line; and the wait for one that takes steps first."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from onthefly.errors import ExitCode
from onthefly.link.client import Client
from onthefly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_SECONDS = 0.1


def main(argv: list[str]) -> int:
    """List them."""
    parser = argparse.ArgumentParser(prog="onthefly evaluations", description="The tests and scans of a session.")
    parser.add_argument("session", help="id, unique prefix, or last")
    parser.add_argument("label", nargs="?", help="only this one, with all that came of it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv[1:])
    with Client(Settings()) as client:
        found = client.json(f"sessions/{quote(options.session, safe='')}/evaluations")["evaluations"]
    found = [one for one in found if options.label in (None, one["label"])]
    if options.json:
        print(json.dumps(found))
    elif not found:
        print("no tests and no scans yet" if options.label is None else f"there is no {options.label}")
    for one in found if not options.json else ():
        for line in told(one, whole=options.label is not None):
            print(line)
    return ExitCode.DONE if found or options.label is None else ExitCode.FAILED


def told(one: dict[str, Any], *, whole: bool = False) -> Iterator[str]:
    """In words: a line, or all."""
    result = one["result"]
    numbers = [f"{name} {result[name]:.4g}" for name in ("loss", "accuracy", "perplexity")
               if isinstance(result.get(name), (int, float))]  # fmt: skip
    if "residuals" in result:
        numbers.append(f"rmse {result['residuals']['rmse']:.4g}")
    place = f"{one['run']} step {one['step']}"
    weights = f", weights of {one['checkpoint']}" if one["checkpoint"] else ""
    said = ", ".join([f"{one['count']} samples", *numbers])
    doubt = "" if one["verified"] else "  NOT VERIFIED"
    partial = f"  PARTIAL: {one['reason']}" if one["partial"] else ""
    yield f"{one['label']}  {place}  {one['loader']} ({one['mode']}{weights})  {said}  [{one['how']}]{doubt}{partial}"
    if whole:
        for row in result.get("per_class", ()):
            accuracy = "-" if row["accuracy"] is None else f"{row['accuracy']:.4g}"
            yield f"  class {row['class']}: {row['count']} samples, accuracy {accuracy}"
        for row in result.get("confusion", ()):
            yield "  " + " ".join(f"{number:6d}" for number in row)
        for name, value in result.get("residuals", {}).items():
            if name != "histogram":
                yield f"  residual {name}: {value:.6g}"
        for reason, rows in result.get("unread", {}).items():
            yield f"  {rows} samples without a loss of their own: {reason}"


def wait_for(client: Client, session: str, answer: dict[str, Any], seconds: float) -> None:
    """Wait until the evaluation is there that a command's answer names, and put what came of it in the answer."""
    label, limit = answer["result"]["evaluation"], time.monotonic() + seconds
    while time.monotonic() < limit:
        info = client.json(f"sessions/{session}")
        found = client.json(f"sessions/{session}/evaluations")["evaluations"]
        done = next((one for one in reversed(found) if one["label"] == label), None)
        if done is not None:
            answer["result"] = {"evaluation": label, "told": next(told(done))}
            if done["partial"] and not done["count"]:
                answer.update(status="refused", reason=done["reason"], remedy="")
            return
        if info["state"] not in ("running", "pausing", "paused"):
            answer.update(status="refused", reason=f"the script is {info['state']}", remedy="")
            return
        time.sleep(POLL_SECONDS)
