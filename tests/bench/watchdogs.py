"""``python -m tests.bench.watchdogs``: what the watchdogs, a condition and the search for an origin cost.

Ratios to an optimizer's step where tensors are read, microseconds a step elsewhere; one thread, lowest tenth of many.
"""

from __future__ import annotations

import random
import statistics
from array import array
from time import perf_counter_ns
from typing import TYPE_CHECKING

import torch
from torch import nn

from onthefly.alarms.memory import MemoryGrowth, resident
from onthefly.alarms.nonfinite import NonfiniteLoss, grads_finite, parameters_finite
from onthefly.alarms.spikes import LossSpike
from onthefly.alarms.stalls import LoaderStall
from onthefly.core.conditions import Condition
from onthefly.core.newest import Newest
from onthefly.protocol import Metrics
from tests.alarms.planted import mlp, step, watched
from tests.alarms.test_nonfinite import block

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS, TENSORS, BLOCK, BATCH = 10_000_000, 60, 32, 128


def microseconds(function: Callable[[], object], times: int) -> float:
    """The lowest tenth of so many calls."""
    taken: list[int] = []
    for _ in range(times):
        start = perf_counter_ns()
        function()
        taken.append(perf_counter_ns() - start)
    return (statistics.quantiles(taken, n=10)[0] if times > 1 else taken[0]) / 1e3


def of_tensors() -> None:
    """The checks of gradients and parameters beside Adam's step, in turn."""
    parameters = [nn.Parameter(torch.randn(NUMBERS // TENSORS)) for _ in range(TENSORS)]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    for fused in (False, True):
        optimizer = torch.optim.Adam(parameters, lr=1e-9, fused=fused)
        kinds: dict[str, Callable[[], object]] = {
            "step": optimizer.step,
            "grads_finite": lambda optimizer=optimizer: grads_finite(optimizer),
            "parameters_finite": lambda optimizer=optimizer: parameters_finite(optimizer),
        }
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(40):  # in turn: the machine may be busy with something else
            for name, function in kinds.items():
                taken[name].append(microseconds(function, 1) / 1e3)
        lowest = {name: statistics.quantiles(each, n=10)[0] for name, each in taken.items()}
        for name in list(kinds)[1:]:
            print(
                f"{name}, {NUMBERS // 10**6} M numbers in {TENSORS} tensors: {lowest[name]:.2f} ms, "
                f"{lowest[name] / lowest['step']:.3f} of a step of Adam{' (fused)' if fused else ''}"
            )


def of_numbers() -> None:
    """The free watchdogs, for one step each."""
    draw = random.Random(0)
    losses = [2.3 + draw.gauss(0, 0.1) for _ in range(4096)]
    spike, stall, growth, nonfinite, newest = LossSpike(), LoaderStall(), MemoryGrowth(), NonfiniteLoss(), Newest()
    condition = Condition.parse("step > 100 and mean(loss, 100) < 0.3")
    newest.listen([*condition.names, "data_ms", "step_ms"])
    message = block([(loss, [loss] * BATCH) for loss in losses[:BLOCK]])
    column = array("d", losses[:BLOCK]).tobytes()
    rows = Metrics(
        run="baseline", step=array("q", range(BLOCK)).tobytes(), epoch=bytes(4 * BLOCK), time=bytes(8 * BLOCK),
        values={"data_ms": column, "step_ms": column, "lr": column},
    )  # fmt: skip

    def blocks() -> None:
        newest.take(message)
        newest.take(rows)

    many = {
        "loss-spike": lambda: [spike.take(number, loss) for number, loss in enumerate(losses)],
        "loader-stall": lambda: [stall.take(number, 0, loss, 20.0) for number, loss in enumerate(losses)],
        "memory-growth": lambda: [growth.take(number, 1e9 + loss) for number, loss in enumerate(losses)],
    }
    for name, function in many.items():
        print(f"{name}: {microseconds(function, 20) / len(losses):.2f} us a step")
    print(f"nonfinite-loss: {microseconds(lambda: nonfinite.take(message), 2000) / BLOCK:.2f} us a step")
    print(f"newest values of five metrics: {microseconds(blocks, 2000) / BLOCK:.2f} us a step")
    for _ in range(10):
        newest.take(message)
    print(f"reading the process's memory: {microseconds(resident, 2000):.2f} us")
    print(f"asking '{condition.text}': {microseconds(lambda: condition.holds(newest.get, newest.window), 2000):.2f} us")


def of_the_origin() -> None:
    """A watched step beside a plain one."""
    net, x = mlp(depth=8, width=256), torch.rand(128, 256)
    plain = microseconds(lambda: step(net, x), 100)

    def looked_at() -> None:
        with watched():
            step(net, x)

    print(f"a step in which the origin is sought: {microseconds(looked_at, 100) / plain:.1f} times a plain one")


if __name__ == "__main__":
    torch.set_num_threads(1)
    of_tensors()
    of_numbers()
    of_the_origin()
