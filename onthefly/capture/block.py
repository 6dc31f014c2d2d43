"""A block of backward calls, worked off together on the training thread.

One by one, reading, checking and shipping costs 38 to 90 us a step (caches are cold in a real loop); a step that only
keeps references, with all work done 32 steps at a time, costs 9 to 16 us.
"""

from __future__ import annotations

from array import array
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onthefly.capture.certificate import APPROXIMATE, judge, same
from onthefly.capture.transfer import Transfer, raw
from onthefly.protocol import IDENTITIES, PHASES, Records

if TYPE_CHECKING:
    from onthefly.capture.entry import Entry, Worked

CHANGED = "its tensors were written to before they were read; from now on they are read at once"

_INDEX, _NO_IDENTITY = IDENTITIES.index("index"), IDENTITIES.index("none")
_TRAIN = PHASES.index("train")


class Block:
    """Entries whose numbers are on their way to the host (there at once on the CPU)."""

    def __init__(self, entries: list[Entry]) -> None:
        """Work off what is still kept; runs torch operators, on the training thread, gradients off."""
        self._entries = entries
        for entry in entries:
            if entry.deferred and entry.changed():
                entry.refuse(CHANGED)
            entry.work()
        self._rooted = [entry for entry in entries if entry.root is not None]
        self._worked = [entry for entry in entries if entry.worked is not None]
        works = [entry.worked for entry in self._worked if entry.worked is not None]
        self._transfer = Transfer([
            _doubles([entry.root for entry in self._rooted if entry.root is not None]),
            _doubles([work.reduced for work in works]),
            *_totals(works),
            torch.cat([work.values for work in works]).float() if works else torch.empty(0),
            torch.cat([work.valid for work in works]).to(torch.int32) if works else torch.empty(0, dtype=torch.int32),
        ])  # fmt: skip
        self.ready = self._transfer.ready

    def records(self, run: str) -> Records:
        """The block as columns; waits for what is still under way from an accelerator."""
        losses, reduced, totals, magnitudes, values, valid = self._transfer.take()
        for entry, loss in zip(self._rooted, losses.tolist()):
            entry.loss = loss
        spans: list[tuple[int, int]] = []
        start = 0
        for entry, *check in zip(self._worked, reduced.tolist(), totals.tolist(), magnitudes.tolist()):
            rows = _rows(entry)
            _judge(entry, *check)
            if not entry.reason:
                spans.append((start, start + rows))
            start += rows
        if len(spans) != len(self._worked):
            values, valid = _only(values, spans), _only(valid, spans)
        return _columns(self._entries, values, valid, run)

    def changed(self) -> bool:
        """Whether a tensor was written to while it was kept: blocks do not suit this script."""
        return any(entry.reason == CHANGED for entry in self._entries)


def _judge(entry: Entry, reduced: float, total: float, magnitude: float) -> None:
    assert entry.root is not None
    entry.certificate, entry.error = judge(entry.loss, reduced, total, magnitude, torch.finfo(entry.root.dtype).eps)
    if entry.deferred and entry.certificate == APPROXIMATE and not same(entry.loss, reduced):
        # Memory shared with NumPy changes behind the version counter; what was read is not this step's.
        entry.refuse(CHANGED)


def _doubles(scalars: list[Tensor]) -> Tensor:
    """Scalars of any floating dtypes as one float64 vector."""
    if not scalars:
        return torch.empty(0, dtype=torch.float64)
    if any(scalar.dtype != scalars[0].dtype for scalar in scalars):
        scalars = [scalar.double() for scalar in scalars]
    return torch.stack(scalars).double()


def _totals(works: list[Worked]) -> tuple[Tensor, Tensor]:
    """For each call, the float64 total of its values and of their magnitudes, divided as the script's reduction does.

    Calls of equal size are summed as one matrix: a block is mostly that, and three operators serve it.
    """
    sums: list[Tensor] = []
    magnitudes: list[Tensor] = []
    for _, group in groupby(works, key=lambda work: (work.values.shape, work.values.dtype)):
        matrix = torch.stack([work.values for work in group]).double()
        sums.append(matrix.sum(1))
        magnitudes.append(matrix.abs().sum(1))
    if not sums:
        return _doubles([]), _doubles([])
    divisor = _divisors(works, sums[0].device)
    return torch.cat(sums) / divisor, torch.cat(magnitudes) / divisor


def _divisors(works: list[Worked], device: torch.device) -> Tensor:
    if all(isinstance(work.divisor, Tensor) for work in works):
        return _doubles([work.divisor for work in works if isinstance(work.divisor, Tensor)])
    plain = [work.divisor if isinstance(work.divisor, int) else 0 for work in works]
    numbers = torch.tensor(plain, dtype=torch.float64).to(device, non_blocking=True)
    for place, work in enumerate(works):
        if isinstance(work.divisor, Tensor):
            numbers[place] = work.divisor
    return numbers


def _only(flat: Tensor, spans: list[tuple[int, int]]) -> Tensor:
    return torch.cat([flat[start:stop] for start, stop in spans]) if spans else flat[:0]


def _rows(entry: Entry) -> int:
    return 0 if entry.worked is None else entry.worked.values.shape[0]


def _columns(entries: list[Entry], values: Tensor, valid: Tensor, run: str) -> Records:
    reasons = _Names()
    loaders = _Names()
    samples = array("q")
    for entry in entries:
        if entry.worked is not None:
            samples.extend(entry.indices if entry.indices is not None else [-1] * _rows(entry))
    identities = [_INDEX if entry.indices is not None and entry.worked is not None else _NO_IDENTITY
                  for entry in entries]  # fmt: skip
    return Records(
        run=run,
        backward=_bytes("q", [entry.number for entry in entries]),
        step=_bytes("q", [entry.step for entry in entries]),
        epoch=_bytes("i", [entry.epoch for entry in entries]),
        time=_bytes("d", [entry.time for entry in entries]),
        loss=_bytes("d", [entry.loss for entry in entries]),
        shared=_bytes("d", [0.0] * len(entries)),
        certificate=_bytes("B", [entry.certificate for entry in entries]),
        error=_bytes("d", [entry.error for entry in entries]),
        reason=_bytes("h", [reasons.place(entry.reason) for entry in entries]),
        phase=_bytes("B", [_TRAIN] * len(entries)),
        loader=_bytes("h", [loaders.place(entry.loader) for entry in entries]),
        identity=_bytes("B", identities),
        count=_bytes("i", [_rows(entry) for entry in entries]),
        reasons=reasons.names,
        loaders=loaders.names,
        sample=samples.tobytes(),
        sample_loss=raw(values),
        valid=raw(valid),
    )


def _bytes(code: str, values: list[Any]) -> bytes:
    return array(code, values).tobytes()


class _Names:
    """Texts of a block by number; -1 for the empty one."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def place(self, name: str) -> int:
        if not name:
            return -1
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)
