"""Leaves data sets as they were, what they count and draw with, where samples are fetched that no script asked for.

Their own state is in no checkpoint, since it goes with what they have delivered (:mod:`onthefly.state.deliveries`).
"""

from __future__ import annotations

import contextlib
from collections import deque
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import torch

from onthefly.state.random import generator_of, generators_in

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

MOST = 500
"""Objects that are looked at; a data set within others, with its transforms, has some ten."""

MOST_PARTS = 64
"""Of a list of transforms."""

_OTHER = (type, FunctionType, ModuleType, torch.Tensor, torch.nn.Module)

_BUSY = {"threading", "queue", "multiprocessing", "concurrent", "asyncio", "logging", "socket", "subprocess"}
"""Modules whose objects belong to threads and processes, which go on meanwhile: they are not put back."""


@contextlib.contextmanager
def as_they_were(roots: Iterable[Any]) -> Generator[None, None, None]:
    """While the block lasts samples may be fetched; then attributes and generators are what they were.

    What they hold in containers (a cache of samples) stays as the fetches have left it.
    """
    held = list(roots)
    attributes = [(one, dict(vars(one))) for one in _objects(held)]
    generators = [
        (one, kind, kind.read(one))
        for root in held
        for one in generators_in(root)
        for kind in [generator_of(one)]
        if kind
    ]
    try:
        yield
    finally:
        for one, before in attributes:
            now = vars(one)
            if now.keys() != before.keys() or any(now[name] is not value for name, value in before.items()):
                now.clear()
                now.update(before)
        for one, kind, state in generators:
            kind.write(one, state)


def _objects(roots: Iterable[Any]) -> list[Any]:
    """Those that have attributes, the roots first."""
    found: dict[int, Any] = {}
    pending = deque(roots)
    while pending and len(found) < MOST:
        one = pending.popleft()
        if isinstance(one, (list, tuple)):
            pending.extend(one[:MOST_PARTS])  # pyright: ignore[reportUnknownArgumentType]
        elif id(one) not in found and _counts(one):
            found[id(one)] = one
            pending.extend(vars(one).values())
    return list(found.values())


def _counts(one: Any) -> bool:
    """Whether its attributes are to be as they were."""
    if isinstance(one, _OTHER) or type(one).__module__.partition(".")[0] in _BUSY:
        return False
    return type(getattr(one, "__dict__", None)) is dict
