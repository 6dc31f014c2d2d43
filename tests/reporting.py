"""Figures that the tests found, for the docs: collected in the file that ``ONTHEFLY_REPORT`` names."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any


def note(figure: str, **values: Any) -> None:
    """Merge these values into the figure's entry; nothing happens where no report is asked for."""
    name = os.environ.get("ONTHEFLY_REPORT")
    if not name:
        return
    path = Path(name)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        report.setdefault(figure, {}).update(values)
        path.write_text(json.dumps(report, indent=1, sort_keys=True), encoding="utf-8")
