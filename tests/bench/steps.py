"""Runs under OnTheFly: epochs with the hooks armed and switched off in turn, and how long each took, as JSON.

With ``watch`` in the place of the number of pairs, epochs with the hooks armed, without end.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, TensorDataset

import onthefly.sessions
from onthefly.patching.slots import _MISSING

STEPS = {"small": 128, "large": 40}
"""An epoch: some 80 ms, and half a second."""


def model(size: str) -> tuple[nn.Module, TensorDataset]:
    """``small``: a step of a fraction of a millisecond; ``large``: some 15 ms."""
    count = 128 * STEPS[size]
    if size == "small":
        net: nn.Module = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
        return net, TensorDataset(torch.randn(count, 20), torch.randint(0, 10, (count,)))
    net = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    return net, TensorDataset(torch.randn(count, 512), torch.randint(0, 10, (count,)))


def switch(on: bool) -> None:
    """Put all hooks in place, or take them out: what is compared is a script without us."""
    session: Any = onthefly.sessions._session
    if session is None:
        return
    *slotted, optimizer = session._instruments
    for instrument in slotted:
        for slot in getattr(instrument, "_slots", ()):  # the signals' has none, and costs no step anything
            if on or slot._before is not _MISSING:
                setattr(slot.owner, slot.name, slot._ours if on else slot._before)
            else:
                delattr(slot.owner, slot.name)
    for handle in optimizer._handles:
        handle.remove()
    if on:
        optimizer._handles = [
            register_optimizer_step_pre_hook(optimizer._before),
            register_optimizer_step_post_hook(optimizer._after),
        ]


def epoch(net: nn.Module, loader: DataLoader[Any], optimizer: torch.optim.Optimizer) -> float:
    """Seconds a step."""
    start = time.perf_counter()
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return (time.perf_counter() - start) / len(loader)


def main() -> None:
    """Alternate, and print."""
    torch.set_num_threads(1)
    net, data = model(sys.argv[1])
    loader = DataLoader(data, 128)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    epoch(net, loader, optimizer)
    while sys.argv[2] == "watch":  # until it is interrupted: when each epoch ended, and how long its steps took
        seconds = epoch(net, loader, optimizer)
        print(json.dumps([time.time(), seconds]), flush=True)
    found: list[tuple[float, float]] = []
    for _ in range(int(sys.argv[2])):
        switch(False)
        plain = epoch(net, loader, optimizer)
        switch(True)
        found.append((plain, epoch(net, loader, optimizer)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
