"""Per-step values on their way to the hub: learning rates, durations, what watching cost."""

from __future__ import annotations

import math
from array import array
from time import perf_counter_ns, time
from typing import Any

from onthefly.protocol import Metrics

MAX_GROUPS = 8
"""Parameter groups whose learning rate is recorded; layer-wise decay makes hundreds that move together."""


class StepTable:
    """Columns that grow by a row a step and are emptied into a message."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, int, int, int]] = []
        self._rates: list[tuple[float, ...]] = []
        self._start = time() - perf_counter_ns() / 1e9
        """The wall clock when the monotonic one was zero: steps stay in order when the clock is set back."""

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self, step: int, epoch: int, ended_ns: int, took_ns: int, waiting_ns: int, ours_ns: int, samples: int,
        groups: list[dict[str, Any]],
    ) -> None:  # fmt: skip
        """One finished step: when it ended, how long it took, of that waiting for data and in our hooks."""
        self._rows.append((step, epoch, ended_ns, took_ns, waiting_ns, ours_ns, samples))
        if len(groups) == 1 and type(groups[0].get("lr")) is float:
            self._rates.append((groups[0]["lr"],))
        else:
            self._rates.append(tuple([_rate(group.get("lr")) for group in groups[:MAX_GROUPS]]))

    def take(self, run: str) -> Metrics:
        """The rows as a message; the table is empty afterwards."""
        step, epoch, ended, took, waiting, ours, samples = zip(*self._rows)
        values = {
            "step_ms": array("d", [ns / 1e6 for ns in took]),
            "data_ms": array("d", [ns / 1e6 for ns in waiting]),
            "onthefly_us": array("d", [ns / 1e3 for ns in ours]),
            "throughput": array(
                "d", [count * 1e9 / ns if count and ns else math.nan for count, ns in zip(samples, took)]
            ),
        }
        for number in range(max(map(len, self._rates))):
            column = [rates[number] if number < len(rates) else math.nan for rates in self._rates]
            values[f"lr/{number}" if number else "lr"] = array("d", column)
        self._rows, self._rates = [], []
        return Metrics(
            run=run,
            step=array("q", step).tobytes(),
            epoch=array("i", epoch).tobytes(),
            time=array("d", [self._start + ns / 1e9 for ns in ended]).tobytes(),
            values={name: column.tobytes() for name, column in values.items()},
        )


def _rate(rate: Any) -> float:
    """A learning rate as a number; NaN for one that lies on an accelerator (reading it would stall the script)."""
    if isinstance(rate, (int, float)):
        return rate
    return float(rate) if getattr(getattr(rate, "device", None), "type", "") == "cpu" else math.nan
