"""Losses whose graph does not keep what they were computed from: L1, KL, Poisson and Gaussian likelihood.

Torch composes them of elementwise operators, and what is saved of those is a difference or a product: the target, which
tells the batch, is gone. So the operands are noted in the ``metadata`` of the node that made the result
(:meth:`OpenLosses.note`, called right after the function returned) and let go when it was back-propagated. Reading is
the function itself again, with ``reduction="none"``; its own ``mean`` and ``sum`` are those of tensors.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onthefly.capture.quiet import autocast_as_now, check_plain
from onthefly.capture.reading import (
    MEAN,
    NONE,
    SUM,
    Measured,
    Reader,
    Scaling,
    Unreadable,
    by_row,
    reduced,
    rows_of,
    scaled,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Noted = tuple[tuple[Any, ...], int, Callable[[], Tensor]]

MAX_OPEN = 16
"""Losses that wait for their backward call, at most: a list of losses that a script keeps must not keep more for us."""

KEY = "onthefly"
"""In a node's ``metadata``."""

READ = "its operands were let go when it was back-propagated first (retain_graph)"
CROWDED = f"more than {MAX_OPEN} such losses were computed since"
CHANGED = "its operands were changed in place before it was back-propagated"

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]


class OpenLosses:
    """Losses that were computed and not back-propagated yet."""

    def __init__(self) -> None:
        self._open: deque[weakref.ref[Operands]] = deque()

    def note(self, function: Callable[..., Any], result: Tensor, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """``result`` is what the function (by its name: one of :data:`FUNCTIONS`) just gave for these arguments."""
        if _c._functorch.peek_interpreter_stack() is not None:
            return  # tensors of a transform (vmap, grad) mean nothing once it has returned
        with _c.DisableTorchFunction():  # a mode or a tensor subclass sees attributes, too
            node: Any = result.grad_fn
            if node is None:
                return
            operands, reduction, each = FUNCTIONS[function.__name__](function, *args, **named)
            tensors = [operand for operand in operands if isinstance(operand, Tensor)]
            if any(tensor.is_inference() for tensor in tensors):  # they have no version to compare
                return
            versions = [(tensor, tensor._version) for tensor in tensors]
            noted = Operands(operands, reduction, each, versions, autocast_as_now(result.device.type))
            node.metadata[KEY] = noted
        self._open.append(weakref.ref(noted))
        if len(self._open) > MAX_OPEN:
            oldest = self._open.popleft()()
            if oldest is not None:
                oldest.let_go(CROWDED)

    def at(self, node: Any) -> Reader | None:
        """What was noted at this node; asks none before the first loss of this kind (0.1 us and a dictionary each)."""
        return node.metadata.get(KEY) if self._open else None


class Operands(Reader):
    """One such loss, which reads itself."""

    def __init__(
        self,
        operands: tuple[Any, ...],
        reduction: int,
        each: Callable[[], Tensor],
        versions: list[tuple[Tensor, int]],
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        """``operands``: input and target first. ``each()`` computes the loss of each element, in that autocast."""
        self._operands: tuple[Any, ...] = operands
        self._reduction = reduction
        self._each: Callable[[], Tensor] | None = each
        self._versions = versions
        self._autocast = autocast
        self._gone = ""

    def let_go(self, why: str) -> None:
        """Keep nothing any more."""
        self._operands, self._each, self._versions, self._gone = (), None, [], why

    def measure(self, node: Any, outer: int, tail: tuple[Scaling, ...]) -> Measured:
        """As :meth:`Reader.measure`; a sum that is divided by the number of rows at once is a mean over the rows."""
        if self._each is None:
            raise Unreadable(self._gone)
        tensors = [tensor for tensor, _ in self._versions]
        check_plain(*tensors)
        if any(tensor._version != version for tensor, version in self._versions):
            self.let_go(CHANGED)
            raise Unreadable(CHANGED)
        summed = (outer or self._reduction) == SUM
        with self._autocast():
            values = self._each()
            rows = rows_of(values, self._reduction, outer)
            value = reduced(values, outer or self._reduction)
        # One of another shape was stretched, and is tied as a view of itself, which proves no row.
        target: Tensor = self._operands[1]
        if target.shape != values.shape:
            target = target.expand(values.shape)
        count, divisor = values.numel() // rows, 1 if summed else rows
        values = by_row(values, rows, summed)
        if tail:
            value = scaled(value, tail)
            if summed and not outer and _divides_by(tail[0], rows):  # reduction="batchmean"
                tail, divisor = tail[1:], rows
            values = scaled(values, tail)
        self.let_go(READ)
        return target, rows, values, value, divisor, count


def _divides_by(step: Scaling, rows: int) -> bool:
    """Whether the script (or ``F.kl_div``) divided by that number; a number on an accelerator is not asked."""
    other = step.other
    return step.operator is torch.div and other is not None and other.is_cpu and other.item() == rows


def _l1(again: Callable[..., Tensor], input: Tensor, target: Tensor, reduction: int = NONE) -> Noted:
    return (input, target), reduction, lambda: again(input, target, NONE)


def _kl(
    again: Callable[..., Tensor], input: Tensor, target: Tensor, reduction: int = NONE, *, log_target: bool = False
) -> Noted:
    return (input, target), reduction, lambda: again(input, target, NONE, log_target=log_target)


def _poisson(
    again: Callable[..., Tensor], input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int
) -> Noted:
    return (input, target), reduction, lambda: again(input, target, log_input, full, eps, NONE)


def _gaussian(
    again: Callable[..., Tensor], input: Tensor, target: Tensor, var: Any,
    full: bool = False, eps: float = 1e-6, reduction: str = "mean",
) -> Noted:  # fmt: skip
    code = {"none": NONE, "mean": MEAN, "sum": SUM}[reduction]
    return (input, target, var), code, lambda: again(input, target, var, full, eps, "none")


FUNCTIONS: dict[str, Callable[..., Noted]] = {
    "l1_loss": _l1,
    "kl_div": _kl,
    "poisson_nll_loss": _poisson,
    "gaussian_nll_loss": _gaussian,
}
"""How a call of each is taken apart: its operands, its reduction, and the same without one."""
