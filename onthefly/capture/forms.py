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
from onthefly.capture.reading import MEAN, NONE, SUM, Read, Reader

if TYPE_CHECKING:
    from collections.abc import Callable

_nn: Any = torch._C._nn  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]

NEGATIVE_LOG: Callable[..., Tensor] = _nn.nll_loss_nd
"""As it is before it has a slot of ours."""


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

    name = "cross_entropy"
    classifies = True

    def __init__(self, tree: Smoothed) -> None:
        self._tree = tree

    def read(self, node: Any) -> Read:
        """As :meth:`Reader.read`."""
        reduction, source, target, ignored, weight, spread_weight, mask, total, counted, keep, spread = self._tree
        check_plain(source, target, weight)
        spent = source if spread_weight is None else source * spread_weight
        smooth = (-spent.sum(1)).masked_fill_(mask, 0.0)
        elements = NEGATIVE_LOG(source, target, weight, NONE, ignored) * keep + smooth * spread
        if not reduction:
            return Read(target, elements, NONE, None, 1, ~mask)
        again = smooth.sum()
        divisor: Tensor | float = 1
        if counted is not None:
            again = again / counted
            divisor = total.item() if total.is_cpu else total
        value = NEGATIVE_LOG(source, target, weight, reduction, ignored) * keep + again * spread
        return Read(target, elements, reduction, value, divisor, ~mask)

    def hits(self, node: Any) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`Reader.hits`."""
        return self._tree.source, self._tree.target, ~self._tree.mask

    def scores(self, node: Any) -> Tensor:
        """As :meth:`Reader.scores`."""
        return self._tree.source


class ProbabilityReader(Reader):
    """``-(log-probabilities * target [* weight])``, summed over the classes, then over or averaged over the rows."""

    name = "cross_entropy"

    def __init__(self, factors: tuple[Tensor, ...], target: Tensor, reduction: int) -> None:
        """``factors`` [rows, classes, ...] in the order they were multiplied; which of them is the target."""
        self._factors = factors
        self._target = target
        self._reduction = reduction

    def read(self, node: Any) -> Read:
        """As :meth:`Reader.read`."""
        check_plain(*self._factors)
        product, *factors = self._factors
        for factor in factors:
            product = product * factor
        elements, value = -product.sum(1), -product.sum()
        if self._reduction == SUM:
            return Read(self._target, elements, SUM, value, 1, None)
        return Read(self._target, elements, MEAN, value / elements.numel(), elements.numel(), None)


def smoothed(node: Any, hooked: bool) -> Reader | None:
    """At ``AddBackward0``: the tree of label smoothing, or None.

    ``nll * keep + smooth * spread``, where ``smooth`` is ``-(log-probabilities [* weight]).sum(1)`` with the ignored
    ones filled with 0, then summed, then divided by what counts, as the reduction wants it.
    """
    likelihood, smoothing = (_scaled_by_number(child) for child, _ in node.next_functions)
    if likelihood is None or smoothing is None or node._saved_alpha != 1:
        return None
    (nll, keep), (place, spread) = likelihood, smoothing
    if not (is_named(nll, "NllLossBackward0") or is_named(nll, "NllLoss2DBackward0")):
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


def probabilities(node: Any, hooked: bool) -> Reader | None:
    """The tree of cross entropy with probabilities as targets, or None.

    At ``NegBackward0`` a sum; at ``DivBackward1``, which only torch itself makes, the mean of it.
    """
    mean = node.name() == "DivBackward1"
    negated = only_input(node) if mean else node
    summed = only_input(negated) if is_named(negated, "NegBackward0") else None
    found = _product(only_input(summed), hooked) if is_named(summed, "SumBackward0") else None
    if found is None:
        return None
    factors, target = found
    if mean and node._saved_other != target.numel() // target.shape[1]:
        return None
    return ProbabilityReader(factors, target, MEAN if mean else SUM)


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


FORMS: dict[str, Callable[[Any, bool], Reader | None]] = {
    "AddBackward0": smoothed,
    "DivBackward1": probabilities,
    "NegBackward0": probabilities,
}
"""By the name of the node at the tree's root."""
