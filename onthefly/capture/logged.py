"""Values that the script, or the framework that it uses, logs by a name of its own, on their way to the hub.

Numbers are taken at once where they lie on the host; those on an accelerator travel without making the script wait.
Several rows in sequence with the same names become one message.
"""

from __future__ import annotations

import re
from array import array
from collections import deque
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from onthefly.capture.clock import wall
from onthefly.capture.quiet import undisturbed
from onthefly.capture.transfer import Transfer
from onthefly.protocol import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OURS = re.compile(
    r"loss|lr(/\d+)?|grad_norm|weight_norm|activation_zeros|accuracy|throughput|step_ms|data_ms|onthefly_us|"
    r"gpu_\w+|cpu|rss"
)
"""Names under which we record what we read or measure ourselves: a value of the script's is not mixed with those."""

MAX_NAMES, MAX_NAME = 1000, 200
MAX_ROWS = 4096
"""Rows that may wait; the newest is dropped. They are sent with the records, several times a second."""


class _Row(NamedTuple):
    step: int
    epoch: int
    time: int
    """Nanoseconds of the monotonic clock."""
    values: dict[str, float]
    moving: Transfer | None
    """Those of them that are still on their way from an accelerator."""


class LoggedValues:
    """Values that are not sent yet."""

    def __init__(self, emit: Callable[[Metrics], None], notice: Callable[[str, str], None]) -> None:
        """``notice(text, remedy)`` tells the user something, once."""
        self._emit = emit
        self._notice = notice
        self._rows: deque[_Row] = deque()
        self._names: dict[str, str] = {}
        """What was logged, and the name under which it is recorded."""

    def note(self, values: Mapping[str, Any], step: int, epoch: int) -> None:
        """Take a row of values; those in a mapping of their own get ``outer/inner`` as their name."""
        if len(self._rows) >= MAX_ROWS:
            self._notice("values were logged faster than they can be sent: some are not recorded", "log less often")
            return
        numbers: dict[str, float] = {}
        tensors: dict[str, Tensor] = {}
        for name, value in _flat(values):
            recorded = self._names.get(name) or self._name(name)
            if not recorded:
                continue
            if isinstance(value, Tensor):
                if value.numel() == 1:
                    tensors[recorded] = value
                    continue
            else:
                number = _number(value)
                if number is not None:
                    numbers[recorded] = number
                    continue
            self._notice(f"the logged value {name!r} is not recorded: it is not a single number", "")
        moving = self._read(tensors, numbers) if tensors else None
        if numbers or moving is not None:
            self._rows.append(_Row(step, epoch, perf_counter_ns(), numbers, moving))

    def send(self, run: str, *, wait: bool) -> None:
        """Send what has arrived; with ``wait`` what is still under way as well."""
        rows: list[_Row] = []
        while self._rows and (wait or self._rows[0].moving is None or self._rows[0].moving.ready()):
            row = self._rows.popleft()
            if row.moving is not None:
                row.values.update({name: float(value) for name, value in row.moving.take().items()})
            if rows and rows[0].values.keys() != row.values.keys():
                self._emit(_message(run, rows))
                rows = []
            rows.append(row)
        if rows:
            self._emit(_message(run, rows))

    def _read(self, tensors: dict[str, Tensor], numbers: dict[str, float]) -> Transfer | None:
        with undisturbed():
            for name, value in list(tensors.items()):
                tensors[name] = value.detach().reshape(()).double() if value.device.type != "mps" else value.detach()
                if value.device.type == "cpu":
                    numbers[name] = tensors.pop(name).item()
            return Transfer(tensors) if tensors else None

    def _name(self, name: str) -> str:
        """The name to record it under, decided once; empty if there are too many."""
        if len(self._names) >= MAX_NAMES:
            self._notice(f"more than {MAX_NAMES} names were logged: the others are not recorded", "")
            return ""
        recorded = f"script/{name}" if OURS.fullmatch(name) else name[:MAX_NAME]
        self._names[name] = recorded
        return recorded


def _flat(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if hasattr(value, "items"):
            found += [(f"{name}/{inner}", number) for inner, number in _flat(value)]
        else:
            found.append((str(name), value))
    return found


def _number(value: Any) -> float | None:
    """Numbers of Python's and NumPy's; None for anything else, text that looks like one included."""
    if isinstance(value, (str, bytes)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _message(run: str, rows: list[_Row]) -> Metrics:
    return Metrics(
        run=run,
        step=array("q", [row.step for row in rows]).tobytes(),
        epoch=array("i", [row.epoch for row in rows]).tobytes(),
        time=array("d", [wall(row.time) for row in rows]).tobytes(),
        values={name: array("d", [row.values[name] for row in rows]).tobytes() for name in rows[0].values},
        complete=True,
    )
