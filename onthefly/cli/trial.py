"""A trial run of a script, for ``onthefly doctor --script``: a few steps, and in plain words what was captured of them.

It runs in folders of its own, under a hub of its own, and leaves none of them behind. What the script itself writes
(checkpoints, logs) it writes for real.
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

from onthefly.errors import ExitCode, OnTheFlyError, UsageError
from onthefly.link.client import Client
from onthefly.link.discovery import alive, read_hub
from onthefly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST_LINES = 12
"""Of the script's output, shown when it failed."""


def run(command: list[str], steps: int, timeout: float, *, as_json: bool) -> int:
    """Run the script and print the report; 0 if everything was captured, 1 if something was not."""
    if not command:
        raise UsageError("--script needs a script", "for instance: onthefly doctor --script train.py --epochs 1")
    with tempfile.TemporaryDirectory(prefix="onthefly-doctor-") as folder:
        environment = {
            **os.environ, "ONTHEFLY_RUNTIME_DIR": f"{folder}/runtime", "ONTHEFLY_DATA_DIR": f"{folder}/data",
            "ONTHEFLY_PORT": "0", "ONTHEFLY_STEPS": str(steps), "ONTHEFLY_IDLE_SECONDS": "60", "ONTHEFLY_QUIET": "1",
        }  # fmt: skip
        settings = Settings(environment)
        try:
            report = _trial(command, timeout, environment, settings)
        finally:
            _end_hub(settings)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(_words(command, report)))
    captured = report["backwards"] and report["captured"] == report["backwards"]
    return ExitCode.DONE if captured else ExitCode.FAILED


def _trial(command: list[str], timeout: float, environment: dict[str, str], settings: Settings) -> dict[str, Any]:
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "onthefly", *command], env=environment,
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)  # fmt: skip
        in_time = _wait(process, timeout)
        seconds = time.monotonic() - start
        output.seek(0)
        last = output.read()[-20_000:].decode(errors="replace").splitlines()[-LAST_LINES:]
    report: dict[str, Any] = {"code": process.returncode, "in_time": in_time, "seconds": seconds, "output": last,
                              "backwards": 0, "captured": 0}  # fmt: skip
    try:
        with Client(settings) as client:
            return {**report, **_records(client)}
    except OnTheFlyError:  # it never imported torch
        return report


def _wait(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Wait for the end; after ``timeout`` seconds interrupt it as Ctrl-C would, then kill it."""
    for patience, number in ((timeout, signal.SIGINT), (10.0, signal.SIGKILL)):
        try:
            process.wait(patience)
            return number == signal.SIGINT
        except subprocess.TimeoutExpired:
            process.send_signal(number)
    process.wait()
    return False


def _records(client: Client) -> dict[str, Any]:
    """What the trial's hub knows."""
    session = client.json("sessions/last")
    calls = client.json("sessions/last/backwards")
    samples = client.json("sessions/last/samples")
    return {
        "steps": session["step"],
        "processes": sum(rank["trains"] for rank in session["ranks"]),
        "backwards": len(calls),
        "captured": sum(call["certificate"] != "none" for call in calls),
        "certificates": Counter(call["certificate"] for call in calls),
        "reasons": Counter(call["reason"] for call in calls if call["reason"]),
        "samples": len(samples),
        "identities": Counter(sample["identity"] for sample in samples),
        "loaders": sorted({sample["loader"] for sample in samples if sample["loader"]}),
        "metrics": session["metrics"],
        "onthefly_us": _median(client, "onthefly_us"),
        "step_ms": _median(client, "step_ms"),
        "notices": [(notice["text"], notice["remedy"]) for notice in session["notices"]],
    }


def _median(client: Client, name: str) -> float | None:
    """Of a per-step metric: the first steps of a run warm everything up, ours and the script's."""
    rows = client.json("sessions/last/metrics", {"name": name})
    return statistics.median(row["value"] for row in rows) if rows else None


def _words(command: list[str], report: dict[str, Any]) -> Iterator[str]:
    name = " ".join(command)
    if not report["backwards"]:
        yield f"{name}: no backward call was seen in {report['seconds']:.0f} s (exit code {report['code']})"
        yield "  losses are read where torch's backward is called: the script did not come so far, or trains without it"
        yield from (f"  | {line}" for line in report["output"])
        return
    yield f"{name}: {report['steps']} optimizer steps, {report['backwards']} backward calls, {report['seconds']:.1f} s"
    if not report["in_time"]:
        yield "  it was ended by the time limit (--timeout)"
    elif report["code"]:
        yield f"  it ended with exit code {report['code']}:"
        yield from (f"  | {line}" for line in report["output"])
    yield from _losses(report)
    for text, remedy in report["notices"]:
        yield f"  told     {text}{f' ({remedy})' if remedy else ''}"
    cost, step = report["onthefly_us"], report["step_ms"]
    if cost and step:
        yield f"  cost     {cost:.0f} us or more in a step of {step:.2f} ms ({cost / 10 / step:.1f} %)"
    yield f"  metrics  {', '.join(['loss', *report['metrics']])}"
    if report["processes"] > 1:
        yield f"  ranks    {report['processes']} processes train"


def _losses(report: dict[str, Any]) -> Iterator[str]:
    """Values, indices, and what is missing."""
    kinds: dict[str, int] = report["certificates"]
    said = {
        "exact": "exactly: they give your loss again, bit for bit",
        "approximate": "approximately: they do not give your loss again exactly (the difference is recorded)",
    }
    for kind, words in said.items():
        if kinds.get(kind):
            yield f"  losses   {kinds[kind]} of {report['backwards']} backward calls are read for each sample, {words}"
    for reason, number in report["reasons"].items():
        yield f"  lost     {number} of {report['backwards']} have no per-sample losses: {reason}"
    known = report["identities"].get("index", 0)
    if report["samples"]:
        if known == report["samples"]:
            yield f"  index    all {known} samples have their index in the dataset ({', '.join(report['loaders'])})"
        else:
            yield f"  index    {known} of {report['samples']} samples have their index in the dataset"


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
