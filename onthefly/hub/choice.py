"""Which samples are meant: one small language for HTTP, the command line and the page.

Terms side by side, which must all hold: ``loss=2: class=3,5 !tag=label:fine worst=100``. A term is ``NAME=VALUES``;
values stand between commas, ranges are ``A:B`` with both ends included and either left out; ``!`` in front turns a term
around. A value with a space stands in quotation marks.
"""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING, NamedTuple

from onthefly.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_TEXT = 60_000
"""Letters: a list of ten thousand indices fits."""

TERMS = {
    "loss": "loss=2:", "quantile": "quantile=0.9:1", "worst": "worst=100", "class": "class=3",
    "predicted": "predicted=3", "region": "region=hard", "cluster": "cluster=0", "tag": "tag=label:wrong",
    "sample": "sample=7,10:19", "key": "key=a7",
}  # fmt: skip
"""With an example of each."""

REGIONS = ("easy", "ambiguous", "hard", "suspect")

MAX_INDEX = 1 << 53

_WHOLE = {"sample", "cluster", "worst"}
_ONCE = {"loss", "quantile", "worst"}
"""That cannot be turned around."""


class Term(NamedTuple):
    """One condition; which of the fields it has depends on its name."""

    name: str
    negated: bool
    words: tuple[str, ...] = ()
    """Of ``region``, ``tag`` and ``key``."""
    ranges: Sequence[tuple[float, float]] = ()
    """Of all others; both ends are included. ``worst`` has its number in the first."""


def parse(text: str) -> list[Term]:
    """The terms; :class:`~onthefly.errors.UsageError` says which is wrong and what would be right."""
    if len(text) > MAX_TEXT:
        raise UsageError(f"a selection of {len(text)} letters is too long", "tag the samples, and select the tag")
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"the selection {text[:60]!r} cannot be read: {error}", _help()) from error
    terms = [_term(part) for part in parts]
    for name in _ONCE:
        if sum(term.name == name for term in terms) > 1:
            raise UsageError(f"{name}= stands there twice", f"one range: {TERMS[name]}")
    return terms


def _term(part: str) -> Term:
    name, given, values = part.partition("=")
    negated, name = name.startswith("!"), name.removeprefix("!")
    if name not in TERMS or not given or not values:
        raise UsageError(f"{part[:40]!r} is no term of a selection", _help())
    if negated and name in _ONCE:
        raise UsageError(f"!{name}= has no meaning", f"give the range that is meant: {TERMS[name]}")
    words = tuple(values.split(","))
    if name == "region" and not set(words) <= set(REGIONS):
        raise UsageError(f"unknown region in {part[:40]!r}", f"one of {', '.join(REGIONS)}")
    if name in ("region", "tag", "key"):
        return Term(name, negated, words=words)
    ranges = [_range(part, name, word) for word in words]
    if name in _ONCE and len(ranges) > 1:
        raise UsageError(f"{part[:40]!r}: one range", TERMS[name])
    if name == "worst" and not ranges[0][0] == ranges[0][1] >= 1:
        raise UsageError(f"{part[:40]!r}: worst= takes a whole number", TERMS[name])
    return Term(name, negated, ranges=ranges)


def _range(part: str, name: str, word: str) -> tuple[float, float]:
    first, colon, last = word.partition(":")
    low, high = (0.0, 1.0) if name == "quantile" else (-math.inf, math.inf)
    try:
        start = float(first) if first or not colon else low
        ends = start, (float(last) if last else high) if colon else start
    except ValueError as error:
        raise UsageError(f"{part[:40]!r}: {word[:20]!r} is no number and no range", TERMS[name]) from error
    if any(math.isinf(float(end)) or math.isnan(float(end)) for end in (first, last) if end):
        raise UsageError(f"{part[:40]!r}: {word[:20]!r} is no number", f"leave an end out: {TERMS[name]}")
    if name in _WHOLE and any(float(end) % 1 or not 0 <= float(end) <= MAX_INDEX for end in (first, last) if end):
        raise UsageError(f"{part[:40]!r}: {word[:20]!r} is no whole number from 0 on", TERMS[name])
    if not ends[0] <= ends[1] or (name == "quantile" and not (low <= ends[0] and ends[1] <= high)):
        raise UsageError(f"{part[:40]!r}: {word[:20]!r} holds nothing", f"from the lower to the higher: {TERMS[name]}")
    return ends


def _help() -> str:
    return f"terms such as {' '.join(TERMS.values())}"
