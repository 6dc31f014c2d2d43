"""Per-step values on their way to the hub: learning rates, durations, what watching cost."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

from onthefly.protocol import Metrics

if TYPE_CHECKING:
    from torch.optim import Optimizer

MAX_GROUPS = 8
"""Parameter groups whose learning rate is recorded; layer-wise decay makes hundreds that move together."""


class StepTable:
    """Columns that grow by a row a step and are emptied into a message."""

    def __init__(self) -> None:
        self._step = array("q")
        self._epoch = array("i")
        self._time = array("d")
        self._values: dict[str, array[float]] = {}

    def __len__(self) -> int:
        return len(self._step)

    def add(self, step: int, epoch: int, time: float, values: dict[str, float]) -> None:
        """One row; a name that a row does not have is NaN there."""
        rows = len(self._step)
        self._step.append(step)
        self._epoch.append(epoch)
        self._time.append(time)
        for name, value in values.items():
            column = self._values.get(name)
            if column is None:
                column = self._values[name] = array("d", [math.nan]) * rows
            column.append(value)
        for name, column in self._values.items():
            if name not in values:
                column.append(math.nan)

    def take(self, run: str) -> Metrics:
        """The rows as a message; the table is empty afterwards."""
        message = Metrics(
            run=run,
            step=self._step.tobytes(),
            epoch=self._epoch.tobytes(),
            time=self._time.tobytes(),
            values={name: column.tobytes() for name, column in self._values.items()},
        )
        self.__init__()
        return message


def learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """``lr`` of the first parameter group, ``lr/1`` and so on of the others; none that lies on an accelerator."""
    rates: dict[str, float] = {}
    for number, group in enumerate(optimizer.param_groups[:MAX_GROUPS]):
        rate: Any = group.get("lr")
        if isinstance(rate, (int, float)) or getattr(getattr(rate, "device", None), "type", "") == "cpu":
            rates[f"lr/{number}" if number else "lr"] = float(rate)
    return rates
