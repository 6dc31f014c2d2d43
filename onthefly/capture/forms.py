"""Losses that torch composes of several nodes, recognised by their form: cross entropy smoothed, or of probabilities.

``F.cross_entropy`` is not patched, since that would cost every step of every script. With ``label_smoothing``, or with
probabilities as targets, it leaves a small tree of nodes which keep all that is needed; the same ATen operators in the
same order give the script's number again bit for bit. A tree that differs in one node is not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onthefly.capture.graph import is_named, only_input, saved
from onthefly.capture.quiet import check_plain
from onthefly.capture.reading import (
    MEAN,
    NONE,
    SUM,
    Measured,
    Reader,
    Scaling,
    by_row,
    reduced,
    rows_of,
    scaled,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable

_nn: Any = torch._C._nn  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]


class Smoothed(NamedTuple):
    """What the tree of label smoothing keeps."""

    reduction: int
    source: Tensor
    """Log-probabilities [rows, classes]."""
    target: Tensor
    ignored: int
    weight: Tensor | None
    """Of the classes, for the likelihood [classes]; and for the smoothing, as it was broadcast [1, classes]."""
    spread_weight: Tensor | None
    mask: Tensor
    """Targets that are ignored."""
    total: Tensor
    """The weights of those that count."""
    counted: Tensor | None
    """What the mean of the smoothing was divided by: the same, added up in another order."""
    keep: float
    """``1 - label_smoothing``."""
    spread: float
    """``label_smoothing / classes``."""


class SmoothedReader(Reader):
    """``F.cross_entropy(label_smoothing=...)``: the likelihood of the target, and a little of that of each class."""

    classifies = True

    def __init__(self, tree: Smoothed) -> None:
        self._tree = tree

    def measure(self, node: Any, outer: int, tail: tuple[Scaling, ...]) -> Measured:
        """As :meth:`Reader.measure`."""
        reduction, source, target, ignored, weight, spread_weight, mask, total, counted, keep, spread = self._tree
        check_plain(source, target, weight)
        rows = rows_of(target, reduction, outer)
        spent = source if spread_weight is None else source * spread_weight
        smooth = (-spent.sum(1)).masked_fill_(mask, 0.0)
        values = _nn.nll_loss(source, target, weight, NONE, ignored) * keep + smooth * spread
        divisor: Tensor | float = 1
        if outer:
            value, divisor = reduced(values, outer), rows if outer == MEAN else 1
        else:
            again = smooth.sum()
            if counted is not None:
                again = again / counted
                divisor = total.item() if total.is_cpu else total
            value = _nn.nll_loss(source, target, weight, reduction, ignored) * keep + again * spread
        if tail:
            values, value = scaled(values, tail), scaled(value, tail)
        return target, rows, values, value, divisor, ~mask

    def hits(self, node: Any) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`Reader.hits`."""
        return self._tree.source, self._tree.target, ~self._tree.mask


class ProbabilityReader(Reader):
    """``-(log-probabilities * target [* weight])``, summed over the classes and reduced, by torch or by hand."""

    def __init__(self, factors: tuple[Tensor, ...], target: Tensor, reduction: int, name: str) -> None:
        """``factors`` [rows, classes, ...] in the order they were multiplied; which of them is the target.

        ``reduction`` is what the tree itself did; ``name`` is the node's below a reduction by hand (see :data:`FORMS`):
        the product, its sum over the classes, or that negated.
        """
        self._factors = factors
        self._target = target
        self._reduction = reduction
        self._name = name

    def measure(self, node: Any, outer: int, tail: tuple[Scaling, ...]) -> Measured:
        """As :meth:`Reader.measure`."""
        check_plain(*self._factors)
        rows = rows_of(self._target, self._reduction, outer)
        product, *factors = self._factors
        for factor in factors:
            product = product * factor
        summed = (outer or self._reduction) == SUM
        if self._name == "MulBackward0":
            values, value = product.sum(1) if summed else product, reduced(product, outer)
        elif self._reduction == MEAN:
            values = -product.sum(1)
            value = -product.sum() / values.numel()
        else:
            values = product.sum(1) if self._name == "SumBackward1" else -product.sum(1)
            value = reduced(values, outer)
        count = values.numel() // rows
        values = by_row(values, rows, summed)
        if tail:
            values, value = scaled(values, tail), scaled(value, tail)
        return self._target, rows, values, value, 1 if summed else rows, count


