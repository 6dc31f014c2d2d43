"""The check of numbers: what is lost, subnormal or near an overflow is found in every kind of tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from tests.health.examined import PAUSED_AT, Training, verdict

if TYPE_CHECKING:
    from pathlib import Path


def test_a_sound_run_is_good_and_stays_what_it_is(tmp_path: Path) -> None:
    found = verdict(tmp_path, Training(), "numerics", pure=True)
    assert found.verdict == "good", found
    assert found.numbers["nonfinite"] == 0
    # 4 parameters with gradients, two moments and a step count of each.
    assert found.numbers["tensors"] == 4 * 5
    assert (found.step, found.by) == (PAUSED_AT + 1, "ana")


@pytest.mark.parametrize("kind", ["parameter", "gradient", "buffer", "state"])
def test_a_number_that_is_lost_is_found_where_it_is(tmp_path: Path, kind: str) -> None:
    training = Training()
    training.model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    norm: Any = training.model[1]
    weight: Any = training.model[2].weight

    def plant(training: Training, step: int, loss: Any) -> None:
        if step != PAUSED_AT:
            return
        with torch.no_grad():
            if kind == "parameter":
                weight[1, 3] = float("nan")
            elif kind == "gradient":
                weight.grad[1, 3] = float("inf")
            elif kind == "buffer":
                norm.running_var[2] = float("inf")
            else:
                training.optimizer.state[weight]["exp_avg"][0, 0] = float("nan")

    training.after = plant
    found = verdict(tmp_path, training, "numerics")
    assert found.verdict == "bad"
    names = {(row["kind"], row["name"]) for row in found.rows}
    assert (kind, {"buffer": "1.running_var", "state": "exp_avg of 2.weight"}.get(kind, "2.weight")) in names
    assert found.do


def test_subnormal_weights_are_told(tmp_path: Path) -> None:
    training = Training()
    training.optimizer = torch.optim.SGD(training.model.parameters(), 0.0)
    with torch.no_grad():
        training.model[0].weight.fill_(1e-40)
    found = verdict(tmp_path, training, "numerics")
    assert (found.verdict, found.rows[0]["subnormal"]) == ("warning", 24)
    assert "subnormal" in found.says


def test_half_precision_near_its_end_is_told(tmp_path: Path) -> None:
    training = Training()
    training.model.register_buffer("large", torch.tensor([60000.0], dtype=torch.float16))
    found = verdict(tmp_path, training, "numerics")
    assert (found.verdict, found.numbers["near_overflow"]) == ("warning", 1)


@pytest.mark.parametrize("overflows", [True, False])
def test_steps_that_a_scaler_skips_are_counted(tmp_path: Path, overflows: bool) -> None:
    class Scaled(Training):
        def run(self, commander: Any, at: Any, epochs: int = 1) -> Any:
            scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
            optimizer = torch.optim.SGD(self.model.parameters(), 0.05)
            for step in range(40):
                optimizer.zero_grad()
                loss = self.loss(self.model(self.inputs[:4]), self.targets[:4])
                scaler.scale(loss).backward()
                if overflows and step % 4 == 0:
                    self.model[0].weight.grad.fill_(float("inf"))
                if step == 33:
                    for name, args in next(iter(at.values())):
                        commander.send(name, **args)
                scaler.step(optimizer)
                scaler.update()

    found = verdict(tmp_path, Scaled(), "numerics")
    assert (found.verdict, found.numbers["scaler_skipped"]) == (("warning", 9) if overflows else ("good", 0)), found
