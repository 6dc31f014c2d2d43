"""Backward calls of one kind, worked off together on the training thread.

One by one, reading, checking and shipping costs 38 to 90 us a step (caches are cold in a real loop); a step that only
keeps references, with all work done for many of them at a time, costs a fraction. Calls of one kind (the same operator,
options, shapes and loader) become one message with few operators: their rows are joined where the operator allows it.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onthefly.capture.certificate import NONE, Verdict, judge
from onthefly.capture.reading import MEAN, Reading, Unreadable
from onthefly.capture.transfer import Transfer, raw
from onthefly.protocol import IDENTITIES, PHASES, Records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onthefly.capture.batches import Batch, LoaderRecord

CHANGED = "its tensors were written to before they were read; from now on they are read at once"

_INDEX, _NO_IDENTITY = IDENTITIES.index("index"), IDENTITIES.index("none")
_TRAIN = PHASES.index("train")


class Worked(NamedTuple):
    """Per-sample values of some calls, on the device of the loss."""

    values: Tensor
    """[k * n] in the loss's dtype."""
    valid: Tensor
    """[k * n] elements averaged into each; bool or int32."""
    reduced: Tensor
    """[k] what the operator makes of them with the script's own reduction."""
    divisors: Tensor | int


class Call(NamedTuple):
    """One backward call as it was seen."""

    number: int
    step: int
    epoch: int
    time: float
    root: Tensor | None
    """The back-propagated number, detached (a loss with its graph would hold every activation); None: not one."""
    reading: Reading | Unreadable
    batch: Batch | None
    """The batch whose samples are the rows, in its order; None where that is not proven."""
    loader: LoaderRecord | None
    version: int
    """Sum of the version counters of loss, input and target, where they are kept; else -1."""
    worked: Worked | None
    """Set if the call was read at its own time; then nothing is kept."""

    def kind(self) -> tuple[Any, ...]:
        """Calls of equal kind may be worked off together."""
        reading = self.reading
        if isinstance(reading, Unreadable):
            return reading.reason, self.loader, self.root is None
        reader, tensors, options, outer, tail = reading
        source, target, *rest = tensors
        return (reader, options, outer, len(tail), source.numel(), target.shape, source.dtype, source.device,
                id(rest[0]) if rest else 0, self.loader, self.batch is None, self.worked is None)  # fmt: skip

    def refused(self, reason: str) -> Call:
        """The same call, without per-sample values."""
        return self._replace(reading=Unreadable(reason), worked=None, batch=None)


def intact(calls: list[Call]) -> bool:
    """Nothing that was kept for these calls has been written to, as far as version counters tell.

    Counters only grow, so that one sum over all says it. Weights and the numbers of the tail are not in it: if one of
    them changes, the loss is not reproduced.
    """
    before = after = 0
    for call in calls:
        root, reading = call.root, call.reading
        if call.version >= 0 and root is not None and type(reading) is Reading:
            before += call.version
            after += root._version + reading.tensors[0]._version + reading.tensors[1]._version
    return before == after


def work(readings: Sequence[Reading]) -> Worked:
    """Compute the per-sample values of readings of one kind; gradients are off."""
    first, count = readings[0], len(readings)
    values = first.reader.values(readings)
    if first.tail:
        parts = values.view(count, -1).unbind()
        values = torch.cat([reading.scaled(part) for reading, part in zip(readings, parts)])
    valid = first.reader.valid(readings)
    divisors = first.reader.divisors(readings, valid) if first.reduction == MEAN else 1
    return Worked(values, valid, torch.stack(first.reader.reduced(readings)), divisors)


