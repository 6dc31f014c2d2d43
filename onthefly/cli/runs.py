"""``onthefly runs SESSION``: the runs of a session as a tree; and the wait for a fork or a merge under way."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from onthefly.errors import ExitCode
from onthefly.link.client import Client
from onthefly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_SECONDS = 0.1
SETTLING_SECONDS = 1.0
"""After the script is paused again, its last words may still be on their way."""

LASTING = ("fork", "merge", "compare")
"""Commands that take as long as the script's work for them takes."""


def main(argv: list[str]) -> int:
    """Print the tree, or JSON."""
    parser = argparse.ArgumentParser(prog="onthefly runs", description="The runs of a session, as a tree.")
    parser.add_argument("session", help="id, unique prefix, or last")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv[1:])
    path = f"sessions/{quote(options.session, safe='')}"
    with Client(Settings()) as client:
        session: dict[str, Any] = client.json(path)
        recorded: list[dict[str, Any]] = client.json(f"{path}/runs")["runs"]
    found = gathered(session, recorded)
    if options.json:
        print(json.dumps(list(found.values())))
    else:
        print("\n".join(tree(found)))
    return ExitCode.DONE


def gathered(session: dict[str, Any], recorded: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """All that is known of each run, by name, parents before those that go on from them."""
    branches = {one["run"]: one for one in session["branches"]}
    held = {one["run"]: one for one in session["controls"]["runs"]}
    steps = {one["name"]: one for one in recorded}
    parents = [name for one in branches.values() for name in (one["parents"] or [one["parent"]])]
    names = dict.fromkeys([name for name in (*parents, *steps, session["run"], *held) if name not in branches])
    found: dict[str, dict[str, Any]] = {}
    for name in [*names, *branches]:
        one = branches.get(name, {})
        mine = steps.get(name, {})
        found[name] = {
            "kind": "", **one, "run": name, "parents": one.get("parents") or [one["parent"]] if one else [],
            "current": name == session["run"], "held": name in held,
            "first_step": mine.get("first_step"), "last_step": mine.get("last_step"),
        }  # fmt: skip
    return found


def tree(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A line for each run, under the one that it goes on from; a merge under the first of its parents."""
    below: dict[str, list[str]] = {}
    for name, one in found.items():
        below.setdefault(one["parents"][0] if one["parents"] else "", []).append(name)

    def lines(parent: str, indent: str) -> Iterator[str]:
        children = below.get(parent, [])
        for place, name in enumerate(children):
            last = place == len(children) - 1
            branch, further = ("", "") if not parent else ("└─ ", "   ") if last else ("├─ ", "│  ")
            yield f"{indent}{branch}{told(found[name])}"
            yield from lines(name, indent + further)

    yield from lines("", "")


def told(one: dict[str, Any]) -> str:
    """What there is to say of a run, in a line."""
    if one["kind"] == "merge":
        said = [f"{one['strategy']} merge of {', '.join(one['parents'])} at step {one['step']}"]
    elif one["parents"]:
        said = [f"{one['kind'] or 'goes on'} from step {one['step']}"
                f"{' (' + one['checkpoint'] + ')' if one['checkpoint'] else ''}"]  # fmt: skip
    else:
        said = []
    if one["first_step"] is not None:
        said.append(f"steps {one['first_step']} to {one['last_step']}")
    if one.get("selection") or one.get("samples"):
        count = f"{one['samples']:,} samples" if one["samples"] else "on"
        said.append(f"{count}{': ' + one['selection'] if one['selection'] else ''}")
    if one.get("changes"):
        said.append(" ".join(f"{name}={value}" for name, value in one["changes"].items()))
    if one.get("budget"):
        said.append(f"for {one['budget']}")
    if one.get("trained"):
        said.append(f"{one['trained']} trained")
    if one.get("verdict"):
        said.append(one["verdict"])
    mark = " *" if one["current"] else " (held)" if one["held"] else ""
    return f"{one['run']}{mark}  {'; '.join(said)}".rstrip()


class Before(NamedTuple):
    """How a session was when a command was sent."""

    since: float
    """When its state began."""
    runs: frozenset[str]
    """That its process held."""
    tests: int
    """Evaluations that there were."""
    notices: int


def before(client: Client, session: dict[str, Any]) -> Before:
    """To see afterwards what is new."""
    held = frozenset(one["run"] for one in session["controls"]["runs"])
    return Before(session["since"], held, len(_evaluations(client, session["id"])), len(session["notices"]))


def _evaluations(client: Client, session: str) -> list[dict[str, Any]]:
    return client.json(f"sessions/{session}/evaluations")["evaluations"]


def wait_for(client: Client, session: str, answer: dict[str, Any], was: Before, args: dict[str, Any],
             seconds: float) -> None:  # fmt: skip
    """Wait for what a command does after the script's next steps, and put what came of it in the answer."""
    limit, over = time.monotonic() + seconds, 0.0
    while True:
        info = client.json(f"sessions/{session}")
        busy = info["controls"]["progress"] is not None
        done = None if busy else _compared(client, info, was, args) if "strategy" not in args and "runs" in args else (
            _made(info, was))  # fmt: skip
        if done is not None:
            answer["result"] = done
            return None
        if info["state"] not in ("running", "pausing", "paused"):
            return _refuse(answer, f"the script is {info['state']}")
        if info["state"] == "paused" and info["since"] != was.since and not busy:
            over = over or time.monotonic() + SETTLING_SECONDS
            if time.monotonic() > over:
                new = [one["text"] for one in info["notices"][was.notices :]]
                return _refuse(answer, info["reason"] or (new[-1] if new else "the script is paused, and nothing came"))
        if time.monotonic() > limit and not busy:
            return None
        time.sleep(POLL_SECONDS)


def _refuse(answer: dict[str, Any], reason: str) -> None:
    answer.update(status="refused", reason=reason, remedy="")


def _made(info: dict[str, Any], was: Before) -> dict[str, Any] | None:
    """The run that is new."""
    new = [one for one in info["controls"]["runs"] if one["run"] not in was.runs]
    if not new:
        return None
    branch = next((one for one in info["branches"] if one["run"] == new[-1]["run"]), {})
    about = {name: branch[name] for name in ("trained", "verdict") if branch.get(name)}
    return {"run": new[-1]["run"], "step": new[-1]["step"], **about}


def _compared(client: Client, info: dict[str, Any], was: Before, args: dict[str, Any]) -> dict[str, Any] | None:
    """The tests that are new, once there is one of each run."""
    new = {one["run"]: one for one in _evaluations(client, info["id"])[was.tests :] if one["count"]}
    if not set(args["runs"]) <= set(new):
        return None
    labels = {run: new[run]["label"] for run in args["runs"]}
    return {"evaluations": labels, "loader": new[args["runs"][0]]["loader"]}
