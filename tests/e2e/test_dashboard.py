"""One test in a real Chromium: the curve moves, pause holds the step count, resume lets it go; nothing is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts import chromium, node
from tests.conftest import DIGITS, REPOSITORY

if TYPE_CHECKING:
    from tests.conftest import Home

DASHBOARD = REPOSITORY / "extension" / "dashboard"


@pytest.mark.skipif(not chromium.find(), reason="no Chromium on this machine")
@pytest.mark.skipif(not (REPOSITORY / "extension" / "node_modules").exists(), reason="npm ci has not run")
def test_a_person_watches_pauses_and_resumes(home: Home) -> None:
    home.start(sys.executable, "-m", "onthefly", str(DIGITS), "--epochs", "100000", ONTHEFLY_STRICT="1")
    home.wait_step(200)
    address = home.run(sys.executable, "-m", "onthefly", "dashboard", "--url").out.decode().strip()
    if node.from_path():
        command = shutil.which("node") or "node"
    else:
        command = node.from_wheel()[0][0]
    done = subprocess.run(
        [command, "e2e/live.mjs", address, str(REPOSITORY / "screenshots")],
        cwd=DASHBOARD, env={**home.environment, "CHROMIUM": chromium.find()}, capture_output=True, text=True,
        timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
