"""Watches loss functions while gradients are off: the script's own validation, which leaves no graph.

The slots are what ``torch.nn.functional`` calls at run time. While gradients are on, which is all of training, they ask
just that, 0.1 us, and call what was there.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import torch
import torch.jit._builtins
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from onthefly.errors import leave_frame_out
from onthefly.instruments.dynamo import skip
from onthefly.instruments.standing import compiling
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.errors import Guard

_nn: Any = torch._C._nn  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]

SLOTS: list[tuple[Any, str]] = [
    *[(_nn, name) for name in ("cross_entropy_loss", "nll_loss_nd", "mse_loss", "smooth_l1_loss", "huber_loss",
                               "soft_margin_loss", "binary_cross_entropy")],
    (torch, "binary_cross_entropy_with_logits"),
]  # fmt: skip

grad_enabled = torch.is_grad_enabled


class EvaluationInstrument:
    """The slots of :data:`SLOTS`."""

    def __init__(self, evaluated: Callable[..., None], guard: Guard) -> None:
        """``evaluated(function, result, args, named)`` is called after a loss was computed with gradients off."""
        self._evaluated = guard.around(evaluated)
        skip(self._evaluated, callees=True)
        builtins: Any = torch.jit._builtins  # pyright: ignore[reportPrivateUsage]
        self._operators: dict[int, str] = getattr(builtins, "_builtin_table", None) or {}
        """Which function is which operator to ``torch.jit.script``, by ``id``; private to torch, empty if absent."""
        self._scripted: list[int] = []
        """Ours among them."""
        self._slots = [Slot(owner, name, self._wrap) for owner, name in SLOTS]
        self._aside = contextlib.ExitStack()
        self._anomalies = Slot(torch, "set_anomaly_enabled", self._wrap_anomalies)

    def disarm(self) -> None:
        """Put back what was there."""
        self._anomalies.restore()
        self._aside.close()
        for slot in reversed(self._slots):
            slot.restore()
        for function in self._scripted:
            self._operators.pop(function, None)

    def _wrap_anomalies(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        """Anomaly detection prints the frames of each forward call: ours stand aside while it is on."""

        @functools.wraps(original)
        def set_anomaly_enabled(*args: Any, **named: Any) -> Any:
            try:
                result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if slot.enabled:
                self._aside.close()
                if torch.is_anomaly_enabled():
                    for ours in self._slots:
                        self._aside.enter_context(ours.aside())
            return result

        return set_anomaly_enabled

    def _wrap(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        evaluated, operator = self._evaluated, self._operators.get(id(original))

        @functools.wraps(original)
        def function(*args: Any, **named: Any) -> Any:
            # Dynamo inlines this frame, finds a constant here, and has the script's own call in its graph.
            if compiling():
                return original(*args, **named)
            if operator is not None and has_torch_function(args):
                # The operator would name itself to modes and subclasses, and not be what the script finds in its place.
                return handle_torch_function(function, args, *args, **named)
            try:
                result = original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if not grad_enabled() and type(result) is Tensor and slot.enabled:
                evaluated(original, result, args, named)
            return result

        skip(function, callees=False)
        if slot.owner is torch:
            function.__module__, function.__qualname__ = "torch", slot.name
        if operator is not None:
            self._operators[id(function)] = operator
            self._scripted.append(id(function))
        return function
