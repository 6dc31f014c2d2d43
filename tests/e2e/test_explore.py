"""In a real Chromium: a person selects samples, looks at them, tags them and reviews labels."""

from __future__ import annotations

import os
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

pytestmark = [
    pytest.mark.skipif(not chromium.find(), reason="no Chromium on this machine"),
    pytest.mark.skipif(not (REPOSITORY / "extension" / "node_modules").exists(), reason="npm ci has not run"),
]


@pytest.mark.timeout(240)
def test_a_person_explores_samples_and_reviews_labels(home: Home) -> None:
    home.start(sys.executable, "-m", "onthefly", str(DIGITS), "--epochs", "100000", ONTHEFLY_STRICT="1")
    home.wait_step(200, 90)  # four epochs: below three, no label is suspected
    address = home.run(sys.executable, "-m", "onthefly", "dashboard", "--url").out.decode().strip()
    command = (shutil.which("node") or "node") if node.from_path() else node.from_wheel()[0][0]
    shots = [str(REPOSITORY / "screenshots")] if os.environ.get("ONTHEFLY_FULL") else []
    done = subprocess.run(
        [command, "e2e/explore.mjs", address, *shots], cwd=DASHBOARD, capture_output=True, text=True, timeout=110,
        env={**home.environment, "CHROMIUM": chromium.find()}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
