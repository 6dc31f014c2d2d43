"""The greedy soup (Wortsman et al. 2022, algorithm 1): parents go into the mean while that does not get worse."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Callable

from onthefly.errors import Refused
from onthefly.merging.averaging import average
from onthefly.merging.parents import Parents, State

if TYPE_CHECKING:
    from collections.abc import Sequence

Score = Callable[[State], float]
"""How good a model is on the held-out split; higher is better. Its statistics are re-estimated by whoever scores."""


def greedy(parents: Parents, score: Score) -> tuple[State, Sequence[str]]:
    """The soup, and the names of those that are in it, best first. Refused where a score is not a number."""
    scores = {name: score(state) for name, state in zip(parents.names, parents.states)}
    if not all(math.isfinite(value) for value in scores.values()):
        raise Refused("a model's score is not a finite number", "test the runs first")
    states = dict(zip(parents.names, parents.states))
    order = sorted(scores, key=lambda name: -scores[name])  # stable: of two alike the first
    chosen, soup, best = [order[0]], dict(states[order[0]]), scores[order[0]]
    for name in order[1:]:
        tried = average(Parents({one: states[one] for one in [*chosen, name]}, parents.base))
        value = score(tried)
        if value >= best:
            chosen, soup, best = [*chosen, name], tried, value
    return soup, chosen
