"""``onthefly ctl SESSION pause|resume|stop``: send a command, print what became of it."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import time
import uuid
from typing import Any

from onthefly.errors import ExitCode
from onthefly.link.client import Client
from onthefly.settings import Settings

POLL_SECONDS = 0.1


def main(argv: list[str]) -> int:
    """Send the command and wait for its answer."""
    parser = argparse.ArgumentParser(prog="onthefly ctl", description="Send a command to a running session.")
    parser.add_argument("session", help="id, unique prefix, or last")
    parser.add_argument("name", metavar="command", help="pause, resume or stop")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for the script (default 60)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv[1:])
    with Client(Settings()) as client:
        answer = _send(client, options.session, options.name, options.timeout)
    if options.json:
        print(json.dumps(answer))
    else:
        _say(options.name, answer)
    return ExitCode.DONE if answer["status"] == "applied" else ExitCode.REFUSED


def _send(client: Client, session: str, name: str, timeout: float) -> dict[str, Any]:
    """Send the command once, and ask until it is settled or the time is over."""
    answer = client.command(session, {"id": str(uuid.uuid4()), "name": name, "by": f"{_user()} (ctl)"})
    limit = time.monotonic() + timeout
    while answer["status"] == "accepted" and time.monotonic() < limit:
        time.sleep(POLL_SECONDS)
        answer = client.json(f"sessions/{session}/commands/{answer['n']}")
    return answer


def _say(name: str, answer: dict[str, Any]) -> None:
    if answer["status"] == "applied":
        print(f"{name}: applied after step {answer['step']}")
    elif answer["status"] == "accepted":
        sys.stderr.write(f"onthefly: {name} was sent; the script has not reached its next optimizer step yet\n")
    else:
        remedy = f"\n  {answer['remedy']}" if answer["remedy"] else ""
        sys.stderr.write(f"onthefly: {name} {answer['status']}: {answer['reason']}{remedy}\n")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return "someone"
