"""The table of checks: what each looks at, and when. A new one is a row here and a file beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from onthefly.health import data, distribution, memory, numerics
from onthefly.health.activations import Activations
from onthefly.health.gradients import Gradients
from onthefly.health.throughput import Throughput

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.health.scene import Answer, Scene


class Row(NamedTuple):
    """One check."""

    name: str
    looks_at: str
    when: Literal["pause", "step", "replay"]
    """``pause``: at what is there; ``step``: at one step of the script; ``replay``: at one step, taken twice."""
    look: Callable[[Scene], Answer] | None = None
    """Of a check at a pause."""
    made_by: type[Any] | None = None
    """Of a check of a step: a :class:`~onthefly.health.steps.Look`."""


ROWS = (
    Row("numerics", "parameters, gradients, buffers, optimizer state: nan, infinite, subnormal; AMP's skipped steps",
        "pause", numerics.look),
    Row("gradients", "gradients of a step by module, and how far it moves the weights", "step", made_by=Gradients),
    Row("activations", "what modules give in a step: dead, saturated, share of zeros", "step", made_by=Activations),
    Row("throughput", "where the time of a step goes", "step", made_by=Throughput),
    Row("determinism", "whether a step, taken twice, comes out the same", "replay"),
    Row("distribution", "whether ranks agree on structure and weights, and train on different samples", "pause",
        distribution.look),
    Row("memory", "what the memory is taken by, and graphs that are kept alive", "pause", memory.look),
    Row("data", "data sets of the loaders: duplicates, balance of classes, constant inputs, test samples among those "
        "that are trained on", "pause", data.look),
)  # fmt: skip
BY_NAME = {row.name: row for row in ROWS}
