"""``onthefly ctl SESSION COMMAND ...``: send a command, print what became of it; ``status``: what is under control.

What each command takes is read from :data:`onthefly.protocol.COMMANDS`, its help included; only how it is written on a
command line stands in :mod:`onthefly.cli.words`.
"""

from __future__ import annotations

import argparse
import getpass
import json
import re
import sys
import time
import uuid
from typing import Any
from urllib.parse import quote

from onthefly.cli import compared, evaluations, health, runs, status, words
from onthefly.errors import ExitCode
from onthefly.link.client import Client
from onthefly.protocol import COMMANDS
from onthefly.settings import Settings

POLL_SECONDS = 0.1


def main(argv: list[str]) -> int:
    """Send the command and wait for its answer."""
    options = _parser().parse_args(argv[1:])
    with Client(Settings()) as client:
        if options.command == "status":
            session = client.json(f"sessions/{quote(options.session, safe='')}")
            print(json.dumps(session["controls"]) if options.json else status.told(session))
            return ExitCode.DONE
        requests = words.requests(options.command, options)
        found = client.json(f"sessions/{quote(options.session, safe='')}")
        session = found["id"]
        before = health.known(client, session) if options.command == "health" else 0
        was = runs.before(client, found) if options.command in runs.LASTING else None
        answer: dict[str, Any] = {}
        for args in requests:
            answer = _send(client, session, {"name": options.command, "args": args, "by": options.by}, options.timeout)
            if answer["status"] != "applied":
                break
        if options.command == "health" and answer["status"] == "applied" and "checks" in answer["result"]:
            return health.follow(client, found, answer, before, printing=options.json, timeout=options.timeout)
        waits = answer.get("result", {}).get("waits")
        if waits and was is not None:
            runs.wait_for(client, session, answer, was, requests[0], options.timeout)
        elif waits:
            evaluations.wait_for(client, session, answer, options.timeout)
        if options.command == "compare" and answer["status"] == "applied" and "evaluations" in answer["result"]:
            loader = answer["result"].get("loader", "")
            compared.show(client, session, options.runs, loader, options.select, printing=options.json)
            return ExitCode.DONE
    if options.json:
        print(json.dumps(answer))
    else:
        _say(options.command, answer)
    return ExitCode.DONE if answer["status"] == "applied" else ExitCode.REFUSED


def _parser() -> words.Parser:
    """All commands; options that all take may stand before and after a command's name."""
    parser = words.Parser(prog="onthefly ctl", description="Send a command to a running session.",
                     parents=[_shared(60.0, f"{_user()} (ctl)", False)])  # fmt: skip
    parser.add_argument("session", help="id, unique prefix, or last")
    kinds = parser.add_subparsers(dest="command", metavar="command", required=True, parser_class=words.Parser)
    after = _shared(*[argparse.SUPPRESS] * 3)
    kinds.add_parser("status", parents=[after], help="What is under control: state, checkpoints, watchdogs.")
    for name, kind in COMMANDS.items():
        text = re.sub(r":class:`(\w+)`|``", lambda found: (found[1] or "").lower(), kind.__doc__ or "")
        command = kinds.add_parser(name, parents=[after], help=text, description=text)
        words.add_to(command, name)
    return parser


def _shared(timeout: Any, by: str, printing: Any) -> words.Parser:
    shared = words.Parser(add_help=False)
    shared.add_argument("--json", action="store_true", default=printing, help="print JSON")
    shared.add_argument("--timeout", type=float, default=timeout, help="seconds to wait for the script (60)")
    shared.add_argument("--by", default=by, help="who asks, as the journal has it (you)")
    return shared


def _send(client: Client, session: str, body: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Send the command once, and ask until it is settled or the time is over."""
    answer = client.command(session, {"id": str(uuid.uuid4()), **body})
    limit = time.monotonic() + timeout
    while answer["status"] == "accepted" and (time.monotonic() < limit or _works(client, session, body["name"])):
        time.sleep(POLL_SECONDS)
        answer = client.json(f"sessions/{session}/commands/{answer['n']}")
    return answer


def _works(client: Client, session: str, name: str) -> bool:
    """It takes long, and the script is at it."""
    return name in runs.LASTING and client.json(f"sessions/{session}")["controls"]["progress"] is not None


def _say(name: str, answer: dict[str, Any]) -> None:
    if answer["status"] == "applied":
        print(f"{name}: applied after step {answer['step']}")
        for line in words.result(answer["result"]):
            print(f"  {line}")
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
