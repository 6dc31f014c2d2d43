"""Training dynamics as a file beside their store, so that a hub which starts anew need not add up all rows again.

A shortcut and no record: the table of samples stays the truth. The file says up to which row it holds and what stands
there; one that does not fit the store, is damaged or of another version is left aside, and the rows are added up anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np

from onthefly.hub.dynamics import Dynamics

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
"""Raised when the same rows give another state."""


class Folded(NamedTuple):
    """The dynamics of one run and phase up to some row."""

    run: str
    phase: str
    rows: int
    mark: str
    """What the last of these rows holds: a table of another history has something else there."""
    keys: list[str]
    """Of samples with negative numbers: see :class:`onthefly.hub.presentations.Follower`."""
    dynamics: Dynamics


def path_of(folder: Path, run: str, phase: str) -> Path:
    """The file for this run and phase in a session's folder."""
    return folder / f"dynamics-{run}-{phase}.npz"


def write(folder: Path, folded: Folded) -> None:
    """Write the file whole, by rename; OSError if it cannot be."""
    head = {name: value for name, value in folded._asdict().items() if name != "dynamics"}
    head["format"] = FORMAT
    path = path_of(folder, folded.run, folded.phase)
    temporary = path.with_name(f".{path.name}.new")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            np.savez(file, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **folded.dynamics.columns())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read(folder: Path, run: str, phase: str) -> Optional[Folded]:
    """What the file holds; None if there is none that is whole and of this run and phase."""
    try:
        with path_of(folder, run, phase).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in arrays.files}
        head = json.loads(columns.pop("head").tobytes())
        if (head["format"], head["run"], head["phase"]) != (FORMAT, run, phase):
            return None
        return Folded(run, phase, head["rows"], head["mark"], head["keys"], Dynamics.of(columns))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