class Group:
    """Calls of one kind whose numbers are on their way to the host (there at once on the CPU)."""

    def __init__(self, calls: list[Call]) -> None:
        """Work them off: runs torch operators, on the training thread, gradients off."""
        self.calls = calls
        self._reading = calls[0].reading if isinstance(calls[0].reading, Reading) else None
        roots = [call.root for call in calls if call.root is not None]
        tensors = [torch.stack(roots).double()] if roots else []
        self._divisors: int | None = None
        if self._reading is not None:
            worked = self._work()
            wide = worked.values.view(len(calls), -1).double()
            tensors += [
                worked.reduced.double(),
                wide.sum(1),
                wide.abs_().sum(1),
                worked.values.float(),
                worked.valid.int(),
            ]
            if isinstance(worked.divisors, Tensor):
                tensors.append(worked.divisors)
            else:
                self._divisors = worked.divisors
        self._transfer = Transfer(tensors)
        self.ready = self._transfer.ready

    def _work(self) -> Worked:
        if self.calls[0].worked is None:
            return work([call.reading for call in self.calls if isinstance(call.reading, Reading)])
        parts = [call.worked for call in self.calls if call.worked is not None]
        divisors = [part.divisors for part in parts]
        whole = [divisor for divisor in divisors if isinstance(divisor, Tensor)]
        return Worked(
            torch.cat([part.values for part in parts]),
            torch.cat([part.valid for part in parts]),
            torch.cat([part.reduced for part in parts]),
            torch.cat(whole) if whole else divisors[0],
        )

    def verdicts(self) -> list[Verdict]:
        """What each call is worth; waits for what is still under way from an accelerator."""
        if self._reading is None:
            return []
        losses, reduced, totals, magnitudes, _, _, *divisors = self._transfer.take()
        shares = divisors[0].tolist() if divisors else [self._divisors or 1] * len(self.calls)
        eps = torch.finfo(self._reading.tensors[0].dtype).eps
        return [
            judge(loss, again, total / share if share else total, magnitude / share if share else magnitude, eps)
            for loss, again, total, magnitude, share in zip(
                losses.tolist(), reduced.tolist(), totals.tolist(), magnitudes.tolist(), shares
            )
        ]

    def suspects(self, verdicts: list[Verdict]) -> bool:
        """A kept loss was not reproduced: memory shared with NumPy changes behind the version counter."""
        return self.calls[0].worked is None and not all(verdict.reproduced for verdict in verdicts)

    def records(self, run: str, verdicts: list[Verdict]) -> Records:
        """The group as columns."""
        calls, count, loader = self.calls, len(self.calls), self.calls[0].loader
        columns = self._transfer.take()
        samples = _samples(calls)
        rows = 0 if self._reading is None else self._reading.tensors[1].shape[0]
        reason = [calls[0].reading.reason] if isinstance(calls[0].reading, Unreadable) else []
        return Records(
            run=run,
            backward=array("q", [call.number for call in calls]).tobytes(),
            step=array("q", [call.step for call in calls]).tobytes(),
            epoch=array("i", [call.epoch for call in calls]).tobytes(),
            time=array("d", [call.time for call in calls]).tobytes(),
            loss=raw(columns[0]) if columns else (array("d", [float("nan")]) * count).tobytes(),
            shared=bytes(8 * count),
            certificate=bytes([verdict.certificate for verdict in verdicts]) or bytes([NONE]) * count,
            error=array("d", [verdict.error for verdict in verdicts] or [0.0] * count).tobytes(),
            reason=array("h", [0 if reason else -1] * count).tobytes(),
            phase=bytes([_TRAIN]) * count,
            loader=array("h", [0 if loader is not None else -1] * count).tobytes(),
            identity=bytes([_NO_IDENTITY if samples is None else _INDEX]) * count,
            count=array("i", [rows] * count).tobytes(),
            reasons=reason,
            loaders=[loader.name] if loader is not None else [],
            sample=(array("q", [-1]) * (rows * count) if samples is None else samples).tobytes(),
            sample_loss=raw(columns[4]) if verdicts else b"",
            valid=raw(columns[5]) if verdicts else b"",
        )


def _samples(calls: list[Call]) -> array[int] | None:
    """The index of each row; None where one is not an integer."""
    samples = array("q")
    for call in calls:
        indices = call.batch.indices() if call.batch is not None else None
        if indices is None:
            return None
        samples.extend(indices)
    return samples
