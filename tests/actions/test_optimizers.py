"""The command ``set``: it does what the same line in the script would do, and schedulers do not undo it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedules

from tests.actions.desk import desk

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: schedules.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: schedules.MultiStepLR(o, [2, 5, 9], 0.3),
    "ExponentialLR": lambda o: schedules.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: schedules.LambdaLR(o, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda o: schedules.MultiplicativeLR(o, lambda step: 0.95),
    "ConstantLR": lambda o: schedules.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: schedules.LinearLR(o, 0.2, total_iters=8),
    "PolynomialLR": lambda o: schedules.PolynomialLR(o, 20, 2.0),
    "CosineAnnealingLR": lambda o: schedules.CosineAnnealingLR(o, 20),
    "CosineAnnealingLR with a floor": lambda o: schedules.CosineAnnealingLR(o, 20, eta_min=0.01),
    "CosineAnnealingWarmRestarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 7, eta_min=0.01),
    "OneCycleLR": lambda o: schedules.OneCycleLR(o, 0.4, total_steps=30),
    "CyclicLR": lambda o: schedules.CyclicLR(o, 0.05, 0.4, step_size_up=4, cycle_momentum=False),
    "SequentialLR": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.1, total_iters=6), schedules.CosineAnnealingLR(o, 20)], [6]
    ),
    "ChainedScheduler": lambda o: schedules.ChainedScheduler(
        [schedules.ExponentialLR(o, 0.95), schedules.StepLR(o, 4, 0.5)]
    ),
}  # fmt: skip


def rates(schedule: Callable[[Any], Any], at: int, value: float | None) -> tuple[list[list[float]], Any]:
    """The learning rates that each of 16 steps was made with; ``value`` is set after step ``at``."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters()}, {"params": model[1].parameters(), "lr": 0.2}], 0.1, momentum=0.9
    )
    scheduler = schedule(optimizer)
    used: list[list[float]] = []
    with desk() as commander:
        for step in range(16):
            optimizer.zero_grad()
            model(torch.randn(8, 3)).pow(2).mean().backward()
            used.append([group["lr"] for group in optimizer.param_groups])
            if step == at and value is not None:
                commander.send("set", name="lr", value=value)
            optimizer.step()
            scheduler.step()
        return used, commander


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_learning_rate_survives_the_scheduler(name: str) -> None:
    """The schedule goes on in its own form: each later rate is what it would have been, scaled from the floor."""
    at, new = 4, 0.07
    plain, _ = rates(SCHEDULES[name], at, None)
    changed, commander = rates(SCHEDULES[name], at, new)
    assert [answer.status for answer in commander.answers()] == ["applied"]
    floor = 0.01 if "floor" in name or "Restarts" in name else 0.0
    for group in range(2):
        ratio = (new - floor) / (plain[at][group] - floor)
        for step in range(at + 1, 16):
            wanted = floor + (plain[step][group] - floor) * ratio
            assert changed[step][group] == pytest.approx(wanted, rel=1e-6), f"step {step}"
    assert changed[: at + 1] == plain[: at + 1]


def test_plateau_keeps_what_was_set_and_lowers_it() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scheduler = schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    used: list[float] = []
    with desk() as commander:
        for step in range(6):
            optimizer.zero_grad()
            model(torch.ones(1, 2)).sum().backward()
            if step == 0:
                commander.send("set", name="lr", value=0.8)
            optimizer.step()
            scheduler.step(1.0)
            used.append(optimizer.param_groups[0]["lr"])
    assert used[0] == 0.8
    assert used[-1] < 0.8


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (torch.optim.AdamW, "weight_decay", 0.3), (torch.optim.AdamW, "betas", [0.5, 0.8]),
        (torch.optim.SGD, "momentum", 0.5), (torch.optim.RMSprop, "alpha", 0.5), (torch.optim.AdamW, "lr", 0.5),
    ],
)  # fmt: skip
def test_it_is_what_a_line_of_the_script_would_have_done(kind: Any, name: str, value: Any) -> None:
    def play(by_command: bool) -> dict[str, Any]:
        torch.manual_seed(1)
        model = nn.Linear(3, 1)
        optimizer = kind(model.parameters(), lr=0.1)
        with desk() as commander:
            for step in range(8):
                optimizer.zero_grad()
                model(torch.randn(4, 3)).pow(2).mean().backward()
                if by_command and step == 3:
                    commander.send("set", name=name, value=value)
                optimizer.step()
                if not by_command and step == 3:
                    optimizer.param_groups[0][name] = tuple(value) if isinstance(value, list) else value
            if by_command:
                (entry,) = commander.journal()
                assert (entry.step, entry.point, entry.name, entry.by) == (4, 4, "set", "ana")
                assert entry.after == {"0/0": value}
                assert commander.controls().groups[0].values[name] == value
        return copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})

    plain, changed = play(False), play(True)
    assert repr(plain) == repr(changed)
    assert torch.equal(plain["model"]["weight"], changed["model"]["weight"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"name": "lrr", "value": 1.0}, "no parameter group has a number called 'lrr'"),
        ({"name": "lr", "value": 1.0, "group": 1}, "there is no parameter group 1"),
        ({"name": "lr", "value": 1.0, "optimizer": 4}, "there is no optimizer 4"),
        ({"name": "lr", "value": -1.0}, "must not be negative"),
        ({"name": "lr", "value": float("inf")}, "must be finite"),
        ({"name": "lr", "value": [1.0, 2.0]}, "takes one number"),
        ({"name": "betas", "value": 0.5}, "takes 2 numbers"),
        ({"name": "betas", "value": [0.5, 1.0]}, "must lie in [0, 1)"),
        ({"name": "amsgrad", "value": 1.0}, "no parameter group has a number called 'amsgrad'"),
        ({"name": "params", "value": 1.0}, "no parameter group has a number called 'params'"),
        ({"value": 1.0}, "missing required field `name`"),
    ],
)
def test_what_cannot_be_set_is_refused_and_nothing_changes(args: dict[str, Any], said: str) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    with desk() as commander:
        before = repr(optimizer.param_groups)
        model(torch.ones(1, 2)).sum().backward()
        commander.send("set", **args)
        optimizer.step()
        (answer,) = commander.answers()
        assert answer.status == "refused"
        assert said in answer.reason
        assert commander.journal() == []
        optimizer.param_groups[0]["params"][0].data.zero_()
    assert before.split("lr")[1][:10] == repr(optimizer.param_groups).split("lr")[1][:10]


def test_a_rate_of_zero_under_a_schedule_is_refused_with_the_reason() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scheduler = schedules.LambdaLR(optimizer, lambda step: step / 10)
    with desk() as commander:
        model(torch.ones(1, 2)).sum().backward()
        commander.send("set", name="lr", value=0.5)
        optimizer.step()
        scheduler.step()
        assert "cannot be scaled" in commander.answers()[0].reason
