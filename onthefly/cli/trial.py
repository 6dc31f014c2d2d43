"""A trial run of a script, for ``onthefly doctor --script``: a few steps, and what was captured of them.

It runs in folders of its own, under a hub of its own, and leaves none of them behind. What the script itself writes
(checkpoints, logs) it writes for real. ``captured`` says it in words.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from onthefly.cli import captured
from onthefly.errors import ExitCode, OnTheFlyError, UsageError
from onthefly.link.client import Client
from onthefly.link.discovery import alive, read_hub
from onthefly.protocol import PHASES
from onthefly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

LAST_LINES = 12
"""Of the script's output, shown when it failed."""

CALLS_A_STEP = 10
"""A script that takes no optimizer step is ended after so many backward calls for each step that was asked for."""

LOOK_EVERY = 0.5
"""Seconds between two looks at what has arrived."""

NO_INDEX = "samples have no index: "
"""How the notices begin that say so."""


def run(command: list[str], steps: int, timeout: float, *, as_json: bool) -> int:
    """Run the script and print the report; 0 if it did not fail and every loss was captured, else 1."""
    if not command:
        raise UsageError("--script needs a script", "for instance: onthefly doctor --script train.py --epochs 1")
    with tempfile.TemporaryDirectory(prefix="onthefly-doctor-") as folder:
        environment = {
            **os.environ, "ONTHEFLY_RUNTIME_DIR": f"{folder}/runtime", "ONTHEFLY_DATA_DIR": f"{folder}/data",
            "ONTHEFLY_PORT": "0", "ONTHEFLY_STEPS": str(steps), "ONTHEFLY_IDLE_SECONDS": "60", "ONTHEFLY_QUIET": "1",
        }  # fmt: skip
        settings = Settings(environment)
        try:
            report = _trial(command, steps, timeout, environment, settings)
        finally:
            _end_hub(settings)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(captured.words(" ".join(command), report)))
    good = report["backwards"] and report["captured"] == report["backwards"] and report["ended"] != "failed"
    return ExitCode.DONE if good else ExitCode.FAILED


def _trial(
    command: list[str], steps: int, timeout: float, environment: dict[str, str], settings: Settings
) -> dict[str, Any]:
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        # A session of its own: children that it starts can be ended with it, where it has to be killed.
        process = subprocess.Popen(
            [sys.executable, "-m", "onthefly", *command], env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        ended = _wait(process, timeout, lambda: _calls_without_steps(settings) >= CALLS_A_STEP * steps)
        seconds = time.monotonic() - start
        output.seek(0)
        last = output.read()[-20_000:].decode(errors="replace").splitlines()[-LAST_LINES:]
    report: dict[str, Any] = {
        "ended": ended or ("failed" if process.returncode else "itself"), "code": process.returncode,
        "seconds": seconds, "output": last, "torch": False, "steps": 0, "backwards": 0, "captured": 0, "parts": [],
    }  # fmt: skip
    try:
        with Client(settings) as client:
            report.update(_records(client))
    except OnTheFlyError:  # it never imported torch
        return report
    if report["ended"] == "itself" and report["steps"] >= steps:
        report["ended"] = "steps"
    return report


def _wait(process: subprocess.Popen[bytes], timeout: float, enough: Callable[[], bool]) -> str:
    """Wait for its end; interrupt it as Ctrl-C would when there is ``enough``, or after ``timeout`` seconds; then kill.

    Why we ended it: ``calls`` or ``time``; empty if it ended by itself.
    """
    limit, why = time.monotonic() + timeout, ""
    try:
        while not why:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_EVERY)
                return ""
            why = "time" if time.monotonic() > limit else "calls" if enough() else ""
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10.0)
        return why
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _steps(session: dict[str, Any]) -> int:
    """Optimizer steps; where no optimizer steps, a session counts backward calls in their place."""
    return session["step"] if "step_ms" in session["metrics"] else 0


def _calls_without_steps(settings: Settings) -> int:
    """Backward calls so far of a script that has taken no optimizer step; 0 of any other."""
    if read_hub(settings) is None:
        return 0
    try:
        with Client(settings) as client:
            session = client.json("sessions/last")
    except OnTheFlyError:  # none yet
        return 0
    return 0 if _steps(session) else session["backwards"]


def _records(client: Client) -> dict[str, Any]:
    """What the trial's hub knows."""
    session = client.json("sessions/last")
    notices = [(notice["text"], notice["remedy"]) for notice in session["notices"]]
    unnamed = [text[len(NO_INDEX) :] for text, _ in notices if text.startswith(NO_INDEX)]
    parts = [part for phase in PHASES for part in _parts(client, phase, unnamed)]
    training = [part for part in parts if part["phase"] == "train"]
    return {
        "torch": True,
        "steps": _steps(session),
        "processes": [rank["name"] for rank in session["ranks"] if rank["trains"]],
        "backwards": sum(part["calls"] for part in training),
        "captured": sum(part["calls"] - part["certificates"].get("none", 0) for part in training),
        "parts": parts,
        "accuracy": "accuracy" in session["metrics"],
        "metrics": session["metrics"],
        "onthefly_us": _median(client, "onthefly_us"),
        "step_ms": _median(client, "step_ms"),
        "notices": notices,
    }


def _parts(client: Client, phase: str, unnamed: list[str]) -> list[dict[str, Any]]:
    """What was captured in that phase, by loader."""
    calls: dict[str, list[Any]] = {}
    samples: dict[str, list[Any]] = {}
    for table, rows in (("backwards", calls), ("samples", samples)):
        for row in client.json(f"sessions/last/{table}", {"phase": phase}):
            rows.setdefault(row["loader"] or "", []).append(row)
    return [_part(phase, loader, calls[loader], samples.get(loader, []), unnamed) for loader in sorted(calls)]


def _part(phase: str, loader: str, calls: list[Any], samples: list[Any], unnamed: list[str]) -> dict[str, Any]:
    """What was captured of one loader in one phase.

    ``unnamed``: why samples have no index, somewhere in the script: it is not recorded of which.
    """
    identities = Counter(sample["identity"] for sample in samples)
    return {
        "phase": phase,
        "loader": loader,
        "calls": len(calls),
        "certificates": Counter(call["certificate"] for call in calls),
        "reasons": Counter(call["reason"] for call in calls if call["reason"]),
        "error": max((_share(call) for call in calls if call["certificate"] == "approximate"), default=0.0),
        "samples": len(samples),
        "identities": identities,
        "unnamed": unnamed if identities.get("none") else [],
        "components": sorted({name for sample in samples[:1] for name in sample if name.startswith("loss.")}),
        "elements": [min(valid), max(valid)] if (valid := [sample["valid"] for sample in samples]) else [],
    }


def _share(call: Any) -> float:
    """The difference between the total of the samples and the loss, as a share of it."""
    error, loss = float(call["error"]), float(call["loss"])
    return abs(error / loss) if loss else abs(error)


def _median(client: Client, name: str) -> float | None:
    """Of a per-step metric: the first steps of a run warm everything up, ours and the script's."""
    rows = client.json("sessions/last/metrics", {"name": name})
    return statistics.median(row["value"] for row in rows) if rows else None


def _end_hub(settings: Settings) -> None:
    """The trial's own hub is not needed any more."""
    hub = read_hub(settings)
    if hub is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(hub.pid, signal.SIGTERM)
    limit = time.monotonic() + 10
    while alive(hub.pid) and time.monotonic() < limit:
        time.sleep(0.02)
