"""From one pause point to the next, inside ``optimizer.step``, in loops with all that scripts do between."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.data import DataLoader, TensorDataset

from onthefly.alarms.origin import Origin
from onthefly.errors import Guard
from tests.alarms.planted import Log, mlp

if TYPE_CHECKING:
    from collections.abc import Generator

BAD = 5
"""The step of whose batch a logarithm is taken of 0."""


class Watch:
    """Looks for the origin of one step, from the end of the step before it to its own end."""

    def __init__(self) -> None:
        self.origin = Origin(Guard("looking for the origin", strict=True))
        self.step, self.gone = 0, False

    def __call__(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.step += 1
        if self.step == BAD:
            self.origin.enter()
        elif self.step == BAD + 1:
            self.gone = self.origin.exit()


@pytest.fixture
def watch() -> Generator[Watch, None, None]:
    made = Watch()
    handle = register_optimizer_step_post_hook(made)
    yield made
    handle.remove()
    assert made.gone
    assert _get_current_dispatch_mode_stack() == []


class Net(nn.Module):
    """Whose plant gives ``-inf`` for negative samples alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x).abs() + 1
        return (y * (x[:, :1] >= 0)).log()


def batches(workers: int) -> DataLoader[Any]:
    x = torch.rand(8 * 8, 8)
    x[8 * BAD] = -1.0
    return DataLoader(TensorDataset(x), batch_size=8, num_workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_loop(watch: Watch, workers: int, scaled: bool) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled, init_scale=16.0)
    steps: list[bool] = []
    for _ in range(2):
        for (x,) in batches(workers):
            optimizer.zero_grad()
            loss = net(x).mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            steps.append(bool(loss.isfinite()))
    found = watch.origin.found
    assert found is not None
    assert steps.index(False) == BAD
    assert (found.operation, found.kind, found.phase, found.model) == ("aten::log", "inf", "forward", "Net")
    assert "in forward" in found.line


def test_hooks_of_the_step_and_several_optimizers(watch: Watch) -> None:
    net, other = nn.Linear(8, 8), Net()
    optimizers = [torch.optim.Adam(net.parameters()), torch.optim.Adam(other.parameters())]
    for number in range(8):
        for part, optimizer in zip((net, other), optimizers):
            x = -torch.rand(4, 8) if part is other and number == BAD // 2 else torch.rand(4, 8)
            optimizer.zero_grad()
            part(x).mean().backward()
            torch.nn.utils.clip_grad_norm_(part.parameters(), 1.0)
            optimizer.step()
    assert watch.origin.found is not None
    assert (watch.origin.found.operation, watch.origin.found.model) == ("aten::log", "Net")


def test_another_thread_is_not_watched_and_cannot_end_it() -> None:
    origin = Origin(Guard("looking for the origin", strict=True))
    origin.enter()
    ended: list[bool] = []

    def other() -> None:
        ended.append(origin.exit())
        mlp((1, Log()))(torch.rand(4, 8))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert ended == [False]
    assert origin.found is None
    assert origin.exit()
    assert _get_current_dispatch_mode_stack() == []
