"""The state of torch in which our own operators run, untouched by the script's modes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]

dispatch_modes, function_modes, autocasting = (
    _c._len_torch_dispatch_stack, _c._len_torch_function_stack, _c._is_any_autocast_enabled,
)  # fmt: skip
"""Where all three say no (0, 0, False), the script has no mode on but, perhaps, gradients."""


def undisturbed() -> ExitStack:
    """Gradients off, torch-function modes and subclasses off, autocast off; to be entered and left by ``with``."""
    stack = ExitStack()
    stack.enter_context(torch.no_grad())
    stack.enter_context(_c.DisableTorchFunction())
    if autocasting():
        for kind in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(kind, enabled=False))
    return stack


def intercepted() -> bool:
    """A dispatch mode is active (fake tensors, a counter of operations): operators of ours would show up in it."""
    return dispatch_modes() > 0


def capturing(tensor: Tensor) -> bool:
    """A CUDA graph is being captured: operators of ours would become part of it, and give nothing yet."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
