"""``make faults``: the suites on faults with their full counts; what they found goes into ``docs/reliability.md``.

The page is made from two files that the tests leave: pytest's own report, and the figures that they note
(``tests/reporting.py``). ``faults.py --page REPORT JUNIT`` only writes the page.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"


SUITES = (
    "tests/hub",
    "tests/faults",
    "tests/parity",
    "tests/purity",
    "tests/ranks",
    "tests/e2e",
    "tests/notebook",
    "tests/vscode",
    "tests/lightning",
    "tests/actions",
    "tests/bundle",
    "tests/state",
    "tests/frameworks",
    "tests/ways",
    "tests/resume",
    "tests/identity",
    "tests/insight",
    "tests/health",
    "tests/runs",
    "tests/test_launch.py",
    "tests/test_sessions.py",
)
"""Those of the rows below; the others have one size, and ``make test`` runs them."""


DOCUMENTED = """
## What nobody here wrote

`tests/purity/test_documented.py` performs the examples of torch's own docstrings, some thousand, and the
snippets in `tests/purity/snippets/` in one plain and one watched process, and compares all that is to be seen:
output, warnings with their lines, errors with their tracebacks, every value that is left (tensors byte by
byte), the random state. A sample runs on every change, drawn by `ONTHEFLY_SEED`, all of them in the full tier.
A snippet that must differ begins with `# differs:` and the reason, one that should not with `# open:`; examples
that are left out stand in `tests/purity/documented.py` with theirs.
""".splitlines()


class Row(NamedTuple):
    """A row of the contract: what may go wrong, what must happen, and the tests that see to it."""

    number: int
    fault: str
    behaviour: str
    tests: tuple[str, ...]


ROWS = [
    Row(1, "a page of another site opens our WebSocket", "403 before the upgrade", ("hub/test_doors",)),
    Row(2, "a form or script of another site posts", "4xx, nothing is done", ("hub/test_doors",)),
    Row(3, "a foreign name points at this machine (rebinding)", "421", ("hub/test_doors",)),
    Row(4, "no token, a wrong one, one of an earlier hub", "401 on every route but the empty page",
        ("hub/test_doors",)),
    Row(5, "the token leaks", "it is in no argv, environment, log, record or notebook",
        ("faults/test_bad_input", "notebook/", "hub/test_passes")),
    Row(6, "another user of the machine; a wider address", "refused without `--i-know`; folders are closed",
        ("hub/test_hosts",)),
    Row(7, "the page in an editor; an editor's proxy", "no token in the page, nothing in or out; the name is told",
        ("vscode/", "hub/test_origins")),
    Row(8, "markup in names, logs, reasons", "shown as text, no request leaves", ("e2e/test_hostile_texts",)),
    Row(8, "a page of another site frames ours", "the page stands in no frame, but once in that of a notebook",
        ("hub/test_passes", "notebook/test_frame")),
    Row(9, "paths in ids, names and routes", "nothing outside the data folder is read or changed",
        ("hub/test_paths",)),
    Row(10, "pickle in a bundle or a checkpoint", "nothing is unpickled; pickled parts are named, and want `--trust`",
        ("faults/test_hostile_bundles", "faults/test_bundle_fuzz")),
    Row(11, "paths, links, duplicates in a bundle", "refused, nothing outside is written",
        ("faults/test_hostile_bundles",)),
    Row(12, "bombs of any kind in a bundle", "refused before anything is allocated", ("faults/test_hostile_bundles",)),
    Row(13, "a truncated, damaged, mixed bundle", "refused; the live model is as it was",
        ("bundle/test_archive", "faults/test_hostile_bundles", "state/test_form", "bundle/test_folder")),
    Row(14, "the port is taken or squatted; workers outlive a killed script",
        "the next port; no token for a stranger; free at once",
        ("faults/test_bad_input", "faults/test_hub_fails", "ranks/test_processes")),
    Row(15, "malformed messages", "one error answer or a clean end, no traceback, no hang", ("hub/test_fuzz",)),
    Row(16, "floods of connections, frames, commands", "refused with a reason; memory bounded",
        ("hub/test_clients", "hub/test_connections", "hub/test_commands_wait")),
    Row(17, "a page that does not read", "cut off within 12 s; the others do not wait", ("hub/test_clients",)),
    Row(18, "the page vanishes while the script is paused", "the pause belongs to the run; who comes back sees all",
        ("hub/test_clients_vanish", "hub/test_commands_model")),
    Row(19, "commands twice, late, at once", "one order, one answer each", ("hub/test_commands_model",)),
    Row(20, "`kill -9` of the script, or of script and hub", "what was acknowledged is there, once",
        ("faults/test_kills",)),
    Row(21, "`kill -9` while a checkpoint or a bundle is written", "whole or not there; the newest acknowledged is",
        ("faults/test_checkpoint_kills", "faults/test_bundle_kills", "faults/test_resume_kills")),
    Row(22, "a power cut", "what is called durable was flushed first, in that order", ("faults/test_checkpoint_kills",
        "state/test_files")),
    Row(23, "disk full, read-only, the store held by another process",
        "training goes on; records wait, are shown as not saved, and are saved later", ("faults/test_store",)),
    Row(24, "a damaged, foreign or newer store", "kept under another name; a newer one is left alone",
        ("faults/test_store",)),
    Row(25, "an exception of ours at any hook", "the script ends as without us", ("faults/test_guard",)),
    Row(26, "no torch, too old, broken dependencies", "the script runs plainly, one line says why",
        ("parity/", "test_launch")),
    Row(27, "the hub freezes or hangs, our thread breaks", "exit waits 2 s at most; begun anew, then given up",
        ("faults/test_hub_fails",)),
    Row(28, "watching changes a result", "bit-identical state and surroundings", ("purity/",)),
    Row(30, "interrupted, and resumed in a new process", "ends as if it had not been, or is refused with the reason",
        ("resume/",)),
    Row(31, "signals, Ctrl-C once and twice", "as under plain Python", ("parity/test_signals",)),
    Row(32, "something differs from `python script.py`", "nothing but our one line", ("parity/", "test_launch")),
    Row(33, "fork, spawn, forkserver, workers", "idle until they train, then in the session under their name",
        ("ranks/test_processes", "parity/")),
    Row(34, "ranks of torchrun: one pauses, one dies", "all held at one step, without a collective; the dead is named",
        ("ranks/test_agreed", "ranks/test_broken", "hub/test_agreement")),
]  # fmt: skip

FIGURES = {
    "F1": "`kill -9` at random moments: acknowledged records lost / stores not as they should be",
    "F3": "loops whose whole state equals plain Python's",
    "F5": "malformed messages: crashes, hangs, tracebacks",
    "F6": "hostile requests accepted",
    "F8": "injected faults survived: hook x exception pairs",
    "F9": "one page that does not read, seven that do",
    "F10": "parity with plain Python: cases equal",
}


def main() -> int:
    """Run all suites, write the page; pytest's exit code."""
    if sys.argv[1:2] == ["--page"]:
        write_page(Path(sys.argv[2]), Path(sys.argv[3]), 0.0)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        report, junit = Path(folder) / "report.json", Path(folder) / "junit.xml"
        start = time.monotonic()
        code = subprocess.run(
            [sys.executable, "-m", "pytest", "--junitxml", str(junit), *SUITES], cwd=ROOT, check=False,
            env={**os.environ, "ONTHEFLY_FULL": "1", "ONTHEFLY_REPORT": str(report)},
        ).returncode  # fmt: skip
        write_page(report, junit, time.monotonic() - start)
    return code


