"""TIES merging (Yadav et al. 2023): what each parent has changed of the base is trimmed, and its signs elected.

Of each parent's change the ``density`` largest by magnitude stay; for each number the sign with the larger sum of
magnitudes wins; the mean of the changes of that sign, times ``scale``, is added to the base.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from onthefly.errors import Refused

if TYPE_CHECKING:
    from onthefly.merging.parents import Parents, State

DENSITY = 0.2
"""The paper's: the top 20 % of each parent's changes."""


def ties(parents: Parents, density: float = DENSITY, scale: float = 1.0) -> State:
    """The base plus the elected mean; trimmed tensor by tensor."""
    if not 0.0 < density <= 1.0 or not math.isfinite(scale):
        raise Refused(f"density is above 0 and up to 1, not {density:g}, and scale a finite number")

    def combine(name: str, stacked: Tensor) -> Tensor:
        base = parents.based(name)
        return base + scale * elected(torch.stack([trimmed(one - base, density) for one in stacked]))

    return parents.combined(combine)


def trimmed(change: Tensor, density: float) -> Tensor:
    """The largest by magnitude, so many of them (at least one), the others zero."""
    keep = max(1, round(density * change.numel()))
    if keep >= change.numel():
        return change
    order = change.abs().flatten().argsort(descending=True, stable=True)  # of equal ones the first
    mask = torch.zeros(change.numel(), dtype=torch.bool, device=change.device)
    mask[order[:keep]] = True
    return change * mask.reshape(change.shape)


def elected(changes: Tensor) -> Tensor:
    """The mean of those changes (first axis) that have the sign of their sum; zero where nobody changed anything."""
    sign = changes.sum(0).sign()
    agree = (changes.sign() == sign) & (changes != 0)
    return (changes * agree).sum(0) / agree.sum(0).clamp_min(1)
