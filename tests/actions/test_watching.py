"""Watchdogs through the session: held before the parameters are touched, a flight record, the operation found."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from onthefly.protocol import StateChanged
from tests.actions.desk import Commander, desk
from tests.actions.played import plain
from tests.actions.played import play as play_script

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

BAD = 17
"""The sample whose logarithm is not finite."""


def play(
    commander: Commander, steps: dict[int, list[tuple[str, dict[str, Any]]]], made: list[nn.Module] | None = None
) -> list[list[torch.Tensor]]:
    """One epoch over 40 samples, one of which gives NaN; parameters after each step; commands before a step ends.

    ``made`` is given the model.
    """
    torch.manual_seed(5)
    x = torch.rand(40, 3) + 0.5
    x[BAD] = -1.0
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    if made is not None:
        made.append(model)
    seen: list[list[torch.Tensor]] = [[parameter.detach().clone() for parameter in model.parameters()]]
    for step, (inputs, index) in enumerate(DataLoader(TensorDataset(x, torch.arange(40)), 4)):
        optimizer.zero_grad()
        loss = model(torch.log(inputs)).pow(2).mean()
        loss.backward()
        for name, args in steps.get(step, []):
            commander.send(name, **args)
        optimizer.step()
        seen.append([parameter.detach().clone() for parameter in model.parameters()])
        del index
    return seen


def test_a_gradient_that_is_not_finite_holds_the_script_before_its_step(tmp_path: Path) -> None:
    held: list[list[torch.Tensor]] = []
    made: list[nn.Module] = []
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path), ONTHEFLY_STOP_ON="nonfinite-grad") as commander:
        gate = commander.kept.session._gate
        announce = gate._announce

        def told(state: Any, by: str, reason: str) -> None:
            announce(state, by, reason)
            if state == "paused":
                held.append([parameter.detach().clone() for parameter in made[0].parameters()])
                commander.send("resume")

        gate._announce = told
        seen = play(commander, {}, made)
        (finding,) = commander.controls().findings[:1]
        assert finding.alarm == "nonfinite-grad"
        assert finding.step == BAD // 4
        record = json.loads(next((tmp_path / "sessions" / "testtest" / "flights").glob("nonfinite-grad-*")).read_text())
        assert record["random_states"]
        assert "0.weight" in finding.text
    assert len(held) >= 1
    assert str(held[0]) == str(seen[BAD // 4]), "it was held when they were touched already"
    assert not torch.isfinite(seen[-1][0]).all()


SCRIPT = f"""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(5)
x = torch.rand(40, 3) + 0.5
x[{BAD}] = -1.0
model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
for inputs, targets in DataLoader(TensorDataset(x, torch.zeros(40, 1)), 4):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(torch.log(inputs)), targets)
    loss.backward()
    optimizer.step()
    print(loss.item())
"""


@contextlib.contextmanager
def going_on(commander: Commander) -> Generator[None, None, None]:
    """Whenever the script is held, let it go on."""
    gate = commander.kept.session._gate
    announce = gate._announce

    def told(state: Any, by: str, reason: str) -> None:
        announce(state, by, reason)
        if state == "paused":
            commander.send("resume")

    gate._announce = told
    yield


def test_the_operation_that_lost_the_numbers_is_found_and_the_bits_stay(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text(SCRIPT)
    wanted = plain(script)
    commands: Any = {2: [("checkpoint", {"name": "start"})], 6: [("diagnose", {})]}
    run = play_script(script, folder=tmp_path, at=commands, during=going_on)
    refused = [answer for answer in run.commander.answers() if answer.status != "applied"]
    assert not refused, refused
    assert run.hashes[-1] == wanted.hashes[-1]
    findings = run.commander.controls().findings
    assert "nonfinite-loss" in {finding.alarm for finding in findings}
    (origin,) = [finding for finding in findings if finding.alarm == "origin"]
    assert "log" in origin.text
    assert f"step {BAD // 4}" in origin.text
    flights = tmp_path / "sessions" / "testtest" / "flights"
    record = json.loads((flights / f"nonfinite-loss-{BAD // 4}.json").read_text())
    assert BAD in record["batches"][0]["samples"]
    assert record["replay"] == "onthefly ctl testtest diagnose"


def test_a_watchdog_takes_the_script_back_and_holds_it(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text(SCRIPT)
    commands: Any = {
        1: [("watch", {"alarm": "nonfinite-param", "action": "rewind"})],
        2: [("checkpoint", {"name": "start"})],
        6: [("watch", {"alarm": "nonfinite-param", "action": "off"})],
    }
    run = play_script(script, folder=tmp_path, at=commands, during=going_on)
    assert run.hashes[-1] == plain(script).hashes[-1], "and when it is let go on, it does the same again"
    states = [message for message in run.commander.kept.messages if isinstance(message, StateChanged)]
    assert any("went back to start" in state.reason for state in states)
    assert [entry.name for entry in run.commander.journal()].count("rewind") >= 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"alarm": "loss-spik", "action": "log"}, "there is no watchdog"),
        ({"alarm": "loss-spike", "action": "log", "parameters": {"window": 1}}, "window"),
        ({"alarm": "loss-spike", "action": "shout"}, "action"),
    ],
)
def test_what_cannot_be_watched_is_refused(args: dict[str, Any], said: str, tmp_path: Path) -> None:
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        play(commander, {1: [("watch", args)]})
        (answer,) = commander.answers()
        assert answer.status == "refused"
        assert said in f"{answer.reason} {answer.remedy}"
