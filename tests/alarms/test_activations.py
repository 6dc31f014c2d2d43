"""Dead activations: measured for one step, and nothing else is different."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from onthefly.alarms.activations import DeadActivations


def model() -> Any:
    torch.manual_seed(0)
    net: Any = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True)), nn.Dropout(0.5), nn.GELU()
    )
    with torch.no_grad():
        net[2][0].bias.fill_(-100.0)
    return net


def step(net: nn.Module) -> list[Tensor]:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer.zero_grad()
    net(torch.randn(16, 4)).square().mean().backward()
    optimizer.step()
    return [parameter.detach().clone() for parameter in net.parameters()]


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in net.modules())


def test_dead_modules_are_named_and_the_step_is_the_same() -> None:
    net = model()
    plain = step(copy.deepcopy(net))
    probe = DeadActivations()
    assert probe.install(net) == 2
    watched = step(net)
    state = torch.get_rng_state()
    (found,) = probe.remove(5)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one, other) for one, other in zip(plain, watched))
    assert found.step == 5
    assert found.text == "2.1 gives 100.0% zeros at step 5"
    assert set(probe.measured) == {"1", "2.1"}
    assert 0.2 < probe.measured["1"] < 0.8
    assert hooks(net) == 0


def test_shares_are_over_all_calls_of_the_step() -> None:
    net, probe = nn.ReLU(), DeadActivations(dead=0.5)
    probe.install(net)
    net(torch.tensor([1.0, 1.0, -1.0]))
    net(torch.tensor([-1.0]))
    (found,) = probe.remove(0)
    assert probe.measured == {"": 0.5}
    assert found.text.startswith("the model gives 50.0%")


def test_the_hooks_are_taken_out_after_an_exception_and_where_nothing_ran() -> None:
    net, probe = model(), DeadActivations()
    probe.install(net)
    with pytest.raises(RuntimeError):
        net(torch.randn(3, 5))
    assert probe.remove(0) == []
    assert hooks(net) == 0
    assert probe.measured == {}


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*jit.*:DeprecationWarning")
@pytest.mark.parametrize("how", ["wrapped", "in place", "script"])
def test_compiled_parts_are_left_alone(how: str) -> None:
    net, probe = model(), DeadActivations()
    if how == "wrapped":
        net[2] = torch.compile(net[2], backend="eager")
    elif how == "in place":
        net[2].compile(backend="eager")
    else:
        scripted: Any = torch.jit.script
        net[2] = scripted(net[2])
    probe.install(net)
    step(net)
    probe.remove(0)
    assert set(probe.measured) == {"1"}
    assert all(name.startswith("2.") for name in probe.skipped)
    assert len(probe.skipped) == (0 if how == "script" else 1)
    assert hooks(net) == 0
