"""Small models of one structure, as parents of a merge."""

from __future__ import annotations

import torch
from torch import nn

from onthefly.merging.parents import Parents, State


def net() -> nn.Sequential:
    """A classifier with a BatchNorm, eight inputs, three classes."""
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def trained(count: int, seed: int = 0) -> tuple[State, list[State]]:
    """A base and so many models that went on from it on data of their own."""
    torch.manual_seed(seed)
    model = net()
    base = copied(model)
    states: list[State] = []
    for _ in range(count):
        model.load_state_dict(base)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        states.append(copied(model))
    return base, states


def copied(model: nn.Module) -> State:
    """Its state, of its own memory."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def parents(count: int = 3, seed: int = 0) -> Parents:
    """So many of them, named, with their base."""
    base, states = trained(count, seed)
    return Parents({f"fork{number}": state for number, state in enumerate(states, 1)}, base)
