"""The state of torch in which our own operators run, untouched by the script's modes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]


def undisturbed() -> ExitStack:
    """Gradients off, torch-function modes and subclasses off, autocast off; to be entered and left by ``with``."""
    stack = ExitStack()
    stack.enter_context(torch.no_grad())
    stack.enter_context(_c.DisableTorchFunction())
    if _c._is_any_autocast_enabled():
        for kind in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(kind, enabled=False))
    return stack


def intercepted() -> bool:
    """A dispatch mode is active (fake tensors, a counter of operations): operators of ours would show up in it."""
    return _c._len_torch_dispatch_stack() > 0
