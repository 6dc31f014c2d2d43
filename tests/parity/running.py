"""Runs one command line plain and under OnTheFly, and names what differs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.parity.ways import PLAIN
from tests.reporting import note

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.conftest import Home

FULL = bool(os.environ.get("ONTHEFLY_FULL"))
"""Whether all combinations run, instead of a sample."""

DEADLINE = 30.0

_NUMBERS = re.compile(rb"0x[0-9a-f]+|(?<=<Thread\()\S+|(?<=subprocess )\d+|(?<=pid=)\d+")


class Run(NamedTuple):
    """All that can be seen of a run."""

    code: int
    out: bytes
    err: bytes
    seen: dict[str, Any]
    files: list[str]

    def ours(self) -> list[bytes]:
        """The lines that we said."""
        return [line for line in self.err.splitlines() if line.startswith(b"onthefly: ")]


def execute(
    home: Home, command: tuple[str, ...], environment: Mapping[str, str] | None = None, *,
    shell: str = PLAIN, stdin: bytes = b"",
) -> Run:  # fmt: skip
    """Run a command in the folder of the home to its end, which must come within the deadline."""
    seen = home.folder / "seen.json"
    process = subprocess.Popen(
        ["/bin/sh", "-c", shell, "sh", *command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=home.folder,
        env={**home.environment, "SEEN": str(seen), **(environment or {})}, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        out, err = process.communicate(stdin, DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"hangs: {command}\n{out[-500:]!r}\n{err[-2000:]!r}") from None
    told = json.loads(seen.read_bytes()) if seen.exists() else {}
    seen.unlink(missing_ok=True)
    return Run(process.returncode, out, err, told, files_in(home.folder))


def files_in(folder: Path) -> list[str]:
    """The files there, without ours and those of a hub that was started beside it."""
    found = (f.relative_to(folder) for f in folder.rglob("*"))
    return sorted(str(f) for f in found if f.parts[0] not in ("runtime", "data"))


def both(
    home: Home, arguments: tuple[str, ...], environment: Mapping[str, str] | None = None, *,
    options: tuple[str, ...] = (), shell: str = PLAIN, stdin: bytes = b"",
) -> tuple[Run, Run]:  # fmt: skip
    """The same command line, plain and watched."""
    python = (sys.executable, *options)
    plain = execute(home, (*python, *arguments), environment, shell=shell, stdin=stdin)
    return plain, execute(home, (*python, "-m", "onthefly", *arguments), environment, shell=shell, stdin=stdin)


def differences(plain: Run, ours: Run, lines: int = 0) -> list[str]:
    """What differs; ``lines`` of ours on standard error are expected."""
    found = [f"code {plain.code} -> {ours.code}"] if plain.code != ours.code else []
    if masked(plain.out) != masked(ours.out):
        found.append(f"stdout {plain.out[-2000:]!r} -> {ours.out[-2000:]!r}")
    if masked(plain.err) != masked(ours.err):
        found.append(f"stderr {plain.err[-2000:]!r} -> {ours.err[-2000:]!r}")
    if len(ours.ours()) != lines:
        found.append(f"{len(ours.ours())} lines of ours: {ours.err!r}")
    for key in sorted({*plain.seen, *ours.seen}):
        before, after = (_NUMBERS.sub(b"", json.dumps(run.seen.get(key)).encode()) for run in (plain, ours))
        if before != after:
            found.append(f"{key} {before!r} -> {after!r}")
    if plain.files != ours.files:
        found.append(f"files {plain.files} -> {ours.files}")
    return found


def masked(text: bytes) -> bytes:
    """Without our lines, and without what differs from run to run."""
    lines = (line for line in text.splitlines(keepends=True) if not line.startswith(b"onthefly: "))
    return _NUMBERS.sub(b"", b"".join(lines))


class Tally:
    """Counts compared cases for the report."""

    def __init__(self) -> None:
        self.table: dict[str, dict[str, str]] = {}

    def add(self, way: str, ending: str, found: list[str]) -> None:
        """One case more."""
        self.table.setdefault(way, {})[ending] = "differs: " + "; ".join(found)[:500] if found else "equal"

    def write(self, seed: int) -> None:
        """Tell the report."""
        results = [result for row in self.table.values() for result in row.values()]
        note("F10", cases=len(results), equal=results.count("equal"), seed=seed)
        note("parity", **self.table)
