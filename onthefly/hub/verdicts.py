"""What a comparison of runs says, in words: who is better or worse on what, as far as the intervals tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onthefly.protocol import Compared, ComparedPart

FEWEST = 10
"""Samples below which nothing is said: the bootstrap of a few gives an interval that is far too narrow."""

MAX_NAMED = 5
"""Classes that are named."""

_WORDS = {-1: "better", 0: "no clear difference", 1: "worse"}


def told(runs: Sequence[str], parts: Sequence[ComparedPart], broken: Sequence[int]) -> str:
    """A sentence for each run but the first. ``broken``: losses of each run that are not finite."""
    return ". ".join(_sentence(place, runs, parts, broken) for place in range(1, len(runs)))


def side(part: ComparedPart, place: int) -> int:
    """Of that run against the first: -1 better, 1 worse, 0 neither beyond the interval."""
    one = part.runs[place]
    if one.low is None or one.high is None or part.count < FEWEST:
        return 0
    return -1 if one.high < 0 else 1 if one.low > 0 else 0


def _sentence(place: int, runs: Sequence[str], parts: Sequence[ComparedPart], broken: Sequence[int]) -> str:
    run, first = runs[place], runs[0]
    by_name = {part.name: part for part in parts}
    whole, inside, rest = (by_name.get(name) for name in ("all", "slice", "rest"))
    assert whole is not None
    if broken[place] or broken[0]:
        which = " and ".join(f"{broken[at]:,} of {runs[at]}" for at in (0, place) if broken[at])
        return f"no verdict on {run} against {first}: {which} losses are not finite"
    if inside is None or rest is None:
        said = f"{run} against {first}: {_words(whole, place)}"
    else:
        opposed = side(inside, place) * side(rest, place) < 0
        said = (f"{run} against {first}: {_words(inside, place)} on the slice {'but' if opposed else 'and'} "
                f"{_words(rest, place)} on the rest{': one at the cost of the other' if opposed else ''}, over all "
                f"{_words(whole, place)}")  # fmt: skip
    return said + _classes(place, parts)


def _words(part: ComparedPart, place: int) -> str:
    one = part.runs[place]
    if part.count < FEWEST or one.low is None or one.high is None:
        return f"too few samples to tell ({part.count})"
    if one.difference == one.low == one.high == 0:
        return "the same losses"
    return f"{_WORDS[side(part, place)]} ({_numbers(one)})"


def _numbers(one: Compared) -> str:
    return f"{one.difference:+.4g}, {one.low:+.4g} to {one.high:+.4g}"


def _classes(place: int, parts: Sequence[ComparedPart]) -> str:
    said: list[str] = []
    for sign in (-1, 1):
        names = [part.name.partition(" ")[2] for part in parts
                 if part.name.startswith("class ") and side(part, place) == sign]  # fmt: skip
        if names:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            said.append(f"{_WORDS[sign]} on class {', '.join(names[:MAX_NAMED])}{more}")
    return f"; by class {' and '.join(said)}" if said else ""
