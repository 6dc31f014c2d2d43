"""Losses whose graph does not keep what they were computed from: noted when they are computed.

Torch composes some of elementwise operators, and what is saved of those is a difference or a product; and a reduction
by hand (``.mean()``, ``.sum()``) saves nothing but a shape. So the operands are noted in the ``metadata`` of the node
that made the result (:meth:`OpenLosses.note`, called right after the function returned), and let go when it was
back-propagated. Reading is the function again with ``reduction="none"``, or for a reduction its very input.
"""

from __future__ import annotations

import weakref
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, float32, float64, strided

from onthefly.capture.called import FUNCTIONS, Called
from onthefly.capture.graph import Unreadable, only_input
from onthefly.capture.quiet import autocast_as_now, capturing, check_plain, dispatch_modes, profiling, tracing
from onthefly.capture.reading import MEAN, Read, Reader, mean_of, reduced, sum_of

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_OPEN = 16
"""Losses that wait for their backward call, at most: a list of losses that a script keeps must not keep more for us."""

LARGE, MAX_FOLDED = 1 << 20, 1 << 16
"""Bytes of what was reduced by hand, from which on it is not kept whole; and how many numbers are kept of it."""

MASKS = ("MulBackward0", "MaskedFillBackward0")
"""What was reduced was made so, perhaps by a mask: see :mod:`onthefly.capture.shares`."""

KEY = "onthefly"
"""In a node's ``metadata``."""

READ = "its operands were let go when it was back-propagated first (retain_graph)"
CROWDED = f"more than {MAX_OPEN} such losses were computed since"
CHANGED = "its operands were changed in place before it was back-propagated"

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]


class OpenLosses:
    """Losses that were computed and not back-propagated yet."""

    def __init__(self, otherwise: Callable[..., None]) -> None:
        """``otherwise`` is told of what has no graph, with the arguments of :meth:`note`."""
        self._otherwise = otherwise
        self._open: deque[weakref.ref[Noted]] = deque()

    def note(self, function: Callable[..., Any], result: Tensor, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """``result`` is what the function (by its name: one of :data:`FUNCTIONS`) just gave for these arguments."""
        if _c._functorch.peek_interpreter_stack() is not None or tracing():
            return  # tensors of a transform (vmap, grad) mean nothing once it has returned
        with _c.DisableTorchFunction():  # a mode or a tensor subclass sees attributes, too
            node: Any = result.grad_fn
            if node is None:
                self._otherwise(function, result, args, named)
                return
            called = FUNCTIONS[function.__name__](function, *args, **named)
            if called is None:
                return
            tensors = [operand for operand in called.operands if isinstance(operand, Tensor)]
            if any(tensor.is_inference() for tensor in tensors):  # they have no version to compare
                return
            autocast = autocast_as_now(result.device.type)
            noted = Noted(function.__name__, called, [(tensor, tensor._version) for tensor in tensors], autocast)
            folded = called.of_elements and noted.fold(node, result, tensors[0])
            if autocast is nullcontext:
                noted.call = None if folded else (function, args, named)
                if called.of_elements and result.is_cpu and not dispatch_modes() and not profiling():
                    noted.number = result.item()
            node.metadata[KEY] = noted
        self._open.append(weakref.ref(noted))
        if len(self._open) > MAX_OPEN:
            oldest = self._open.popleft()()
            if oldest is not None:
                oldest.let_go(CROWDED)

    def at(self, node: Any) -> Noted | None:
        """What was noted at this node; asks none before the first loss of this kind (0.1 us and a dictionary each)."""
        return node.metadata.get(KEY) if self._open else None


class Noted(Reader):
    """One such loss, which reads itself."""

    def __init__(
        self, name: str, called: Called, versions: list[tuple[Tensor, int]], autocast: Callable[[], Any]
    ) -> None:
        """``called`` is the call taken apart; ``autocast()`` makes that of the call."""
        self.name = name
        self.operands: tuple[Any, ...] = called.operands
        """Tensors whose first axis, or whose every element, is that of the loss's elements."""
        self.of_elements = called.of_elements
        """A reduction of a tensor, whatever that is."""
        self._called: Called | None = called
        self._reduction = called.reduction
        self._folded: Read | None = None
        self._versions = versions
        self._autocast = autocast
        self._gone = ""
        self.call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None = None
        """Function and arguments, where no autocast was on."""
        self.number: float | None = None
        """What a reduction gave; None where that cannot be asked."""

    def fold(self, node: Any, result: Tensor, elements: Tensor) -> bool:
        """Of a large tensor that was reduced keep its first axes alone; False if it is kept whole.

        The graph does not keep it (of a square not the square, but its root), and nobody else may: a map of losses of
        176 MB would be there until backward for us. It is kept in half precision, of which parts of a sum may be out of
        range, and where it is of parameters, which need no reading.
        """
        size, axes, made = elements.numel(), elements.dim(), only_input(node)
        if (
            size * elements.element_size() < LARGE or type(elements) is not Tensor or elements.layout is not strided
            or elements.dtype not in (float32, float64) or made is None or made.name() in MASKS or _of_leaves(made)
            or dispatch_modes() or profiling() or capturing(result)
        ):  # fmt: skip
            return False
        # Of a square, nothing tells which axis is that of the samples: two are kept, so that it is seen to be one.
        least = 2 if elements.shape[:1] == elements.shape[1:2] else 1
        while axes > least and size > MAX_FOLDED:
            axes -= 1
            size //= elements.shape[axes]
        if axes == elements.dim():
            return False
        enabled = torch.is_grad_enabled()
        _c._set_grad_enabled(False)
        try:
            mean, over = self._reduction == MEAN, tuple(range(axes, elements.dim()))
            kept, value = (mean_of if mean else sum_of)(elements, over), result.detach()
        finally:
            _c._set_grad_enabled(enabled)
        self._folded = Read(None, kept, self._reduction, value, elements.numel() if mean else 1, None,
                            elements.numel() // kept.numel())  # fmt: skip
        self.operands, self._called, self._versions = (), None, []
        return True

    def is_as_it_was(self) -> bool:
        """Whether its operands have not been written to."""
        return all(tensor._version == version for tensor, version in self._versions)

    def let_go(self, why: str) -> None:
        """Keep nothing any more."""
        self.operands, self._called, self._versions, self._folded, self._gone = (), None, [], None, why
        self.call = None

    def read(self, node: Any) -> Read:
        """As :meth:`Reader.read`."""
        called = self._called
        if self._folded is not None:
            return self._folded
        if called is None:
            raise Unreadable(self._gone)
        check_plain(*[tensor for tensor, _ in self._versions])
        if not self.is_as_it_was():
            self.let_go(CHANGED)
            raise Unreadable(CHANGED)
        reduction = called.reduction
        with self._autocast():
            elements = called.each()
            value = reduced(elements, reduction) if reduction else None
            if called.again is not None:
                value = called.again()
        divisor = elements.numel() if called.divisor is None else called.divisor
        return Read(None, elements, reduction, value, divisor if reduction == MEAN else 1, None)

    def finished(self) -> None:
        """It was back-propagated."""
        self.let_go(READ)


def _of_leaves(node: Any) -> bool:
    """Whether all that a node was given are leaves."""
    return all(child is None or child.name().endswith("AccumulateGrad") for child, _ in node.next_functions)
