"""The examples end with the same bits under us as under plain Python, also when they are paused and resumed."""

from __future__ import annotations

import os
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import torch

from onthefly.link.client import Client
from onthefly.settings import Settings
from tests.conftest import REPOSITORY
from tests.loops import digest

if TYPE_CHECKING:
    from tests.conftest import Home

FULL = os.environ.get("ONTHEFLY_FULL") == "1"
EXAMPLES = {"digits": (5 if FULL else 3, 45, 1437), "text": (1, 282, 8996), "tabular": (15, 23, 354)}
"""How many epochs are run here, and the steps and samples of one."""

EVERY = [(name, workers) for name in EXAMPLES for workers in ("0", "2")]
RUNS = EVERY if FULL else [("digits", "2")]


def command(home: Home, name: str) -> dict[str, Any]:
    """Send a command to the newest session; its answer."""
    with Client(Settings(home.environment)) as client:
        return client.command("last", {"id": str(uuid.uuid4()), "name": name, "by": "test"})


@pytest.mark.parametrize(("example", "workers"), RUNS)
def test_paused_and_resumed_three_times(home: Home, example: str, workers: str) -> None:
    epochs, steps, samples = EXAMPLES[example]
    script = str(REPOSITORY / "examples" / f"{example}.py")
    arguments = [script, "--epochs", str(epochs), "--workers", workers, "--save"]
    plain = home.python(*arguments, "plain.pt")
    assert plain.code == 0
    process = home.start(sys.executable, "-m", "onthefly", *arguments, "ours.pt", ONTHEFLY_STRICT="1")
    home.wait_step(1)
    answers = [command(home, "pause")]
    for _ in range(2):
        held = home.wait_state("paused")["step"]
        assert home.session()["step"] == held  # type: ignore[index]
        assert command(home, "resume")["status"] == "applied"
        answers.append(command(home, "pause"))
    assert command(home, "resume")["status"] == "applied"
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    assert out == plain.out
    states = [torch.load(home.folder / name, weights_only=True) for name in ("plain.pt", "ours.pt")]
    assert digest(states[0]) == digest(states[1])
    assert [answer["status"] for answer in answers] == ["applied"] * 3
    assert [answer["step"] for answer in answers] == sorted(answer["step"] for answer in answers)
    session = home.wait_state("ended")
    assert session["backwards"] == session["step"] == epochs * steps
    assert session["samples"] == epochs * samples
