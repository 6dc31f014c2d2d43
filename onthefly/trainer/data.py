"""Batches and their order: how many samples one holds, how it reaches the device, in which order loaders draw."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from onthefly.errors import report

POLICIES = ("user", "epoch_reseed", "fixed_order")


def moved(batch: Any, device: torch.device) -> Any:
    """The batch on that device: whatever in its containers has ``to``; containers keep their type."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, Mapping):
        parts: Any = {name: moved(part, device) for name, part in batch.items()}
        return parts if type(batch) is dict else _again(batch, parts)
    if isinstance(batch, (tuple, list)):
        found = [moved(part, device) for part in batch]
        if hasattr(batch, "_fields"):  # a named tuple
            return type(batch)(*found)
        return found if type(batch) is list else _again(batch, found)
    return batch


def _again(container: Any, parts: Any) -> Any:
    """The parts in a container of that kind, or as they are if it cannot be made from them."""
    try:
        return type(container)(parts)
    except TypeError:
        return parts


def size(batch: Any) -> int:
    """How many samples are in it: the length of the first tensor that has one."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 1
    parts: Any = batch.values() if isinstance(batch, Mapping) else batch
    if isinstance(parts, (str, bytes)) or not hasattr(parts, "__iter__"):
        return 1
    tensors = [part for part in parts if isinstance(part, Tensor) and part.dim()]
    return len(tensors[0]) if tensors else 1


def seed_all(seed: int) -> None:
    """Seed the generators of Python, torch, and NumPy where it is loaded."""
    random.seed(seed)
    torch.manual_seed(seed)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


class Order:
    """In which order a loader draws its samples.

    ``user``: as the loader was made. ``fixed_order``: every epoch as the first, ``epoch_reseed``: the seed and the
    number of the epoch decide, so that an epoch draws the same whatever came before; both through a seeded generator
    that the loader and its sampler get, which are never replaced. A sampler with ``set_epoch`` is told the epoch, as
    in any loop that trains in ranks.
    """

    def __init__(self, loader: Any, policy: str, seed: int) -> None:
        self._policy, self._seed = policy, seed
        inner = getattr(loader, "batch_sampler", None)
        outer: Any = getattr(loader, "sampler", None)
        self._samplers: list[Any] = [one for one in (outer, inner) if hasattr(one, "set_epoch")]
        self._generator: Any = None
        if policy != "user":
            self._generator = getattr(loader, "generator", None) or torch.Generator()
            loader.generator = self._generator
            self._give_to(outer, inner)

    def _give_to(self, *samplers: Any) -> None:
        drawn = [one for one in samplers if hasattr(one, "generator")]
        for sampler in drawn:
            sampler.generator = self._generator
        known = (torch.utils.data.SequentialSampler, torch.utils.data.BatchSampler)
        for sampler in samplers:
            if not (sampler is None or sampler in drawn or isinstance(sampler, known) or hasattr(sampler, "set_epoch")):
                report(f"data_order_policy has no effect on {type(sampler).__name__}: it has no generator to seed")

    def begin(self, epoch: int) -> None:
        """An epoch is about to begin."""
        for sampler in self._samplers:
            sampler.set_epoch(0 if self._policy == "fixed_order" else epoch)
        if self._generator is not None:
            self._generator.manual_seed(self._seed + (epoch if self._policy == "epoch_reseed" else 0))
