"""``onthefly ctl SESSION health``: what the checks have found, waited for and told in words."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from onthefly.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onthefly.link.client import Client

POLL_SECONDS = 0.2
MAX_ROWS = 5
"""Of a result, that are printed; ``--json`` has all."""

MARKS = {"good": "ok", "warning": "!", "bad": "!!", "unknown": "?"}


def known(client: Client, session: str) -> int:
    """How many results there are."""
    return len(client.json(f"sessions/{session}/health")["results"])


def follow(client: Client, session: dict[str, Any], answer: dict[str, Any], before: int, *,
           printing: bool, timeout: float) -> int:  # fmt: skip
    """Wait for what the command was to look at, those after the next step as well, and print it."""
    wanted = set(answer["result"]["checks"])
    limit = time.monotonic() + timeout
    while True:
        results = client.json(f"sessions/{session['id']}/health")["results"][before:]
        missing = wanted - {result["check"] for result in results}
        if not missing and not _waits_for_ranks(results, session["world_size"]):
            break
        if time.monotonic() > limit:
            if missing:
                sys.stderr.write(f"onthefly: health: the script has not come to an end of its step yet; "
                                 f"{', '.join(sorted(missing))} will follow\n")  # fmt: skip
            break
        time.sleep(POLL_SECONDS)
    if printing:
        print(json.dumps(results))
    else:
        for result in results:
            print("\n".join(told(result)))
    return ExitCode.DONE


def _waits_for_ranks(results: list[dict[str, Any]], ranks: int) -> bool:
    """Whether what ranks are compared by is not there of all of them."""
    return ranks > 1 and any(
        result["check"] == "distribution" and result["numbers"].get("ranks") != ranks for result in results
    )


def told(result: dict[str, Any]) -> Iterator[str]:
    """One result, in lines."""
    rank = f" (rank {result['rank']})" if result["rank"] else ""
    yield f"{MARKS[result['verdict']]:2} {result['check']}{rank}: {result['says']}"
    if result["do"]:
        yield f"     {result['do']}"
    for row in result["rows"][:MAX_ROWS] if result["verdict"] in ("warning", "bad") else ():
        yield "     " + " ".join(f"{name}={_value(value)}" for name, value in row.items() if value is not None)
    if len(result["rows"]) > MAX_ROWS and result["verdict"] in ("warning", "bad"):
        yield f"     ... and {len(result['rows']) - MAX_ROWS} more (--json)"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
