"""Backward calls with equally many rows, sent together.

Each call is read at its own time, on the training thread: nothing of the script's is kept, so that what it does with
its tensors afterwards cannot matter. Keeping references and reading many calls at once was tried and is dearer in a
real loop: memory that is held back is not used again while caches hold it (4 us for each tensor kept of a step), and
scripts that write into one buffer must be found out. Only what can wait is done for many calls at a time: checking, and
writing columns.
"""

from __future__ import annotations

import math
import sys
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onthefly.capture.certificate import NONE, Verdict, judge
from onthefly.capture.clock import wall
from onthefly.capture.reading import sum_of, to_double, to_float, to_int
from onthefly.capture.transfer import Transfer, raw
from onthefly.protocol import IDENTITIES, PHASES, Records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from onthefly.capture.loaders import LoaderRecord
    from onthefly.capture.margins import Scores

Number = Any
"""A ``float`` on the CPU; elsewhere a scalar tensor, since reading it would make the script wait."""

_TRAIN = PHASES.index("train")


class Call(NamedTuple):
    """One backward call."""

    number: int
    step: int
    epoch: int
    time: int
    """Nanoseconds of the monotonic clock."""
    loader: LoaderRecord | None
    loss: Number
    """The back-propagated number; NaN where it is not one."""
    reason: str
    """Why there are no values; empty if there are."""
    rows: int = 0
    values: Tensor | tuple[Tensor, int] | None = None
    """The value of each row [rows], or that row of values and components [calls, rows]; None if there are none."""
    reduced: Number = 0.0
    """The operator again, with the script's own reduction."""
    divisor: Number = 1
    """What the total of the values is divided by."""
    valid: Tensor | int = 0
    """Elements averaged into each row."""
    samples: bytes | None = None
    """The index of each row, int64; None where there is none."""
    slot: int = -1
    """Of :class:`~onthefly.capture.margins.Margins`: where its scores are; -1 for nowhere."""
    weight: Tensor | int = 1
    """What each value weighs in the total."""
    shared: Number = 0.0
    """What of the loss has no samples."""
    components: dict[str, Tensor] | None = None
    """What each term gave each row [rows]; None where there is one."""
    identity: str = "index"
    """What the samples are, if there are any: ``index`` or ``stream``; ``key`` with ``keys``."""
    keys: list[str] | None = None
    """What each row's sample is called."""
    phase: int = _TRAIN
    """Code as in ``protocol.PHASES``."""


PLAIN = Call._fields.index("weight")
"""As many fields has a call of one plain loss: the others are at their defaults (made at each step, each costs it)."""

SLOT, COMPONENTS = Call._fields.index("slot"), Call._fields.index("components")


def groups(calls: Iterable[tuple[Any, ...]], scores: Scores | None = None) -> list[Group]:
    """Calls (with the fields of :class:`Call`) by what can be joined; runs torch operators, gradients off.

    ``scores``: the confidence and the margin of each slot.
    """
    found: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for call in calls:
        loss, rows, values = call[5], call[7], call[8]
        if rows:
            values = values[0] if type(values) is tuple else values
            key = (rows, values.dtype, values.device, call[SLOT] >= 0,
                   tuple(call[COMPONENTS] or ()) if len(call) > PLAIN else None)  # fmt: skip
        else:
            key = 0, loss.device if type(loss) is Tensor else None
        found.setdefault(key, []).append(call)
    return [Group(same, scores) for same in found.values()]


def together(columns: Sequence[Tensor], places: Sequence[int]) -> Tensor:
    """One below the other [calls, rows]: of each column that row, or (-1) all of it."""
    first = places[0]
    if first >= 0 and len(set(map(id, columns))) == 1:
        if list(places) == list(range(first, first + len(places))):  # nearly always
            return columns[0][first : first + len(places)]
        return columns[0][list(places)]
    return torch.stack([column if place < 0 else column[place] for column, place in zip(columns, places)])


