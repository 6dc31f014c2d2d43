"""The table of watchdogs: what each watches, what that costs, and which of its parameters may be set to what.

A new one is a row here and a file beside it. What an action does is not decided here: they are only named.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.alarms import activations, memory, nonfinite, spikes, stalls
from onthefly.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    Cost = Literal["free", "per step", "on demand"]
    Action = Literal["log", "pause", "rewind"]

ACTIONS = ("log", "pause", "rewind")
"""Tell; tell and pause; tell, go back to the newest checkpoint before it, and pause there."""


class Parameter(NamedTuple):
    """A number that a watchdog is made with."""

    name: str
    default: float
    lowest: float
    highest: float
    about: str


class Row(NamedTuple):
    """One watchdog."""

    name: str
    watches: str
    cost: Cost
    """``free``: of what is recorded anyway; ``per step``: reads tensors at each step; ``on demand``: for one step."""
    on: bool
    """Whether it watches without being asked to."""
    action: Action
    made_by: type[Any] | None
    """Called with the parameters; None: functions that are called at each step (:mod:`onthefly.alarms.nonfinite`)."""
    parameters: tuple[Parameter, ...] = ()
    also: tuple[str, ...] = ()
    """Further names under which it reports."""

    def settings(self, given: Mapping[str, Any]) -> dict[str, float]:
        """All its parameters, those given checked: :class:`~onthefly.errors.UsageError` says what would be right."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, value in given.items():
            parameter = known.get(name)
            if parameter is None:
                remedy = f"known: {', '.join(known)}" if known else "it has none"
                raise UsageError(f"the watchdog {self.name} has no parameter {name!r}", remedy)
            number = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
            whole = not isinstance(parameter.default, int) or (number and value == int(value))
            if not number or not whole or not parameter.lowest <= value <= parameter.highest:
                kind = "a whole number" if isinstance(parameter.default, int) else "a number"
                remedy = f"{kind} from {parameter.lowest:g} to {parameter.highest:g}"
                raise UsageError(f"{name} of the watchdog {self.name} cannot be {str(value)[:40]}", remedy)
        return {name: type(one.default)(given.get(name, one.default)) for name, one in known.items()}


_WINDOW = Parameter("window", 200, 20, 512, "newest values that are compared with")
_FIRST = Parameter("first", 30, 10, 10_000, "values that are only looked at, at the beginning")
_CALM = Parameter("calm", 10, 1, 10_000, "harmless values after which it may fire again")

ROWS = (
    Row(nonfinite.LOSS, "the loss and its samples: nan or infinite", "free", True, "log", nonfinite.NonfiniteLoss),
    Row(nonfinite.GRADIENT, "gradients before each step: nan or infinite", "per step", False, "log", None),
    Row(nonfinite.PARAMETER, "parameters after each step: nan or infinite", "per step", False, "log", None),
    Row(
        spikes.LOSS, "the loss: far above the median of the newest ones", "free", True, "log", spikes.LossSpike,
        (
            _WINDOW,
            Parameter("deviations", 8.0, 2.0, 100.0, "robust standard deviations above the median"),
            Parameter("rise", 0.1, 0.0, 100.0, "least share of the median by which it is above"),
            _FIRST, _CALM,
        ),
    ),
    Row(
        spikes.GRADIENT, "the gradient norm before each step: a multiple of its median", "per step", False, "log",
        spikes.GradientExplosion,
        (
            _WINDOW,
            Parameter("factor", 10.0, 1.5, 1e6, "times the median"),
            Parameter("deviations", 4.0, 0.0, 100.0, "robust standard deviations of the logarithm above the median"),
            _FIRST, _CALM,
        ),
    ),
    Row(
        stalls.STALL, "waiting for data: one long wait, or most of every step", "free", True, "log", stalls.LoaderStall,
        (
            _WINDOW,
            Parameter("factor", 10.0, 1.5, 1e6, "times the median wait"),
            Parameter("share", 0.5, 0.05, 1.0, "of the step"),
            Parameter("least_ms", 100.0, 1.0, 1e7, "milliseconds, at least"),
            Parameter("row", 20, 2, 10_000, "waiting steps in a row that make training bound by its loader"),
            _FIRST, _CALM,
        ),
        also=(stalls.BOUND,),
    ),
    Row(
        memory.NAME, "memory of the process and of the accelerator: a steady leak", "free", True, "log",
        memory.MemoryGrowth,
        (
            Parameter("bucket", 32, 1, 10_000, "samples in a bucket of the finest scale"),
            Parameter("first", 500, 0, 1_000_000, "samples that are left out, at the beginning"),
            Parameter("least_mb", 50.0, 0.1, 1e7, "megabytes of growth, at least"),
            Parameter("share", 0.02, 0.0, 1.0, "least growth as a share of the memory"),
            Parameter("rising", 0.9, 0.6, 1.0, "share of the pairs of buckets that rise"),
        ),
    ),
    Row(
        activations.NAME, "ReLU-like modules: their share of zeros, in one step", "on demand", False, "log",
        activations.DeadActivations,
        (Parameter("dead", 0.99, 0.0, 1.0, "share of zeros from which a module is reported"),),
    ),
)  # fmt: skip
BY_NAME = {row.name: row for row in ROWS}
