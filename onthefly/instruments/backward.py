"""Watches ``torch.autograd.backward``, before it runs: the one slot that every caller comes by.

``Tensor.backward`` calls it through the module, and so do GradScaler, accelerate, Lightning, Hugging Face and closures.
``torch.autograd.grad`` and ``torch.func`` do not: their losses are not seen.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
import torch.autograd

from onthefly.instruments.dynamo import skip
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.errors import Guard


class BackwardInstrument:
    """The slot ``torch.autograd.backward``."""

    def __init__(self, observe: Callable[[Any, Any], None], guard: Guard) -> None:
        """``observe(tensors, grad_tensors)`` is called before each outermost backward, with what the script gave."""
        self._observe = observe
        self._guard = guard
        self._slot = Slot(torch.autograd, "backward", self._wrap)

    def disarm(self) -> None:
        """Put back what was there."""
        self._slot.restore()

    def _wrap(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        observe = self._guard.around(self._observe)
        # -1 outside of the engine: checkpointing and custom functions call backward from within a backward.
        graph_task: Callable[[], int] = torch._C._current_graph_task_id  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue, reportUnknownVariableType]

        @functools.wraps(original)
        def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> Any:
            if slot.enabled and graph_task() == -1:
                observe(tensors, grad_tensors)
            return original(tensors, grad_tensors, *args, **kwargs)

        skip(backward, callees=False)  # what the script's own backward calls is the script's
        skip(observe, callees=True)
        return backward
