"""Reads samples of a data set by index, and leaves it and all random states as they were.

What a data set draws from the global generators is put back, and what it draws from generators of its own (found in
its attributes, and theirs); attributes that a fetch has replaced (a counter, a file opened at the first access) are
put back too. What it changes in place (a cache that is filled) stays.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import torch

from onthefly.state.random import RandomStates, generator_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

MAX_OBJECTS, MAX_DEPTH = 200, 4


@contextlib.contextmanager
def as_it_was(dataset: Any) -> Generator[None, None, None]:
    """Around fetches from that data set."""
    states = RandomStates.take()
    parts = list(_parts(dataset))
    attributes = [(part, dict(vars(part))) for part in parts if hasattr(part, "__dict__")]
    own = [(part, kind, kind.read(part)) for part in parts if (kind := generator_of(part)) is not None]
    enabled = torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_grad_enabled(enabled)
        for part, before in attributes:
            now: dict[str, Any] = vars(part)
            for name in [name for name in now if name not in before]:
                del now[name]
            for name, value in before.items():
                if now.get(name) is not value:
                    now[name] = value
        for part, kind, state in own:
            kind.write(part, state)
        states.put_back()


def _parts(dataset: Any) -> Iterator[Any]:
    """The data set and what it is made of: subsets' data sets, transformations, generators; no tensors, no arrays."""
    seen: set[int] = set()
    level: list[Any] = [dataset]
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for one in level:
            if id(one) in seen or len(seen) >= MAX_OBJECTS or isinstance(one, (str, bytes, int, float, type)):
                continue
            if isinstance(one, (list, tuple)) and len(one) <= 50:  # pyright: ignore[reportUnknownArgumentType]
                following.extend(one)  # pyright: ignore[reportUnknownArgumentType]
                continue
            if isinstance(one, torch.Tensor) or hasattr(one, "tobytes"):
                continue
            seen.add(id(one))
            yield one
            following.extend(vars(one).values() if hasattr(one, "__dict__") else ())
        level = following


def spread(count: int) -> Iterator[int]:
    """All places below ``count``, each once, those that follow each other far apart; nothing is drawn for it."""
    step = max(1, round(count * 0.6180339887))
    while math.gcd(step, count) != 1:
        step += 1
    place = 0
    for _ in range(count):
        yield place
        place = (place + step) % count


def places(loader: Any) -> Any:
    """The indices that a loader draws from its data set: a list where its sampler has one, else a range.

    None for a stream, or a data set without a length.
    """
    dataset: Any = getattr(loader, "dataset", getattr(loader, "_dataset", None))
    if dataset is None or isinstance(dataset, torch.utils.data.IterableDataset):
        return None
    indices: Any = getattr(getattr(loader, "sampler", None), "indices", None)
    if isinstance(indices, (list, tuple, range)):
        return indices  # pyright: ignore[reportUnknownVariableType]
    try:
        return range(len(dataset))
    except (TypeError, NotImplementedError):
        return None
