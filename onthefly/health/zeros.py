"""The share of zeros that ReLUs give, read out of a step's graph: modules and functions alike, and no hook is needed.

What ReLU gives is kept by its node, which needs it for the gradient; reading it changes nothing. Tensors that a hook on
saved tensors has taken away (checkpointing, offloading) are left alone: unpacking them would run the script's code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

RELU = "ReluBackward0"
MAX_NODES = 20_000
SAMPLED = 1 << 14
"""Numbers of each output that are looked at, evenly spread."""


def relus(roots: Iterable[Any]) -> list[Tensor]:
    """What the ReLUs above these losses gave, as far as it is there."""
    stack: list[Any] = [root.grad_fn for root in roots if isinstance(root, torch.Tensor) and root.grad_fn is not None]
    seen, found = set(stack), list[Any]()
    while stack and len(seen) < MAX_NODES:
        node = stack.pop()
        if node.name() == RELU and _keeps_plainly(node):
            try:
                found.append(node._saved_result)
            except RuntimeError:  # freed by an earlier backward call: the script is about to hear of it
                return []
        for above, _ in node.next_functions:
            if above is not None and above not in seen:
                seen.add(above)
                stack.append(above)
    return found


def _keeps_plainly(node: Any) -> bool:
    """No hook stands between what it keeps and us, as far as that can be seen without running it."""
    return getattr(getattr(node, "_raw_saved_result", None), "unpack_hook", node) is None


def zeros(outputs: Iterable[Tensor]) -> tuple[Tensor, int] | None:
    """Zeros among the numbers that are looked at, as a tensor on their device, and how many these are."""
    total, count = None, 0
    for output in outputs:
        flat = output.detach()
        dense = flat.is_contiguous() or (flat.dim() == 4 and flat.is_contiguous(memory_format=torch.channels_last))
        flat = flat.as_strided((flat.numel(),), (1,)) if dense else flat.reshape(-1)
        some = flat[:: max(1, flat.numel() // SAMPLED)]
        found = some.numel() - torch.count_nonzero(some)
        if total is not None and found.device != total.device:
            continue
        total = found if total is None else total + found
        count += some.numel()
    return (total, count) if total is not None and count else None
