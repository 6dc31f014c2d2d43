"""Means of weights: the uniform soup and the weighted average (Wortsman et al. 2022, "Model soups")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onthefly.merging.parents import mean, weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onthefly.merging.parents import Parents, State


def average(parents: Parents, share: Sequence[float] | None = None) -> State:
    """Each number the mean of the parents', by these shares; without any, all count alike."""
    found = weights(share, len(parents.states))
    return parents.combined(lambda name, stacked: mean(stacked, found))
