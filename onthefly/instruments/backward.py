"""Watches ``torch.autograd.backward``, before it runs: the one slot that every caller comes by.

``Tensor.backward`` calls it through the module, and so do GradScaler, accelerate, Lightning, Hugging Face and closures.
``torch.autograd.grad`` and ``torch.func`` do not: their losses are not seen.

It is a pause point as well, for loops in which no optimizer's step comes by (SGD by hand, optimizers that step within
backward): what the script made of the gradients before is done.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
import torch.autograd

from onthefly.core.gate import PATIENCE
from onthefly.errors import leave_frame_out
from onthefly.instruments.dynamo import skip
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.core.gate import Gate
    from onthefly.errors import Guard


_autograd: Any = torch._C._autograd  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType]


graph_task: Any = torch._C._current_graph_task_id  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType]


class BackwardInstrument:
    """The slot ``torch.autograd.backward``, and two that tell when saved tensors may have hooks."""

    def __init__(
        self,
        observe: Callable[..., None],
        beware: Callable[[], None],
        gate: Gate,
        hold: Callable[[], None],
        guard: Guard,
    ) -> None:
        """``observe`` is called before each backward, with the arguments of ``torch.autograd.backward``.

        ``beware()`` is called when hooks on saved tensors are set up (checkpointing, offloading): from then on each
        node must be asked for them before anything is unpacked, which would cost 4 us a step if it were always done.
        """
        self._observe = observe
        self._gate = gate
        self._hold = hold
        self._guard = guard
        self._slots = [
            Slot(torch.autograd, "backward", self._wrap),
            Slot(_autograd, "_push_saved_tensors_default_hooks", lambda slot, original: _tell(slot, original, beware)),
            Slot(_autograd.SavedTensor, "register_hooks", lambda slot, original: _tell(slot, original, beware)),
        ]

    def disarm(self) -> None:
        """Put back what was there."""
        for slot in reversed(self._slots):
            slot.restore()

    def _wrap(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        gate, serve = self._gate, self._guard.around(self._serve)

        def observe(*given: Any, **named: Any) -> None:
            if gate.watch is not None and graph_task() == -1:
                roots = named.get("tensors", given[0] if given else None)
                gate.watch.backward(roots if isinstance(roots, (tuple, list)) else (roots,))
            if given or "tensors" in named:  # else it raises
                self._observe(*given, **named)

        def after() -> None:
            if gate.watch is not None and graph_task() == -1:
                gate.watch.backward_ended()
            if gate.waiting:
                serve()

        backward = self._guard.ahead_of(original, observe, slot, after)
        skip(backward, callees=False)  # what the script's own backward calls is the script's
        skip(observe, callees=True)
        skip(after, callees=True)
        return backward

    def _serve(self) -> None:
        self._gate.missed += 1
        if self._gate.missed > PATIENCE and graph_task() == -1:
            self._hold()


def _tell(slot: Slot, original: Callable[..., Any], beware: Callable[[], None]) -> Callable[..., Any]:
    """``original``, announced; ``beware`` cannot fail."""

    @functools.wraps(original)
    def announced(*args: Any, **kwargs: Any) -> Any:
        if slot.enabled:
            beware()
        try:
            return original(*args, **kwargs)
        except BaseException as error:
            leave_frame_out(error)
            raise

    skip(announced, callees=True)
    return announced
