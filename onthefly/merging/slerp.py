"""Spherical interpolation of two models (Shoemake 1985): along the arc between them, so that the norm does not sink."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from onthefly.errors import Refused

if TYPE_CHECKING:
    from onthefly.merging.parents import Parents, State

NEARLY_PARALLEL = 1.0 - 1e-7
"""Of a cosine above that the arc is a line to the last digits, and its formula divides by nearly nothing."""


def slerp(parents: Parents, t: float = 0.5) -> State:
    """``sin((1-t) a)/sin(a) x + sin(t a)/sin(a) y`` for each entry, ``a`` the angle between the two as vectors."""
    if len(parents.states) != 2:
        raise Refused(f"slerp takes two models, not {len(parents.states)}")
    if not 0.0 <= t <= 1.0:
        raise Refused(f"t is from 0 (the first) to 1 (the second), not {t:g}")

    def combine(name: str, stacked: Tensor) -> Tensor:
        one, other = stacked
        norms = torch.linalg.vector_norm(one) * torch.linalg.vector_norm(other)
        cosine = float(torch.sum(one * other.conj()).real / norms) if float(norms) else 1.0
        if abs(cosine) > NEARLY_PARALLEL:
            return (1.0 - t) * one + t * other
        angle = math.acos(cosine)
        return (math.sin((1.0 - t) * angle) * one + math.sin(t * angle) * other) / math.sin(angle)

    return parents.combined(combine)
