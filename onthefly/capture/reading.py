"""Per-sample losses read back out of the autograd graph.

A reduction's node keeps what it was computed from in its ``_saved_*`` attributes. The per-sample loss is the same ATen
operator on those tensors with ``reduction="none"``, so that no loss function is patched, however the script imported
it. Never a ``gather`` of our own: an ignored target is out of range, which is fatal on CUDA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NONE, MEAN, SUM = 0, 1, 2
"""``reduction`` as ATen counts it."""

_nn: Any = torch._C._nn  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]


class Scaling(NamedTuple):
    """One step of the scalar tail, the same for the total and for each sample: ``operator(value, other)``."""

    operator: Callable[..., Tensor]
    other: Tensor | None


class Reading(NamedTuple):
    """A loss as it was found in the graph: references only, nothing is computed yet and no graph is held."""

    reader: Reader
    tensors: tuple[Any, ...]
    """The operator's tensors, detached, input and target first; None where it was given none."""
    options: tuple[Any, ...]
    """The operator's further arguments, reduction first."""
    outer: int
    """The reduction that the script did itself over the vector (``.mean()``); NONE where the operator reduced."""
    tail: tuple[Scaling, ...]
    """What the script did with the number before it back-propagated it, in its order."""

    @property
    def target(self) -> Tensor:
        """The tensor that tells which batch this loss belongs to; its first axis is that of the rows."""
        return self.tensors[1]

    @property
    def reduction(self) -> int:
        """How the vector became a number, by whichever did it."""
        return self.outer or self.options[0]

    def references(self) -> list[Tensor]:
        """All tensors that must not change until this is read."""
        others = [step.other for step in self.tail]
        return [tensor for tensor in (*self.tensors, *others) if tensor is not None]

    def reduced(self) -> Tensor:
        """The operator again with the script's own reduction, tail included: to be compared with the loss."""
        value = self.reader.run(self, self.options[0])
        if self.outer:
            value = value.mean() if self.outer == MEAN else value.sum()
        return self.scaled(value)

    def scaled(self, value: Tensor) -> Tensor:
        """The tail, done to a total or to per-sample values."""
        for operator, other in self.tail:
            value = operator(value) if other is None else operator(value, other)
        return value


class Unreadable(NamedTuple):
    """Why the per-sample losses of a backward call cannot be had."""

    reason: str


class Reader:
    """How one kind of node is read: a row of :data:`READERS`. Readings are worked off many at once."""

    def __init__(
        self, operator: Callable[..., Tensor], tensors: str, options: str = "", *, joined: bool = False
    ) -> None:
        """``tensors`` and ``options`` name the ``_saved_*`` attributes: input and target first; reduction is implied.

        ``joined``: rows of several batches may be computed in one call, bit for bit. Not where vectorised and scalar
        code of the operator round differently (``exp`` and ``log1p`` at the tail of an array).
        """
        self._operator = operator
        self._tensors = tuple(f"_saved_{name}" for name in tensors.split())
        self._options = tuple(f"_saved_{name}" for name in f"reduction {options}".split())
        self._joined = joined

    def keep(self, node: Any, outer: int, tail: tuple[Scaling, ...]) -> Reading:
        """Take references to what the node saved; RuntimeError if the graph was freed."""
        tensors = tuple([_detached(getattr(node, name)) for name in self._tensors])
        return Reading(self, tensors, tuple([getattr(node, name) for name in self._options]), outer, tail)

    def run(self, reading: Reading, reduction: int) -> Tensor:
        """The operator again, on the same tensors, with this reduction."""
        return self._operator(*reading.tensors, reduction, *reading.options[1:])

    def values(self, readings: Sequence[Reading]) -> Tensor:
        """The values of all rows, one batch after the other; elements of a row averaged (summed where it sums)."""
        first = readings[0]
        rows, summed = first.target.shape[0], first.reduction == SUM
        if self._joined and len(readings) > 1:
            return _per_row(self._join(readings), rows * len(readings), summed)
        parts = [_per_row(self.run(reading, NONE), rows, summed) for reading in readings]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def reduced(self, readings: Sequence[Reading]) -> list[Tensor]:
        """Each reading's :meth:`Reading.reduced`."""
        return [reading.reduced() for reading in readings]

    def valid(self, readings: Sequence[Reading]) -> Tensor:
        """How many elements were averaged into the value of each row (bool where it is one or none)."""
        target = readings[0].target
        rows = target.shape[0]
        return torch.full(
            (rows * len(readings),), target.numel() // max(rows, 1), dtype=torch.int32, device=target.device
        )

    def divisors(self, readings: Sequence[Reading], valid: Tensor) -> Tensor | int:
        """What the script's ``mean`` divided the sum of the rows' values by: one number, or one a batch."""
        return max(readings[0].target.shape[0], 1)

    def _join(self, readings: Sequence[Reading]) -> Tensor:
        inputs = torch.cat([reading.tensors[0] for reading in readings])
        targets = torch.cat([reading.tensors[1] for reading in readings])
        return self._operator(inputs, targets, NONE)


