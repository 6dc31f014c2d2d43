"""The scalar tail: what the script did between its reduction and the number that it back-propagated.

``loss / 4`` for accumulation, ``2 * loss``, ``-loss``, a reduction by hand of a ``reduction="none"`` loss: each step is
read from the graph and done again, to the reduced value (which must then equal the script's number bit for bit) and to
each sample's. What is not known here ends the reading with its name: nothing is guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from onthefly.capture.reading import MEAN, NONE, READERS, SUM, Reader, Reading, Scaling, Unreadable

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 16
"""Steps of a tail that are followed."""


def read(root: Tensor) -> Reading | Unreadable:
    """Follow the graph from the back-propagated tensor to a reduction that is known."""
    node: Any = root.grad_fn
    if node is None:
        return Unreadable("the loss is a leaf: it was computed without a graph")
    name: str = node.name()
    return _reading(node, READERS[name], NONE, ()) if name in READERS else _follow(node, name)


def _follow(node: Any, name: str) -> Reading | Unreadable:
    outer = NONE
    tail: list[Scaling] = []
    while len(tail) < LONGEST:
        reader = READERS.get(name)
        if reader is not None:
            return _reading(node, reader, outer, tuple(reversed(tail)))
        if outer:
            break  # arithmetic below a reduction by hand is per element, not per total
        if name in ("MeanBackward0", "SumBackward0"):
            outer, node = MEAN if name == "MeanBackward0" else SUM, node.next_functions[0][0]
        else:
            step = _step(name, node)
            if step is None:
                break
            tail.append(step[0])
            node = step[1]
        if node is None:
            return Unreadable("the loss does not depend on anything that needs a gradient")
        name = node.name()
    return Unreadable(f"the loss ends in {name}, which this version does not read")


def _reading(node: Any, reader: Reader, outer: int, tail: tuple[Scaling, ...]) -> Reading | Unreadable:
    try:
        if getattr(node._raw_saved_target, "unpack_hook", None) is not None:
            return Unreadable("its tensors are saved through a hook (checkpointing, offloading), not to be run twice")
        reading = reader.keep(node, outer, tail)
    except RuntimeError:  # torch's word for a graph that was freed; the script is about to hear the same
        return Unreadable("the graph was freed by an earlier backward call")
    if not reading.target.dim():
        return Unreadable("the loss is of a single sample without a batch axis")
    if (reading.options[0] == NONE) != bool(outer):
        return Unreadable("the loss is reduced twice" if outer else "the loss is a vector: it was not reduced")
    return reading


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
