"""The commands ``clip``, ``freeze`` and ``unfreeze``, against the same done by the script."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.actions.desk import desk


def model_of() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


def run(kind: str, commands: dict[int, tuple[str, dict[str, Any]]], by_hand: Any = None) -> list[torch.Tensor]:
    """Ten steps; ``commands`` by the step after which they hold, or ``by_hand(model, step)`` before each step."""
    model = model_of()
    parameters = model.parameters()
    optimizer: Any = {
        "sgd": lambda: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.1),
        "adam": lambda: torch.optim.AdamW(parameters, 0.1),
        "lbfgs": lambda: torch.optim.LBFGS(parameters, 0.1, max_iter=3),
        "closure": lambda: torch.optim.SGD(parameters, 0.1, momentum=0.9),
    }[kind]()
    torch.manual_seed(2)
    with desk() as commander:
        for step in range(10):
            x = torch.randn(16, 3)

            def closure(x: torch.Tensor = x, step: int = step) -> torch.Tensor:
                optimizer.zero_grad()
                loss = model(x).pow(2).sum()
                loss.backward()
                if by_hand is not None and kind in ("lbfgs", "closure"):
                    by_hand(model, step)
                return loss

            if step in commands:
                commander.send(commands[step][0], **commands[step][1])
            if kind in ("lbfgs", "closure"):
                optimizer.step(closure) if step % 2 else optimizer.step(closure=closure)
            else:
                closure()
                if by_hand is not None:
                    by_hand(model, step)
                optimizer.step()
        assert [answer.status for answer in commander.answers()] == ["applied"] * len(commands)
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other))


@pytest.mark.parametrize("kind", ["sgd", "adam", "lbfgs", "closure"])
@pytest.mark.parametrize("how", ["norm", "value"])
def test_clipping_is_what_torch_does(kind: str, how: str) -> None:
    clip: Any = nn.utils.clip_grad_norm_ if how == "norm" else nn.utils.clip_grad_value_

    def by_hand(model: nn.Module, step: int) -> None:
        if 3 < step <= 7:
            clip(model.parameters(), 0.3)

    wanted = run(kind, {}, by_hand)
    assert same(wanted, run(kind, {3: ("clip", {how: 0.3}), 7: ("clip", {})}))
    assert not same(wanted, run(kind, {}))


@pytest.mark.parametrize("kind", ["sgd", "adam", "closure"])
@pytest.mark.parametrize("pattern", ["0", "0.*", "Sequential.0", "[01].weight"])
def test_frozen_parameters_do_not_move(kind: str, pattern: str) -> None:
    frozen = ["0.weight", "1.weight"] if "[" in pattern else ["0.weight", "0.bias"]

    def by_hand(model: nn.Module, step: int) -> None:
        if 3 < step <= 7:
            for name, parameter in model.named_parameters():
                if name in frozen:
                    parameter.grad = None

    wanted = run(kind, {}, by_hand)
    assert same(wanted, run(kind, {3: ("freeze", {"pattern": pattern}), 7: ("unfreeze", {})}))
    assert not same(wanted, run(kind, {}))


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("freeze", {"pattern": "encoder.*"}, "no trained parameter is called 'encoder.*'"),
        ("freeze", {"pattern": "*"}, "would freeze every parameter"),
        ("unfreeze", {"pattern": "*"}, "no parameter is frozen here"),
        ("clip", {"norm": 1.0, "value": 1.0}, "not both"),
        ("clip", {"norm": 0.0}, "> 0"),
        ("freeze", {}, "missing required field `pattern`"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, args: dict[str, Any], said: str) -> None:
    model = model_of()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with desk() as commander:
        model(torch.ones(4, 3)).sum().backward()
        commander.send(name, **args)
        optimizer.step()
        (answer,) = commander.answers()
    assert answer.status == "refused"
    assert said in answer.reason


def test_under_a_fused_optimizer_and_a_scaler_the_true_gradient_is_clipped() -> None:
    """A fused optimizer divides by the scaler's factor within its step."""

    def play(fused: bool) -> torch.Tensor:
        torch.manual_seed(3)
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        with desk() as commander:
            for step in range(5):
                optimizer.zero_grad()
                scaler.scale(model(torch.full((2, 4), float(step + 1))).pow(2).sum()).backward()
                if step == 1:
                    commander.send("clip", norm=0.5)
                scaler.step(optimizer)
                scaler.update()
        return model.weight.detach().clone()

    assert torch.allclose(play(True), play(False), rtol=1e-5)