class NllReader(Reader):
    """Negative log-likelihood: classes, class weights, and targets to be ignored.

    Its values are picked, not computed, so that batches may be joined.
    """

    def keep(self, node: Any, outer: int, tail: tuple[Scaling, ...]) -> Reading:
        """As :meth:`Reader.keep`; with weights, what the operator divided by is taken too."""
        weight = node._saved_weight
        total = None if weight is None else node._saved_total_weight
        return Reading(
            self, (node._saved_self.detach(), node._saved_target, weight, total),
            (node._saved_reduction, node._saved_ignore_index), outer, tail,
        )  # fmt: skip

    def run(self, reading: Reading, reduction: int) -> Tensor:
        """As :meth:`Reader.run`; the divisor is a result, not an argument."""
        log_probabilities, target, weight, _ = reading.tensors
        return self._operator(log_probabilities, target, weight, reduction, _signed(reading.options[1]))

    def reduced(self, readings: Sequence[Reading]) -> list[Tensor]:
        """As :meth:`Reader.reduced`; written flat for the plain case, since each call pays for it."""
        first = readings[0]
        if first.outer or first.tail:
            return super().reduced(readings)
        operator, (reduction, ignored) = self._operator, first.options
        ignored = _signed(ignored)
        return [
            operator(source, target, weight, reduction, ignored)
            for source, target, weight, _ in [reading.tensors for reading in readings]
        ]

    def valid(self, readings: Sequence[Reading]) -> Tensor:
        """True for a target that counts, false for one that is ignored."""
        return torch.cat([reading.tensors[1] for reading in readings]) != _signed(readings[0].options[1])

    def divisors(self, readings: Sequence[Reading], valid: Tensor) -> Tensor | int:
        """The sum of the weights of the targets that count; by hand, the script divides by all rows."""
        first = readings[0]
        if first.outer:
            return max(first.target.shape[0], 1)
        if first.tensors[2] is not None:
            return torch.stack([reading.tensors[3] for reading in readings]).double()
        return valid.view(len(readings), -1).sum(1).double()

    def _join(self, readings: Sequence[Reading]) -> Tensor:
        inputs = torch.cat([reading.tensors[0] for reading in readings])
        targets = torch.cat([reading.tensors[1] for reading in readings])
        return self._operator(inputs, targets, readings[0].tensors[2], NONE, _signed(readings[0].options[1]))


READERS: dict[str, Reader] = {
    "NllLossBackward0": NllReader(_nn.nll_loss, "", joined=True),
    "MseLossBackward0": Reader(_nn.mse_loss, "self target", joined=True),
    "BinaryCrossEntropyWithLogitsBackward0": Reader(
        torch.binary_cross_entropy_with_logits, "self target weight pos_weight"
    ),
}
"""By the name of the autograd node."""


def _signed(index: int) -> int:
    """``ignore_index`` as the script gave it: the graph gives it back as unsigned."""
    return index - (1 << 64) if index >= 1 << 63 else index


def _per_row(elements: Tensor, rows: int, summed: bool) -> Tensor:
    if elements.dim() == 1:
        return elements
    elements = elements.reshape(rows, -1)
    return elements.sum(1) if summed else elements.mean(1)


def _detached(tensor: Tensor | None) -> Tensor | None:
    """Without its graph: a kept tensor with one would hold every activation below it."""
    return tensor.detach() if tensor is not None and tensor.requires_grad else tensor
