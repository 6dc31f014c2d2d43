"""The example ends with the same bits under us as under plain Python, also when it is paused and resumed five times."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import torch

from onthefly.cli.client import Client
from onthefly.settings import Settings
from tests.conftest import DIGITS
from tests.loops import digest

if TYPE_CHECKING:
    from tests.conftest import Home


def command(home: Home, name: str) -> dict[str, Any]:
    """Send a command to the newest session; its answer."""
    with Client(Settings(home.environment)) as client:
        return client.command("last", {"id": str(uuid.uuid4()), "name": name, "by": "test"})


@pytest.mark.parametrize("workers", ["0", "2"])
def test_paused_and_resumed_five_times(home: Home, workers: str) -> None:
    arguments = [str(DIGITS), "--epochs", "12", "--workers", workers, "--save"]
    plain = home.python(*arguments, "plain.pt")
    assert plain.code == 0
    process = home.start(sys.executable, "-m", "onthefly", *arguments, "ours.pt", ONTHEFLY_STRICT="1")
    steps = [command(home, "pause")["step"] for _ in iter([home.wait_step(1)])]
    for _ in range(4):
        held = home.wait_state("paused")["step"]
        assert home.session()["step"] == held  # type: ignore[index]
        assert command(home, "resume")["status"] == "applied"
        steps.append(command(home, "pause")["step"])
    assert command(home, "resume")["status"] == "applied"
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    assert out == plain.out
    states = [torch.load(home.folder / name, weights_only=True) for name in ("plain.pt", "ours.pt")]
    assert digest(states[0]) == digest(states[1])
    assert steps == sorted(steps)
    session = home.wait_state("ended")
    assert session["backwards"] == session["step"] == 12 * 45
    assert session["samples"] == 12 * 1437
