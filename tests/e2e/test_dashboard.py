"""In a real Chromium: a person watches, pauses, and changes a training, whose journal says so; nothing moves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts import chromium, node
from tests.conftest import DIGITS, FULL, REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conftest import Home

DASHBOARD = REPOSITORY / "extension" / "dashboard"

pytestmark = [
    pytest.mark.skipif(not chromium.find(), reason="no Chromium on this machine"),
    pytest.mark.skipif(not (REPOSITORY / "extension" / "node_modules").exists(), reason="npm ci has not run"),
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("walk", [pytest.param("live.mjs", marks=pytest.mark.always), "control.mjs"])
def test_a_person_watches_and_steers_a_training(walk: str, home: Home) -> None:
    home.start(sys.executable, "-m", "onthefly", str(DIGITS), "--epochs", "100000", ONTHEFLY_STRICT="1")
    home.wait_step(50, 60)  # an epoch and more
    address = home.run(sys.executable, "-m", "onthefly", "dashboard", "--url").out.decode().strip()
    shots = [str(REPOSITORY / "screenshots")] if os.environ.get("ONTHEFLY_FULL") else []
    _drive(walk, address, *shots, environment=home.environment)


@pytest.mark.timeout(120)
def test_a_person_exports_a_session_deletes_it_and_takes_it_in_again(home: Home) -> None:
    ended = home.watched("--autosave", "1s", str(DIGITS), "--epochs", "1")
    assert ended.code == 0, ended.err
    address = home.run(sys.executable, "-m", "onthefly", "dashboard", "--url").out.decode().strip()
    _drive("sessions.mjs", address, environment=home.environment)


@FULL
def test_every_part_under_control_is_drawn_and_nothing_moves() -> None:
    _drive("made.mjs", environment=os.environ)


def _drive(script: str, *given: str, environment: Mapping[str, str]) -> None:
    """Run that script of ``e2e/`` to its end."""
    command = (shutil.which("node") or "node") if node.from_path() else node.from_wheel()[0][0]
    done = subprocess.run(
        [command, f"e2e/{script}", *given], cwd=DASHBOARD, env={**environment, "CHROMIUM": chromium.find()},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
