"""What checks of a run's health have found, as agents tell it and clients show it."""

from __future__ import annotations

from typing import Annotated, Literal, Union  # msgspec evaluates these, on Python 3.9 too

import msgspec

from onthefly.protocol.given import CommandArguments, Seconds

Verdict = Literal["good", "warning", "bad", "unknown"]
"""``unknown``: it could not be looked at, or there is nothing to look at; the text says which."""

Value = Union[bool, int, float, str, None]
"""None where a number is not finite: JSON has no such number."""


class Health(CommandArguments):
    """At a pause: examine the run, by all checks or by those named; some of them let the script take one step."""

    checks: Annotated[list[Annotated[str, msgspec.Meta(max_length=100)]], msgspec.Meta(max_length=50)] = []
    """Empty: all of them."""
    seconds: Seconds = 20.0
    """The longest that samples of the loaders' data sets are read for."""


class HealthResult(msgspec.Struct, kw_only=True):
    """What one check has found at one moment."""

    check: str
    """``numerics``, ``gradients``, ..."""
    verdict: Verdict
    says: str
    """What was found, in words."""
    do: str = ""
    """What would help; empty: nothing has to be done."""
    numbers: dict[str, Value] = {}
    """What it was judged by."""
    rows: list[dict[str, Value]] = []
    """The same for each module, loader, ..., the worst first; all with the same names."""
    run: str = ""
    step: int = 0
    epoch: int = 0
    time: float = 0.0
    by: str = ""
    examination: int = 0
    """Results of one command have the same number, from 1 in each process."""
    rank: int = 0
    """Whose result it is, as the hub numbers processes: it fills this in."""


class HealthResults(msgspec.Struct, kw_only=True):
    """``GET /api/v1/sessions/{id}/health``: in the order in which they came; ranks that can be compared as one."""

    session: str
    results: list[HealthResult]


class Checked(msgspec.Struct, kw_only=True):
    """From an agent: a check is through."""

    result: HealthResult
