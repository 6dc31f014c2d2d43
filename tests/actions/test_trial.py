"""Trials: the same steps without and with a change, against the same made by hand; and what each choice leaves."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

import pytest

from tests.actions.played import plain, play
from tests.actions.test_watching import going_on

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.dear

SCRIPT = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(5)
model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
step = 0
for inputs, targets in DataLoader(TensorDataset(torch.randn(80, 3), torch.randn(80, 1)), 4, shuffle=True):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()
    step += 1
    if step == CHANGE:
        for group in optimizer.param_groups:
            group["lr"] = 0.2
"""


def script(folder: Path, change: int) -> Path:
    """The script; after so many steps it changes its learning rate by itself (0: never)."""
    path = folder / f"s{change}.py"
    path.write_text(SCRIPT.replace("CHANGE", str(change)))
    return path


@pytest.mark.parametrize("keep", ["with", "without", "neither"])
def test_each_choice_leaves_the_state_that_it_says(keep: str, tmp_path: Path) -> None:
    start, steps = 4, 6
    changed, unchanged = plain(script(tmp_path, start)), plain(script(tmp_path, 0))
    # Pause points are counted without going back: the trial at the start's, its second half ends 2 * steps later.
    commands: Any = {
        start - 1: [("trial", {"steps": steps, "name": "set", "args": {"name": "lr", "value": 0.2}})],
        start - 1 + 2 * steps: [("choose", {"keep": keep})],
    }
    run = play(script(tmp_path, 0), folder=tmp_path, at=commands, during=going_on)
    refused = [answer for answer in run.commander.answers() if answer.status != "applied" and answer.reason]
    assert not refused, refused
    wanted = changed if keep == "with" else unchanged
    assert run.hashes[-1] == wanted.hashes[-1]
    info = run.commander.controls().trial
    assert info is not None
    assert info.phase == "over"
    pairs = [b - a for a, b in zip(info.without, info.changed)]
    assert len(pairs) == steps
    half = 1.959963984540054 * statistics.stdev(pairs) / math.sqrt(steps)
    assert info.effect == pytest.approx(statistics.fmean(pairs))
    assert info.low == pytest.approx(statistics.fmean(pairs) - half)
    assert info.high == pytest.approx(statistics.fmean(pairs) + half)
