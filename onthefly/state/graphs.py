"""Whether a tensor's autograd graph can still be back-propagated through.

A loss whose ``backward`` has run has a graph without its saved tensors: nobody can go through it again, and a snapshot
may put the number back without it. A graph that still has them may be used later in the step (``fake`` between the two
optimizers of a GAN). It cannot be used twice, so nothing can be wound back to such a moment.
"""

from __future__ import annotations

from typing import Any

import torch

MAX_NODES = 20_000

_CLOSED = ("CppFunction", "CopySlices")
"""Nodes that do not show what they save."""

NONE, BARE, SPENT, LIVE = "none", "bare", "spent", "live"
"""No graph; one that saves nothing, and may be used again and again; one that is used up; one that waits."""


def graph_of(tensor: torch.Tensor) -> str:
    """Which of the four that tensor has. Runs no hook of the script and unpacks nothing."""
    root = torch._C.TensorBase.grad_fn.__get__(tensor)  # type: ignore[attr-defined] # past subclasses of the script's
    if root is None:
        return NONE
    seen: set[Any] = {root}
    pending: list[Any] = [root]
    spent = unknown = False
    while pending:
        node = pending.pop()
        state = _saved(node)
        if state == LIVE or len(seen) > MAX_NODES:
            return LIVE
        spent = spent or state == SPENT
        unknown = unknown or type(node).__name__ in _CLOSED
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                pending.append(following)
    return SPENT if spent else LIVE if unknown else BARE


def _saved(node: Any) -> str:
    """Whether a node saves nothing, has let it go, or has it still."""
    state = BARE
    for name, plain in _names(type(node), node):
        try:
            raw = getattr(node, name)
            if any(getattr(one, "unpack_hook", None) for one in (raw if isinstance(raw, tuple) else (raw,))):
                return LIVE
            value = getattr(node, plain)
        except RuntimeError:  # it is freed
            state = SPENT
            continue
        if value is not None and value != ():
            return LIVE
    return state


_known: dict[type, list[tuple[str, str]]] = {}


def _names(kind: type, node: Any) -> list[tuple[str, str]]:
    """What a kind of node calls its saved tensors: packed, and as tensors (those of a Function of the script's own)."""
    if kind not in _known:
        names = set(dir(node))
        packed = [name for name in names if name.startswith("_raw_saved_")]
        plain = [name.replace("_raw", "", 1) for name in packed]
        _known[kind] = [(name, one if one in names else "saved_tensors") for name, one in zip(packed, plain)]
    return _known[kind]
