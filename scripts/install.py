"""Installs this checkout into the virtual environment it runs in: ``install.py '.[extras]'``.

A torch that is there and new enough is kept; else the one of ``constraints.txt`` is taken.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

OLDEST = (2, 2)


def main() -> int:
    """Run pip; its exit code."""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "-e", sys.argv[1]]
    if importlib.util.find_spec("torch") is not None:
        here = version("torch")
        if tuple(int(part) for part in re.findall(r"\d+", here)[:2]) >= OLDEST:
            print(f"torch {here} is there and is kept")
            return subprocess.run([*command, f"torch=={here}"], cwd=root, check=False).returncode
    return subprocess.run([*command, "-c", "constraints.txt"], cwd=root, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
