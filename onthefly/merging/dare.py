"""DARE (Yu et al. 2024): most of each parent's change is dropped at random, the rest scaled up, and then merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from onthefly.errors import Refused
from onthefly.merging.parents import mean, weights
from onthefly.merging.ties import elected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onthefly.merging.parents import Parents, State

DROP = 0.9
"""The share that is dropped: the paper's for language models of billions of parameters; give less for small ones."""


def dare(
    parents: Parents, seed: int, drop: float = DROP, share: Sequence[float] | None = None, *, elect: bool = False
) -> State:  # fmt: skip
    """The base plus the mean of the parents' changes, each kept with probability ``1 - drop`` and divided by that.

    ``elect``: only those with the sign of their sum, as TIES does. The same seed gives the same model.
    """
    if not 0.0 <= drop < 1.0:
        raise Refused(f"what is dropped is from 0 to below 1, not {drop:g}")
    generator = torch.Generator().manual_seed(seed)
    found = weights(share, len(parents.states))

    def combine(name: str, stacked: Tensor) -> Tensor:
        base = parents.based(name)
        kept = torch.rand(stacked.shape, generator=generator) >= drop  # on the host: the same on every device
        changes = (stacked - base) * kept.to(stacked.device) / (1.0 - drop)
        return base + (elected(changes) if elect else mean(changes, found))

    return parents.combined(combine)
