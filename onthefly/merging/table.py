"""Every strategy by which models are merged, and what each needs beside the models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.errors import Refused
from onthefly.merging import adapters, averaging, dare, distill, fisher, regmean, slerp, soup, ties

if TYPE_CHECKING:
    from collections.abc import Callable


class Strategy(NamedTuple):
    """One way of making one model out of several."""

    name: str
    says: str
    """What it does, for a person who chooses."""
    function: Callable[..., Any]
    needs: tuple[str, ...] = ()
    """Of ``base`` (the model that all began from), ``data``, ``held out`` (a split that none has trained on)."""
    takes: tuple[str, ...] = ()
    """Numbers that can be given to it, and ``weights``, one for each model."""


STRATEGIES = {
    row.name: row
    for row in [
        Strategy("uniform", "the mean of all", averaging.average),
        Strategy("weighted", "the mean, each by its share", averaging.average, takes=("weights",)),
        Strategy("greedy", "the mean of those with which it does not get worse", soup.greedy, ("held out",)),
        Strategy(
            "fisher", "each number by how much the data pin it down", fisher.fisher, ("data",), ("weights", "samples")
        ),
        Strategy(
            "regmean",
            "linear layers that come closest to all outputs",
            regmean.regmean,
            ("data",),
            ("alpha", "samples"),
        ),
        Strategy("ties", "the largest changes, of the sign that prevails", ties.ties, ("base",), ("density", "scale")),
        Strategy("dare", "a random part of the changes, scaled up", dare.dare, ("base",), ("weights", "drop")),
        Strategy("slerp", "along the arc between two", slerp.slerp, takes=("t",)),
        Strategy("adapters", "the mean of adapters on one model", adapters.fuse, takes=("weights",)),
        Strategy(
            "distill",
            "a student of all of them, for some steps",
            distill.distill,
            ("data",),
            ("steps", "lr", "temperature"),
        ),
    ]
}


def strategy(name: str) -> Strategy:
    """The row of that name; refused if there is none: nothing else is taken in its place."""
    if name not in STRATEGIES:
        raise Refused(f"there is no strategy {name!r}", f"known: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
