"""The scalar tail: what the script did between its reduction and the number that it back-propagated.

``loss / 4`` for accumulation, ``2 * loss``, ``-loss``, a reduction by hand of a ``reduction="none"`` loss: each step is
read from the graph and done again, to the reduced value (which must then equal the script's number bit for bit) and to
each sample's. What is not known here ends the reading with its name: nothing is guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onthefly.capture.losses import MEAN, NONE, READERS, SUM, Kept

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 16
"""Steps of a tail that are followed."""


class Scaling(NamedTuple):
    """One step of the tail, the same for the total and for each sample: ``operator(value, other)``."""

    operator: Callable[..., Tensor]
    other: Tensor | None

    def __call__(self, value: Tensor) -> Tensor:
        """Do the step."""
        return self.operator(value) if self.other is None else self.operator(value, self.other)


class Reading(NamedTuple):
    """A loss as it was found in the graph."""

    kept: Kept
    outer: int
    """The reduction that the script did itself over the vector (``.mean()``): NONE where the operator reduced."""
    tail: tuple[Scaling, ...]
    """In the order in which the script did them."""

    @property
    def reduction(self) -> int:
        """How the vector became a number, by whichever did it."""
        return self.outer or self.kept.reduction

    def values(self) -> Tensor:
        """Per-sample values, tail included; one dimension."""
        return self._scaled(self.kept.reader.values(self.kept, self.reduction))

    def reduced(self) -> Tensor:
        """The operator again with the script's own reduction, tail included: a scalar to compare with the loss."""
        value = self.kept.reader.run(self.kept, self.kept.reduction)
        if self.outer == MEAN:
            value = value.mean()
        elif self.outer == SUM:
            value = value.sum()
        return self._scaled(value)

    def _scaled(self, value: Tensor) -> Tensor:
        for step in self.tail:
            value = step(value)
        return value


class Unreadable(NamedTuple):
    """Why the per-sample losses of a backward call cannot be had."""

    reason: str


def read(root: Tensor) -> Reading | Unreadable:
    """Follow the graph from the back-propagated tensor to a reduction that is known."""
    node: Any = root.grad_fn
    outer = NONE
    tail: list[Scaling] = []
    for _ in range(LONGEST):
        if node is None:
            return Unreadable("the loss is a leaf: it was computed without a graph")
        name: str = node.name()
        reader = READERS.get(name)
        if reader is not None:
            return _reading(node, reader, outer, tail)
        if name in ("MeanBackward0", "SumBackward0") and not outer:
            outer = MEAN if name == "MeanBackward0" else SUM
            node = node.next_functions[0][0]
            continue
        if outer:
            break  # arithmetic below a reduction by hand is per element, not per total
        step = _step(name, node)
        if step is None:
            break
        scaling, node = step
        tail.append(scaling)
    else:
        name = "a tail that is too long"
    return Unreadable(f"the loss ends in {name}, which this version does not read")


def _reading(node: Any, reader: Any, outer: int, tail: list[Scaling]) -> Reading | Unreadable:
    try:
        if getattr(node._raw_saved_self, "unpack_hook", None) is not None:
            return Unreadable("its tensors are saved through a hook (checkpointing, offloading) that must not run twice")
        kept: Kept = reader.keep(node)
    except RuntimeError:  # torch's word for a graph that was freed; the script is about to hear the same
        return Unreadable("the graph was freed by an earlier backward call")
    if kept.reader.rows(kept) < 0:
        return Unreadable("the loss is of a single sample without a batch axis")
    if (kept.reduction == NONE) != bool(outer):
        return Unreadable("the loss is reduced twice" if outer else "the loss is a vector: it was not reduced")
    return Reading(kept, outer, tuple(reversed(tail)))


def _step(name: str, node: Any) -> tuple[Scaling, Any] | None:
    """The step that this node did, and the node that it did it to."""
    if name == "NegBackward0":
        return Scaling(torch.neg, None), node.next_functions[0][0]
    if name not in ("MulBackward0", "DivBackward0"):
        return None
    (left, _), (right, _) = node.next_functions
    if left is not None and right is None and _scalar(node._saved_other):
        return Scaling(torch.mul if name == "MulBackward0" else torch.div, node._saved_other), left
    if name == "MulBackward0" and left is None and right is not None and _scalar(node._saved_self):
        return Scaling(torch.mul, node._saved_self), right
    return None


def _scalar(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.dim() == 0
