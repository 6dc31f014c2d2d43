"""Live metrics: their values are right, they come as seldom as they must, and the run is what it would be."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from onthefly.core.gate import Place
from onthefly.core.meter import Meter
from onthefly.health import live
from onthefly.health.live import COSTS, MARGIN, MOST_STEPS, SHARE, Live
from onthefly.health.zeros import relus
from onthefly.protocol import Metrics
from tests.watching import watched

pytestmark = pytest.mark.dear

NAMES = ("grad_norm", "weight_norm", "activation_zeros")


def model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


def train(steps: int, seen: list[dict[str, float]] | None = None) -> Any:
    """What is left of the run; ``seen`` gets what the metrics must be at each step."""
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    zeros: list[torch.Tensor] = []
    handles: list[Any] = []
    if seen is not None:
        look: Any = lambda module, given, output: zeros.append(torch.eq(output, 0))  # noqa: E731
        handles = [part.register_forward_hook(look) for part in network.modules() if isinstance(part, nn.ReLU)]
    for step in range(steps):
        zeros.clear()
        inputs = torch.randn(16, 6)
        optimizer.zero_grad()
        (network(inputs) - inputs.sum(1, keepdim=True)).pow(2).mean().backward()
        if seen is not None:
            norms = {"grad_norm": [part.grad for part in network.parameters()], "weight_norm": network.parameters()}
            seen.append({name: float(torch.cat([part.detach().flatten() for part in parts if part is not None]).norm())
                         for name, parts in norms.items()})  # fmt: skip
            seen[step]["activation_zeros"] = float(torch.cat([part.flatten() for part in zeros]).float().mean())
        optimizer.step()
    for handle in handles:
        handle.remove()
    return [*(part.detach() for part in network.parameters()), torch.get_rng_state()]


def test_values_are_those_of_their_step() -> None:
    seen: list[dict[str, float]] = []
    with watched(ONTHEFLY_STRICT="1") as kept:
        train(700, seen)
    found = 0
    for message in kept.messages:
        if isinstance(message, Metrics) and "grad_norm" in message.values:
            (step,) = array("q", message.step)
            for name in NAMES:
                assert array("d", message.values[name])[0] == pytest.approx(seen[step][name], rel=1e-4), (step, name)
            found += 1
    assert found >= 1
    assert found < 700 / 10


def test_the_run_is_bit_for_bit_what_it_would_be() -> None:
    without = train(700)
    with watched(ONTHEFLY_STRICT="1") as kept:
        ended = train(700)
        assert kept.metric("weight_norm")
    assert all(torch.equal(one, two) for one, two in zip(ended, without))


class Played:
    """Live metrics without a session: steps of a given length, looks of a given cost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost_ms: float) -> None:
        self.now, self.step, self.looks = 0, 0, list[int]()
        self.sent: list[Metrics] = []
        self.notices: list[str] = []
        self.network = model()
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.1)
        self.live = Live(Meter(), lambda: Place(self.step, 0), self.emit, lambda: "baseline",
                         lambda text, remedy: self.notices.append(text), lambda: None)  # fmt: skip
        self.cost_ms = cost_ms
        monkeypatch.setattr(live, "perf_counter_ns", lambda: self.now)

    def emit(self, message: Metrics) -> None:
        self.sent.append(message)
        self.now += int(self.cost_ms * 1e6)

    def block(self, step_ms: float, steps: int = 50) -> None:
        """So many steps, then a block of them is recorded."""
        for _ in range(steps):
            if self.live.wanted:
                self.looks.append(self.step)
                self.live.look_before(self.optimizer)
            self.step += 1
        column = array("q", range(self.step - steps, self.step)).tobytes()
        self.live.take(Metrics(run="baseline", step=column, epoch=b"", time=b"",
                               values={"step_ms": array("d", [step_ms] * steps).tobytes()}))  # fmt: skip


@pytest.mark.parametrize(("cost_ms", "step_ms"), [(0.2, 1.0), (0.2, 0.3), (50.0, 60.0), (3.0, 1.5)])
def test_looks_take_their_share_of_the_time_and_no_more(
    monkeypatch: pytest.MonkeyPatch, cost_ms: float, step_ms: float
) -> None:
    played = Played(monkeypatch, cost_ms)
    for _ in range(400):
        played.block(step_ms)
    looks = [step for step in played.looks if step > 5000]
    assert looks
    assert not played.live.off
    assert len(looks) * cost_ms <= SHARE * 15_000 * step_ms / MARGIN + cost_ms
    gaps = [after - before for before, after in zip(looks, looks[1:])]
    assert not gaps or min(gaps) >= played.live.every


def test_they_are_off_where_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, cost_ms=MOST_STEPS * SHARE * 2)
    for _ in range(COSTS * 200):
        played.block(1.0)
    assert played.live.off
    assert len(played.looks) == COSTS
    assert len(played.notices) == 1
    assert "are off" in played.notices[0]


def test_a_rewind_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, 0.2)
    for _ in range(100):
        played.block(1.0)
    before = len(played.looks)
    played.step = 0
    for _ in range(40):
        played.block(1.0)
    assert len(played.looks) > before


class Counter(TorchDispatchMode):
    """Counts operators, as FLOP counters and profilers do."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] = self.counts.get(str(func), 0) + 1
        return func(*args, **(kwargs or {}))


def test_what_is_measured_elsewhere_is_left_alone() -> None:
    with Counter() as alone:
        train(300)
    with watched(ONTHEFLY_STRICT="1") as kept:
        with Counter() as counter:
            train(300)
        assert kept.session._control.health._live.wanted, "a look was ordered, and waits until nobody counts"
        assert not kept.metric("grad_norm")
    assert counter.counts == alone.counts


def test_losses_under_a_scaler_have_the_norm_that_is_stepped_with() -> None:
    norms: list[float] = []
    with watched(ONTHEFLY_STRICT="1") as kept:
        network, scaler = model(), torch.amp.GradScaler("cpu", init_scale=1024.0)
        optimizer = torch.optim.SGD(network.parameters(), 0.001)
        for _ in range(300):
            optimizer.zero_grad()
            loss = network(torch.randn(8, 6)).pow(2).mean()
            scaler.scale(loss).backward()
            norms.append(float(torch.cat([part.grad.flatten() for part in network.parameters()]).norm()) / 1024.0)  # pyright: ignore[reportOptionalMemberAccess]
            scaler.step(optimizer)
            scaler.update()
        found = kept.metric("grad_norm")
    assert found
    assert all(any(value == pytest.approx(norm, rel=1e-4) for norm in norms) for value in found)


def test_a_graph_that_is_freed_has_no_zeros_to_look_at() -> None:
    """The script catches what the second call raises."""
    loss = model()(torch.randn(4, 6)).sum()
    assert len(relus([loss])) == 2
    loss.backward()
    assert not relus([loss])


def test_a_fault_of_ours_ends_them_and_not_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(live, "total", fail)
    without = train(400)
    with watched(ONTHEFLY_STRICT="0") as kept:
        ended = train(400)
        health = kept.session._control.health
        assert health._live.off
        assert kept.session._gate.prepare is None
        assert kept.session._gate.watch is None
        assert not kept.metric("grad_norm")
    assert all(torch.equal(one, two) for one, two in zip(ended, without))