def write_page(report: Path, junit: Path, seconds: float) -> None:
    """Make ``docs/reliability.md``, and print its figures."""
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    outcomes = read_outcomes(junit)
    lines = [
        "# Reliability: what was tested, and what came out",
        "",
        "Made by `make faults`, not by hand. It runs these suites with their full counts; `make test` runs them with",
        "small ones. Most protections are also taken away once in a test, which must then fail. Not so, yet: the",
        "limit of 32 pages and of their waiting commands, the size of WebSocket frames, queues counted in bytes,",
        "`--host`. Nor is the cost of a flood to a script beside it measured; that of one page which does not read",
        "is (docs/cost.md).",
        "",
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, torch {version('torch')}, DuckDB {version('duckdb')}, "
        f"aiohttp {version('aiohttp')}; {seconds / 60:.0f} minutes.",
        "",
        "## Figures",
        "",
        "| | what | found |",
        "| --- | --- | --- |",
        *(f"| {name} | {text} | {said(found.get(name))} |" for name, text in FIGURES.items()),
        "",
        "## Faults and attacks",
        "",
        "| row | fault | what happens | tests passed |",
        "| --- | --- | --- | --- |",
        *(f"| {row.number} | {row.fault} | {row.behaviour} | {counted(row, outcomes)} |" for row in ROWS),
        "",
        *parity_table(found.get("parity", {})),
        *DOCUMENTED,
    ]
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print("\n".join(line for line in lines if line.startswith("| F")))


def read_outcomes(junit: Path) -> list[tuple[str, str]]:
    """Each test's place (``hub/test_doors.test_x``) and whether it passed, failed or was skipped."""
    outcomes: list[tuple[str, str]] = []
    for case in ElementTree.parse(junit).iter("testcase"):
        place = case.get("classname", "").replace("tests.", "", 1).replace(".", "/")
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        outcomes.append((f"{place}.{case.get('name')}", outcome))
    return outcomes


def counted(row: Row, outcomes: list[tuple[str, str]]) -> str:
    """``12 of 12``, and where they are; skipped ones are named."""
    mine = [outcome for place, outcome in outcomes if place.startswith(row.tests)]
    skipped = f", {mine.count('skipped')} skipped" if "skipped" in mine else ""
    return f"{mine.count('passed')} of {len(mine) - mine.count('skipped')}{skipped}: " + ", ".join(
        f"`tests/{test}`" for test in row.tests
    )


def said(values: Any) -> str:
    """A figure's values in a cell of a table."""
    if not isinstance(values, dict):
        return "not run" if values is None else str(values)
    parts = [f"{name} ({said(value)})" if isinstance(value, dict) else f"{name} {value}"
             for name, value in values.items()]  # fmt: skip
    return ", ".join(parts)


def parity_table(parity: dict[str, dict[str, str]]) -> list[str]:
    """Ways to start a script: how many of the endings tried were as under plain Python, and which were not."""
    if not parity:
        return []
    endings = {ending for row in parity.values() for ending in row}
    lines = [
        "## Parity with plain Python",
        "",
        f"{len(parity)} ways to start a script, {len(endings)} to end it, and a sample of their combinations, run",
        "plain and under us: exit code, standard output, standard error (but our one line), and what the script sees",
        "of its surroundings.",
        "",
        "| way to start | equal | different |",
        "| --- | --- | --- |",
    ]
    for way, row in parity.items():
        different = [f"{ending}: {found}" for ending, found in row.items() if found != "equal"]
        lines.append(f"| {way} | {len(row) - len(different)} of {len(row)} | {'; '.join(different)} |")
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
