"""Nodes of the autograd graph: what they saved, taken only where no hook of the script's stands before it."""

from __future__ import annotations

from typing import Any

_SCALED = "onthefly scaled"


class Unreadable(Exception):
    """Why the per-sample losses of a backward call cannot be had."""


HOOKED = "its tensors are saved through a hook (checkpointing, offloading), not to be run twice"


def saved(node: Any, name: str, hooked: bool) -> Any:
    """What the node saved under that name (a tensor, a number, None).

    ``hooked``: saved tensors of this process may have hooks, to be asked for each time (2 to 5 us in a real loop);
    :class:`Unreadable` if this one has.
    """
    if hooked and through_hook(node, name):
        raise Unreadable(HOOKED)
    return getattr(node, f"_saved_{name}")


def through_hook(node: Any, name: str) -> bool:
    """Whether the tensor of that name is saved through a hook; False for what is no tensor."""
    kept = getattr(node, f"_raw_saved_{name}", None)
    return kept is not None and kept.unpack_hook is not None


def only_input(node: Any) -> Any:
    """The node that made the first input of this one; None at a leaf without gradients."""
    return node.next_functions[0][0]


def leaf_of(node: Any) -> Any:
    """The leaf (a parameter, say) that is the first input itself; None where a network made that."""
    made = node.next_functions[0][0] if node.next_functions else None
    return made.variable if made is not None and made.name().endswith("AccumulateGrad") else None


def mark_scaled(result: Any) -> None:
    """A gradient scaler made that: the multiplication that it ends in is no part of the loss."""
    for part in result if isinstance(result, (tuple, list)) else (result,):
        node: Any = getattr(part, "grad_fn", None)
        if node is not None:
            node.metadata[_SCALED] = True


def is_scaled(node: Any) -> bool:
    """Whether this multiplication is a gradient scaler's."""
    return _SCALED in node.metadata


def is_named(node: Any, name: str) -> bool:
    """Whether there is a node, of that kind."""
    return node is not None and node.name() == name