class Group:
    """Calls whose numbers are on their way to the host (there at once on the CPU)."""

    def __init__(self, calls: list[tuple[Any, ...]], scores: Scores | None = None) -> None:
        """Calls of as many rows each, on one device. Runs torch operators, gradients off."""
        if len(calls[0]) == PLAIN:
            defaults = tuple(Call._field_defaults[name] for name in Call._fields[PLAIN:])
            calls = [(*call, *defaults) for call in calls]
        (self._number, self._step, self._epoch, self._time, self._loader, self._loss, self._reason, rows, values,
         self._reduced, self._divisor, self._valid, self._samples, slots, self._weight, self._shared, components,
         self._identity, self._keys, self._phase) = zip(*calls)  # fmt: skip
        self._rows: int = rows[0]
        self._components: tuple[str, ...] = tuple(components[0] or ())
        self._eps = 0.0
        tensors: dict[str, Tensor] = {}
        if self._rows:
            own = [value[1] if type(value) is tuple else -1 for value in values]
            columns = [value[0] if place >= 0 else value for value, place in zip(values, own)]
            joined = together(columns, own)
            tensors = {"values": to_float(joined)}
            wide = to_double(joined)
            if any(isinstance(weight, Tensor) for weight in self._weight):
                wide = wide * torch.stack([
                    weight if isinstance(weight, Tensor) else torch.full_like(value, weight)
                    for weight, value in zip(self._weight, joined)
                ])  # fmt: skip
            tensors["total"], tensors["magnitude"] = sum_of(wide, 1), sum_of(wide.abs(), 1)
            for name in self._components:
                tensors[f"component {name}"] = to_float(together([parts[name] for parts in components], own))
            if slots[0] >= 0 and scores is not None:
                tensors.update(scores.of(slots, self._valid))
            self._eps = torch.finfo(joined.dtype).eps
        for name, column in (("loss", self._loss), ("reduced", self._reduced), ("divisor", self._divisor),
                             ("shared", self._shared)):  # fmt: skip
            scalars = [number for number in column if type(number) is Tensor]
            if scalars:
                tensors[name] = to_double(torch.stack(scalars))
        counts = [to_int(valid) for valid in self._valid if type(valid) is Tensor]
        if counts:
            tensors["valid"] = torch.cat(counts)
        self._transfer = Transfer(tensors)
        self.ready = self._transfer.ready

    def records(self, run: str) -> Records:
        """The calls as columns; waits for what is still under way from an accelerator."""
        arrived, rows, count = self._transfer.take(), self._rows, len(self._number)
        losses = _numbers("loss", self._loss, arrived)
        verdicts = self._verdicts(losses, arrived) if rows else []
        reasons, reason = _coded(self._reason)
        loaders, loader = _coded([loader.name if loader is not None else "" for loader in self._loader])
        absent = b"\xff" * (8 * rows)  # -1
        keys, key = (
            _coded([name for names in self._keys for name in (names or [""] * rows)], "i")
            if any(self._keys)
            else ([], array("i"))
        )
        return Records(
            run=run,
            backward=array("q", self._number).tobytes(),
            step=array("q", self._step).tobytes(),
            epoch=array("i", self._epoch).tobytes(),
            time=array("d", map(wall, self._time)).tobytes(),
            loss=array("d", losses).tobytes(),
            shared=array("d", _numbers("shared", self._shared, arrived)).tobytes(),
            certificate=bytes([verdict[0] for verdict in verdicts]) if rows else bytes([NONE]) * count,
            error=array("d", [verdict[1] for verdict in verdicts]).tobytes() if rows else bytes(8 * count),
            reason=reason.tobytes(),
            phase=bytes(self._phase),
            loader=loader.tobytes(),
            identity=bytes(
                [
                    IDENTITIES.index("none" if samples is None and keys is None else identity)
                    for samples, keys, identity in zip(self._samples, self._keys, self._identity)
                ]
            ),
            count=array("i", [rows]).tobytes() * count,
            reasons=reasons,
            loaders=loaders,
            sample=b"".join([absent if samples is None else samples for samples in self._samples]),
            sample_loss=raw(arrived["values"]) if rows else b"",
            valid=self._counts(arrived) if rows else b"",
            confidence=raw(arrived["confidence"]) if "confidence" in arrived else b"",
            margin=raw(arrived["margin"]) if "margin" in arrived else b"",
            key=key.tobytes(),
            keys=keys,
            components={name: raw(arrived[f"component {name}"]) for name in self._components},
        )

    def _verdicts(self, losses: Sequence[float], arrived: dict[str, Tensor]) -> list[Verdict]:
        """What each call is worth."""
        verdicts: list[Verdict] = []
        weighed = any(isinstance(weight, Tensor) for weight in self._weight)
        for loss, again, total, magnitude, divisor, weight, shared in zip(
            losses, _numbers("reduced", self._reduced, arrived),
            arrived["total"].tolist(), arrived["magnitude"].tolist(),
            _numbers("divisor", self._divisor, arrived), self._weight, _numbers("shared", self._shared, arrived),
        ):  # fmt: skip
            share = (1 if weighed else weight) / divisor if divisor else math.nan
            verdicts.append(judge(loss, again, total * share + shared, magnitude * share, self._eps))
        return verdicts

    def _counts(self, arrived: dict[str, Tensor]) -> bytes:
        """Elements averaged into each row, int32."""
        moved, place = raw(arrived["valid"]) if "valid" in arrived else b"", 0
        size, parts = 4 * self._rows, []
        for valid in self._valid:
            if type(valid) is int:
                parts.append(valid.to_bytes(4, sys.byteorder) * self._rows)
            else:
                parts.append(moved[place : place + size])
                place += size
        return b"".join(parts)


def _numbers(name: str, column: Sequence[Number], arrived: dict[str, Tensor]) -> Sequence[float]:
    """A column of scalars, those from an accelerator filled in."""
    if name not in arrived:
        return column
    moved = iter(arrived[name].tolist())
    return [next(moved) if type(number) is Tensor else number for number in column]


def _coded(words: Sequence[str], code: str = "h") -> tuple[list[str], array[int]]:
    """The words that occur, and for each entry its place among them; -1 where there is none."""
    found = sorted({word for word in words if word})
    places = {word: place for place, word in enumerate(found)}
    return found, array(code, [places.get(word, -1) for word in words])
