"""The scalar tail: what the script did between its reduction and the number that it back-propagated.

``loss / 4`` for accumulation, ``2 * loss``, ``-loss``, a reduction by hand of a ``reduction="none"`` loss: each step is
read from the graph and done again, to the reduced value (which must then equal the script's number bit for bit) and to
each sample's. What is not known here ends the reading with its name: nothing is guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from onthefly.capture.forms import FORMS
from onthefly.capture.graph import HOOKED, only_input, through_hook
from onthefly.capture.reading import MEAN, NONE, READERS, SUM, Reader, Scaling, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LONGEST = 16
"""Steps of a tail that are followed."""


def follow(
    root: Tensor, hooked: bool, noted: Callable[[Any], Reader | None]
) -> tuple[Reader, Any, int, tuple[Scaling, ...]]:
    """From the back-propagated tensor to a loss that is known; :class:`Unreadable` where there is none.

    Returns its reader, and what :meth:`Reader.measure` wants to know.

    Args:
        root: the tensor.
        hooked: a saved tensor of this process may have hooks, to be asked for at each node (2 to 5 us in a real loop).
        noted: the reader that was left at a node when the loss was computed, if any.
    """
    node: Any = root.grad_fn
    outer = NONE
    tail: list[Scaling] = []
    name = ""
    while node is not None and len(tail) < LONGEST:
        name = node.name()
        reader = READERS.get(name)
        if reader is not None and hooked and any(through_hook(node, kept) for kept in ("self", "target", "weight")):
            raise Unreadable(HOOKED)
        if reader is None:
            reader = noted(node)
        if reader is None and name in FORMS:
            reader = FORMS[name](node, outer, hooked)
        if reader is not None:
            return reader, node, outer, tuple(reversed(tail))
        if outer:
            break  # arithmetic below a reduction by hand is per element, not per total
        if name in ("MeanBackward0", "SumBackward0"):
            outer, node = MEAN if name == "MeanBackward0" else SUM, only_input(node)
        elif name == "AliasBackward0":  # the same number in another class of tensor
            node = only_input(node)
        else:
            step = _step(name, node, hooked)
            if step is None:
                break
            tail.append(step[0])
            node = step[1]
    if node is None:
        raise Unreadable(
            "the loss does not depend on anything that needs a gradient" if name
            else "the loss is a leaf: it was computed without a graph"
        )  # fmt: skip
    raise Unreadable(f"the loss ends in {name}, which this version does not read")


def reason_of(error: Exception) -> str:
    """Why a loss could not be read: our word or torch's; any other error is raised again."""
    said = str(error)
    if isinstance(error, Unreadable):
        return said
    # Torch's words on saved tensors that it does not give out. The script is about to hear them too.
    if "backward through the graph" in said:
        return "the graph was freed by an earlier backward call"
    if "modified by an inplace operation" in said:
        return "the graph was changed in place"
    raise error


def _step(name: str, node: Any, hooked: bool) -> tuple[Scaling, Any] | None:
    """The step that this node did, and the node that it did it to."""
    if name == "NegBackward0":
        return Scaling(torch.neg, None), only_input(node)
    if name not in ("MulBackward0", "DivBackward0"):
        return None
    (left, _), (right, _) = node.next_functions
    if left is not None and right is None and _scalar(node, "other", hooked):
        return Scaling(torch.mul if name == "MulBackward0" else torch.div, node._saved_other), left
    if name == "MulBackward0" and left is None and right is not None and _scalar(node, "self", hooked):
        return Scaling(torch.mul, node._saved_self), right
    return None


def _scalar(node: Any, name: str, hooked: bool) -> bool:
    """The node saved a number under that name, and not through a hook."""
    if hooked and through_hook(node, name):
        return False
    tensor = getattr(node, f"_saved_{name}")
    return tensor is not None and tensor.dim() == 0
