"""`onthefly ctl SESSION health` on a script that runs: paused, examined, let for one step, paused again, as it was."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from onthefly.health.table import ROWS
from tests.conftest import wait_for

if TYPE_CHECKING:
    from tests.conftest import Ended, Home

SCRIPT = """
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)
x = torch.randn(400, 5)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters(), 0.01)
train = DataLoader(TensorDataset(x[:300], y[:300]), 5, shuffle=True)
test = DataLoader(TensorDataset(x[300:], y[300:]), 50)
for inputs, targets in test:
    pass
for epoch in range(2):
    for inputs, targets in train:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
print(hash(tuple(parameter.detach().numpy().tobytes() for parameter in model.parameters())))
"""


def ctl(home: Home, *arguments: str) -> Ended:
    return home.run(sys.executable, "-m", "onthefly", "ctl", "last", *arguments)


def test_a_run_is_examined_over_the_command_line(home: Home) -> None:
    path = home.folder / "train.py"
    path.write_text(SCRIPT)
    plain = home.python(str(path), PYTHONHASHSEED="0")
    run = home.start(sys.executable, "-m", "onthefly", str(path), ONTHEFLY_STOP_ON="nonfinite-grad", PYTHONHASHSEED="0",
                     ONTHEFLY_STRICT="1")  # fmt: skip
    wait_for("the session", home.session)
    assert ctl(home, "pause", "--step", "30").code == 0
    home.wait_state("paused")
    known = ctl(home, "health", "pulse")
    assert known.code == 5
    assert b"numerics" in known.err
    done = ctl(home, "health", "--json")
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)
    assert {one["check"]: one["verdict"] for one in found if one["check"] != "throughput"} == {
        "numerics": "good", "gradients": "good", "activations": "good", "determinism": "good",
        "distribution": "unknown", "memory": "good", "data": "good",
    }, found  # fmt: skip
    assert {one["check"] for one in found} == {row.name for row in ROWS}
    session = home.wait_state("paused")
    assert (session["step"], session["run"], session["health"]) == (31, "baseline", len(ROWS))
    told = ctl(home, "health", "numerics")
    assert told.out.startswith(b"ok numerics: all ")
    assert ctl(home, "resume").code == 0
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert out == plain.out
    assert ctl(home, "health").code != 0
    assert len(home.get("sessions/last/health")["results"]) == len(ROWS) + 1
