"""What a process that takes up a session goes on as, and what it must give again: ``resumes/<n>.json`` of the session.

Written by the command line before the process starts, read by that when its session opens; the hub adds the receipt.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FOLDER = "resumes"
MAX_EXPECTED = 1000
"""Backward calls that are compared at most."""

MAX_BYTES = 1 << 20


class Origin(NamedTuple):
    """Where it goes on from."""

    session: str
    run: str
    step: int
    backward: int
    """Backward calls that were made before."""
    checkpoint: str
    """Its name; empty: the script's first line."""


class Expected(NamedTuple):
    """One file."""

    number: int
    """Of the file; no two of a session have the same."""
    run: str
    """What the process records as."""
    runs: list[str]
    """Names that are taken in the session."""
    origin: Origin
    losses: list[tuple[int, int, float]]
    """Backward call, step and loss of what came after that in the run, in order; the loss bit for bit."""


def write(folder: Path, expected: Expected) -> Path:
    """Write it into a session's folder; ``FileExistsError`` if another process has taken that number meanwhile."""
    content = {
        "number": expected.number, "run": expected.run, "runs": expected.runs, "from": expected.origin._asdict(),
        "expected": [[backward, step, loss.hex()] for backward, step, loss in expected.losses],
    }  # fmt: skip
    path = folder / FOLDER / f"{expected.number}.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        json.dump(content, file)
    return path


def read(path: str) -> Expected:
    """Read it; ``ValueError`` or ``OSError`` if it is none."""
    with open(path, encoding="ascii") as file:
        text = file.read(MAX_BYTES + 1)
    try:
        found = json.loads(text)
        losses = [(int(backward), int(step), float.fromhex(loss)) for backward, step, loss in found["expected"]]
        return Expected(found["number"], found["run"], found["runs"], Origin(**found["from"]), losses)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path} is not what was written: {error}") from error


def numbers(folder: Path) -> set[int]:
    """Those that are taken in a session's folder."""
    return {int(path.stem) for path in (folder / FOLDER).glob("*.json") if path.stem.isdecimal()}


REWIND, RESUME, RESET, FORK, MERGE = "rewind", "resume", "baseline-", "fork", "merge"
"""What runs are called that go on from another: with a number; ``baseline`` itself is the first of its kind."""


def first_free(stem: str, taken: Iterable[str]) -> str:
    """The first of ``rewind1``, ``rewind2`` ... that no run of the session is called."""
    names = set(taken)
    number = 2 if stem == RESET else 1
    while f"{stem}{number}" in names:
        number += 1
    return f"{stem}{number}"