def smoothed(node: Any, outer: int, hooked: bool) -> Reader | None:
    """At ``AddBackward0``: the tree of label smoothing, or None.

    ``nll * keep + smooth * spread``, where ``smooth`` is ``-(log-probabilities [* weight]).sum(1)`` with the ignored
    ones filled with 0, then summed, then divided by what counts, as the reduction wants it.
    """
    likelihood, smoothing = (_scaled_by_number(child) for child, _ in node.next_functions)
    if likelihood is None or smoothing is None or node._saved_alpha != 1:
        return None
    (nll, keep), (place, spread) = likelihood, smoothing
    if not is_named(nll, "NllLossBackward0"):
        return None
    reduction, count, spread_weight = nll._saved_reduction, None, None
    if reduction == MEAN and is_named(place, "DivBackward0"):
        count, place = saved(place, "other", hooked), only_input(place)
        if count is None or count.dim():
            return None
    if reduction and is_named(place, "SumBackward0"):
        place = only_input(place)
    if not is_named(place, "MaskedFillBackward0") or (reduction == MEAN) != (count is not None):
        return None
    mask, place = saved(place, "mask", hooked), only_input(place)
    place = _class_sum(only_input(place)) if is_named(place, "NegBackward0") else None
    if is_named(place, "MulBackward0"):
        spread_weight, place = saved(place, "other", hooked), only_input(place)
    if place is not only_input(nll) or not is_named(place, "LogSoftmaxBackward0"):
        return None
    source, target, weight = (saved(nll, name, hooked) for name in ("self", "target", "weight"))
    if (weight is None) != (spread_weight is None):
        return None
    ignored = nll._saved_ignore_index
    return SmoothedReader(Smoothed(
        reduction, source, target, ignored - (1 << 64) if ignored >= 1 << 63 else ignored, weight, spread_weight,
        mask, saved(nll, "total_weight", hooked), count, keep, spread,
    ))  # fmt: skip


def probabilities(node: Any, outer: int, hooked: bool) -> Reader | None:
    """The tree of cross entropy with probabilities as targets, or None.

    At ``DivBackward1`` (the division that torch does itself, ``reduction="mean"``); below a reduction by hand at
    ``NegBackward0``, or where the sign came later and is part of the tail, at the sum over the classes or the product.
    """
    name, reduction = node.name(), NONE
    if outer == NONE:
        summed = only_input(node) if name == "DivBackward1" else None
        if not is_named(summed, "NegBackward0") or not is_named(only_input(summed), "SumBackward0"):
            return None
        reduction, place = MEAN, only_input(only_input(summed))
    elif name == "NegBackward0":
        place = _class_sum(only_input(node))
    else:
        place = _class_sum(node) if name == "SumBackward1" else node
    found = _product(place, hooked)
    if found is None:
        return None
    factors, target = found
    if reduction == MEAN and node._saved_other != target.numel() // target.shape[1]:
        return None
    return ProbabilityReader(factors, target, reduction, name)


def _scaled_by_number(node: Any) -> tuple[Any, float] | None:
    """What torch itself multiplied by a number, and that number."""
    return (only_input(node), node._saved_other) if is_named(node, "MulBackward1") else None


def _class_sum(node: Any) -> Any:
    """What is summed over the classes here; None if it is not."""
    if not is_named(node, "SumBackward1") or node._saved_keepdim or len(node._saved_dim) != 1:
        return None
    (axis,) = node._saved_dim
    if axis >= 1 << 63:  # counted from the end, given back as unsigned
        axis += len(node._saved_self_sym_sizes) - (1 << 64)
    return only_input(node) if axis == 1 else None


def _product(node: Any, hooked: bool) -> tuple[tuple[Tensor, ...], Tensor] | None:
    """Log-probabilities times one or two tensors, in their order, and which of those is the target.

    The target is the one that has the shape of the log-probabilities. Weights of the classes have it as well where
    there is one row; torch makes them a view of a vector, and that tells them. Else nothing is guessed: None.
    """
    factors: list[Tensor] = []
    while is_named(node, "MulBackward0") and len(factors) < 2:
        (left, _), (right, _) = node.next_functions
        first = left is not None and left.name() in ("LogSoftmaxBackward0", "MulBackward0")
        factor = saved(node, "other" if first else "self", hooked)
        if factor is None:
            return None
        factors.append(factor)
        node = left if first else right
    if not factors or not is_named(node, "LogSoftmaxBackward0"):
        return None
    source: Tensor = saved(node, "result", hooked)
    targets = [factor for factor in factors if factor.shape == source.shape]
    if len(targets) == 2:
        targets = [factor for factor in targets if factor._base is None or factor._base.dim() > 1]
    if len(targets) != 1 or source.dim() < 2:
        return None
    return (source, *reversed(factors)), targets[0]


FORMS: dict[str, Callable[[Any, int, bool], Reader | None]] = {
    "AddBackward0": smoothed,
    "DivBackward1": probabilities,
    "NegBackward0": probabilities,
    "SumBackward1": probabilities,
    "MulBackward0": probabilities,
}
"""By the name of the node at the tree's root."""
