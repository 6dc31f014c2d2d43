"""In a real Chromium, before a made-up hub: a person forks, compares and merges runs, and looks at one of them."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from scripts import chromium, node
from tests.conftest import REPOSITORY

DASHBOARD = REPOSITORY / "extension" / "dashboard"

pytestmark = [
    pytest.mark.skipif(not chromium.find(), reason="no Chromium on this machine"),
    pytest.mark.skipif(not (REPOSITORY / "extension" / "node_modules").exists(), reason="npm ci has not run"),
]


@pytest.mark.timeout(120)
def test_a_person_forks_compares_and_merges_runs() -> None:
    command = (shutil.which("node") or "node") if node.from_path() else node.from_wheel()[0][0]
    done = subprocess.run(
        [command, "e2e/runs.mjs"], cwd=DASHBOARD, capture_output=True, text=True, timeout=110,
        env={**os.environ, "CHROMIUM": chromium.find()}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
