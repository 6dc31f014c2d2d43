"""Sees to a Chromium for the end-to-end test: the one on PATH, else from apt when root; without one that test skips."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str:
    """The path of a Chromium; empty if there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), "")


def main() -> int:
    """Install it if that is possible; 0 in any case."""
    if find() or not shutil.which("apt-get") or not hasattr(os, "getuid") or os.getuid() != 0:
        return 0
    subprocess.run(["apt-get", "update", "-qq"], check=False)
    subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
        check=False, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
