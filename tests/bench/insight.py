"""What a scan costs, beside a plain pass without gradients over the same loader with ``reduction="none"``.

On the time that this thread computes, not on the clock: the ratio is the same on a busy machine.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from onthefly.actions.insight import way_of
from onthefly.errors import Guard
from onthefly.insight.evaluation import Evaluation, Watch
from onthefly.insight.recipe import Recipe
from onthefly.insight.rows import Rows
from onthefly.insight.split import Split
from onthefly.insight.trace import Tracer
from tests.watching import Kept, watched

if TYPE_CHECKING:
    from collections.abc import Callable

PAIRS = 11


def _small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


def _dense() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 512), nn.ReLU(),
        nn.Linear(512, 10),
    )  # fmt: skip


KINDS: list[tuple[str, Callable[[], nn.Module], int, int]] = [("conv", _small, 4096, 128), ("dense", _dense, 8192, 256)]
"""Name, network, samples, batch size."""


def _recipe(network: nn.Module, loader: Any) -> Recipe:
    found: list[Recipe] = []
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    tracer = Tracer(Guard("tracing", strict=True), lambda step: found.append(Recipe(step)))
    tracer.begin()
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), targets).backward()
        optimizer.step()
        break
    tracer.end()
    return found[0]


def scans(kept: Kept) -> dict[str, tuple[float, float, float]]:
    """By kind: the median of the ratios, and seconds of a plain pass and of a scan (the least)."""
    torch.set_num_threads(1)
    found: dict[str, tuple[float, float, float]] = {}
    for name, make, count, size in KINDS:
        torch.manual_seed(0)
        network = make()
        loader: Any = DataLoader(TensorDataset(torch.randn(count, 1, 28, 28), torch.randint(0, 10, (count,))), size)
        way, lender = way_of(_recipe(network, loader)), kept.session._recorder.lender

        def scan(way: Any = way, loader: Any = loader, lender: Any = lender) -> float:
            start = time.thread_time()
            rows = Rows(lambda message: None, {"run": "bench", "evaluation": "scan_1", "kind": "scan", "step": 0,
                                               "epoch": 0, "backward": 0, "loader": "loader0"})  # fmt: skip
            watch = Watch(lambda done, of: None, lambda: False)
            Evaluation(Split(loader, "loader0"), way, lender, rows, watch).run("eval", {}, None)
            return time.thread_time() - start

        def plain(network: nn.Module = network, loader: Any = loader) -> float:
            start = time.thread_time()
            network.eval()
            with torch.no_grad():
                torch.cat([F.cross_entropy(network(x), y, reduction="none") for x, y in loader])
            network.train()
            return time.thread_time() - start

        pairs = [(plain(), scan()) for _ in range(PAIRS)]
        least = min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
        found[name] = statistics.median(b / a for a, b in pairs), *least
    return found


def main() -> None:
    """Print them."""
    with watched() as kept:
        for name, (ratio, plain, scan) in scans(kept).items():
            print(f"scan {name:6} plain pass {plain * 1e3:7.1f} ms   ratio of minima {scan / plain:.3f}   "
                  f"median of {PAIRS} pairs {ratio:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
