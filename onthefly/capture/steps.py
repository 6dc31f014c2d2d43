"""Per-step values on their way to the hub: learning rates, durations, what watching cost."""

from __future__ import annotations

import math
from array import array
from typing import Any, NamedTuple, Union

from onthefly.capture.clock import wall
from onthefly.protocol import Metrics

MAX_GROUPS = 8
"""Parameter groups whose learning rate is recorded; layer-wise decay makes hundreds that move together."""


class StepRow(NamedTuple):
    """One finished step of the first optimizer that stepped."""

    step: int
    epoch: int
    ended: int
    """Nanoseconds of the monotonic clock."""
    took: int
    """Nanoseconds since the step before, as are the next two."""
    waiting: int
    """Of these, waiting for data."""
    ours: int
    """Of these, in our hooks."""
    samples: int
    lr: Union[float, tuple[float, ...]]
    """One number, or one for each of the first :data:`MAX_GROUPS` groups."""


def metrics(run: str, rows: list[tuple[Any, ...]]) -> Metrics:
    """Rows (with the fields of :class:`StepRow`) as a message."""
    step, epoch, ended, took, waiting, ours, samples, lr = zip(*rows)
    values = {
        "step_ms": [ns / 1e6 for ns in took],
        "data_ms": [ns / 1e6 for ns in waiting],
        "onthefly_us": [ns / 1e3 for ns in ours],
        "throughput": [count * 1e9 / ns if count and ns else math.nan for count, ns in zip(samples, took)],
    }
    if all(type(rate) is float for rate in lr):
        values["lr"] = list(lr)
    else:
        groups = [rate if isinstance(rate, tuple) else (rate,) for rate in lr]
        for number in range(max(map(len, groups))):
            column = [rates[number] if number < len(rates) else math.nan for rates in groups]
            values[f"lr/{number}" if number else "lr"] = column
    return Metrics(
        run=run,
        step=array("q", step).tobytes(),
        epoch=array("i", epoch).tobytes(),
        time=array("d", map(wall, ended)).tobytes(),
        values={name: array("d", column).tobytes() for name, column in values.items()},
    )


def rates(groups: list[dict[str, Any]]) -> tuple[float, ...]:
    """The learning rates of the first parameter groups."""
    return tuple([_rate(group.get("lr")) for group in groups[:MAX_GROUPS]])


def _rate(rate: Any) -> float:
    """A learning rate as a number; NaN for one that lies on an accelerator (reading it would stall the script)."""
    if isinstance(rate, (int, float)):
        return float(rate)
    return float(rate) if getattr(getattr(rate, "device", None), "type", "") == "cpu" else math.nan
