"""Per-sample losses read back out of the autograd graph.

A reduction's node keeps what it was computed from in its ``_saved_*`` attributes. The per-sample loss is the same ATen
operator on those tensors with ``reduction="none"``, so that no loss function is patched, however the script imported
it. Never a ``gather`` of our own: an ignored target is out of range, which is fatal on CUDA.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onthefly.capture.quiet import check_plain

if TYPE_CHECKING:
    from collections.abc import Callable

NONE, MEAN, SUM = 0, 1, 2
"""``reduction`` as ATen counts it."""

_nn: Any = torch._C._nn  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]


class Unreadable(Exception):
    """Why the per-sample losses of a backward call cannot be had."""


class Scaling(NamedTuple):
    """One step of the scalar tail, the same for the total and for each sample: ``operator(value, other)``."""

    operator: Callable[..., Tensor]
    other: Tensor | None


Measured = tuple[Tensor, int, Tensor, Tensor, "Tensor | float", "Tensor | int"]
"""What was read of a loss.

- The target [rows, ...], which tells the batch; and how many rows it has.
- The value of each row [rows]: its elements averaged (summed where the script sums).
- The operator again with the script's own reduction, tail included: to be compared with the loss.
- The divisor: what the script's ``mean`` divided the sum of the rows' values by; 1 where it sums.
- How many elements were averaged into each row: one number for all, or a tensor [rows].
"""


class Reader:
    """How a loss is read once the place in the graph is found where it was computed. Runs with gradients off."""

    classifies = False
    """Whether its targets are classes, so that :meth:`hits` can be asked."""

    def measure(self, node: Any, outer: int, tail: tuple[Scaling, ...]) -> Measured:
        """Take what was saved, and compute.

        Raises :class:`Unreadable` if it is no loss of samples, ``Overridden`` if the script would see our operators,
        RuntimeError if the graph was freed.

        Args:
            node: of the operator, which made the vector or reduced it itself.
            outer: the reduction that the script did itself over the vector (``.mean()``); NONE where the operator did.
            tail: what the script did with the number before it back-propagated it, in its order.
        """
        raise NotImplementedError

    def hits(self, node: Any) -> tuple[Tensor, Tensor, Tensor]:
        """What accuracy is made of: log-probabilities [rows, classes], targets [rows], and which of them count."""
        raise NotImplementedError


class OperatorReader(Reader):
    """One kind of node whose operator takes ``reduction``: a row of :data:`READERS`."""

    def __init__(self, operator: Callable[..., Tensor], tensors: str, options: str = "") -> None:
        """``tensors`` and ``options`` name ``_saved_*`` attributes, input and target first; reduction is implied."""
        self._operator = operator
        self._saved = attrgetter(*[f"_saved_{name}" for name in f"reduction {options} {tensors}".split()])
        self._given = len(options.split())

    def measure(self, node: Any, outer: int, tail: tuple[Scaling, ...]) -> Measured:
        """As :meth:`Reader.measure`."""
        reduction, *saved = self._saved(node)
        options, given = saved[: self._given], saved[self._given :]
        check_plain(*given)
        target, summed = given[1], (outer or reduction) == SUM
        rows = rows_of(target, reduction, outer)
        values = self._operator(*given, NONE, *options)
        value = values if reduction == NONE else self._operator(*given, reduction, *options)
        if outer:
            value = reduced(values, outer)
        values = by_row(values, rows, summed)
        if tail:
            values, value = scaled(values, tail), scaled(value, tail)
        return target, rows, values, value, 1 if summed else rows, target.numel() // rows


class NllReader(OperatorReader):
    """Negative log-likelihood: classes, class weights, and targets to be ignored."""

    classifies = True

    def __init__(self) -> None:
        super().__init__(_nn.nll_loss, "self target weight total_weight", "ignore_index")

    def measure(self, node: Any, outer: int, tail: tuple[Scaling, ...]) -> Measured:
        """As :meth:`Reader.measure`; the mean divides by the weights of the targets that count, by hand by all rows."""
        operator = self._operator
        reduction, ignored, source, target, weight, total = self._saved(node)
        if type(source) is not Tensor or type(target) is not Tensor:
            check_plain(source, target, weight)
        if ignored >= 1 << 63:  # as the script gave it: the graph gives it back as unsigned
            ignored -= 1 << 64
        if outer or not reduction:
            rows = rows_of(target, reduction, outer)
            values = operator(source, target, weight, NONE, ignored)
            value, divisor = (values.mean(), rows) if outer == MEAN else (values.sum(), 1)
            valid: Tensor | int = target.ne(ignored)
        else:
            values = operator(source, target, weight, NONE, ignored)
            value = operator(source, target, weight, reduction, ignored)
            shape = values.shape
            rows = shape[0] if shape and shape[0] else rows_of(target, reduction, outer)
            counted = total.item() if total.is_cpu else total
            divisor = counted if reduction == MEAN else 1
            valid = 1 if counted is not total and counted == rows and weight is None else target.ne(ignored)
        if tail:
            values, value = scaled(values, tail), scaled(value, tail)
        return target, rows, values, value, divisor, valid

    def hits(self, node: Any) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`Reader.hits`."""
        _, ignored, source, target, _, _ = self._saved(node)
        return source, target, target.ne(ignored if ignored < 1 << 63 else ignored - (1 << 64))


def rows_of(target: Tensor, reduction: int, outer: int) -> int:
    """How many rows a loss has; :class:`Unreadable` if they are no samples, or not reduced to one number once."""
    if (reduction == NONE) != bool(outer):
        raise Unreadable("the loss is reduced twice" if outer else "the loss is a vector: it was not reduced")
    shape = target.shape
    if not shape or not shape[0]:
        raise Unreadable("the loss is of a single sample without a batch axis, or of none")
    return shape[0]


def reduced(values: Tensor, reduction: int) -> Tensor:
    """A vector reduced as the script or a composite operator does it."""
    return values.sum() if reduction == SUM else values.mean()


def by_row(values: Tensor, rows: int, summed: bool) -> Tensor:
    """The elements of each row averaged, or summed where the script sums: [rows]."""
    if values.dim() > 1:
        values = values.reshape(rows, -1)
        values = values.sum(1) if summed else values.mean(1)
    return values


def scaled(value: Tensor, tail: tuple[Scaling, ...]) -> Tensor:
    """The tail, done to a total or to per-sample values."""
    for operator, other in tail:
        value = operator(value) if other is None else operator(value, other)
    return value


READERS: dict[str, Reader] = {
    "NllLossBackward0": NllReader(),
    "MseLossBackward0": OperatorReader(_nn.mse_loss, "self target"),
    "SmoothL1LossBackward0": OperatorReader(_nn.smooth_l1_loss, "self target", "beta"),
    "HuberLossBackward0": OperatorReader(_nn.huber_loss, "self target", "delta"),
    "BinaryCrossEntropyBackward0": OperatorReader(_nn.binary_cross_entropy, "self target weight"),
    "BinaryCrossEntropyWithLogitsBackward0": OperatorReader(
        torch.binary_cross_entropy_with_logits, "self target weight pos_weight"
    ),
}
"""By the name of the autograd node."""
