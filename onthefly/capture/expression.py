"""The back-propagated number taken apart: terms that have samples, what was done to each of them, and what has none.

From the root down through sums, differences, factors and stacks of single numbers, until each branch ends in a loss
that is known (a :class:`~onthefly.capture.reading.Reader`), in a number made of parameters alone (a penalty), or in
something that is not known, which ends the reading with its name: nothing is guessed. On the way back every step is
done again on the terms, with the script's own operators in its order, so that the number comes out bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onthefly.capture.forms import FORMS
from onthefly.capture.graph import HOOKED, Unreadable, is_named, is_scaled, only_input, saved, through_hook
from onthefly.capture.noted import Noted
from onthefly.capture.paths import depends_on_parameters_alone
from onthefly.capture.reading import MEAN, READERS, SUM, Read, Reader, reduced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEEPEST = 64
"""Steps from the root to a term, at most."""

PENALTY = "the loss is of parameters alone (a penalty): its rows are not samples"
UNRELATED = "the loss does not depend on anything that needs a gradient"


class Scaling(NamedTuple):
    """One linear step, the same for a total and for each sample: ``operator(value, other)``."""

    operator: Callable[..., Tensor]
    other: Tensor | None


class Term(NamedTuple):
    """A loss with samples, and what became of it."""

    reader: Reader
    node: Any
    """Where it was computed, in the graph."""
    read: Read
    """Reduced: a mean or a sum."""
    tail: tuple[Scaling, ...] = ()
    """Linear steps between it and the root, in their order."""


class Sum(NamedTuple):
    """A number of the graph."""

    value: Tensor
    """Computed again."""
    terms: tuple[Term, ...]
    shared: Tensor | None
    """What of it has no samples; None for nothing."""
    whole: bool
    """Nothing is known to be missing: constants that were added leave no trace in the graph."""


class Expression:
    """Takes numbers of the graph apart. Runs with gradients off."""

    def __init__(self, hooked: bool, noted: Callable[[Any], Noted | None]) -> None:
        """``hooked``: saved tensors of this process may have hooks; ``noted(node)``: what was left at a node."""
        self._hooked = hooked
        self._noted = noted

    def of(self, roots: Sequence[Tensor]) -> tuple[Sum, Tensor | None]:
        """What is back-propagated together, and the factor that a gradient scaler put on it.

        :class:`Unreadable` where there is no loss of samples in it.
        """
        factor, parts = None, list[Sum]()
        for root in roots:
            node: Any = root.grad_fn
            if node is None:
                raise Unreadable("the loss is a leaf: it was computed without a graph")
            if is_named(node, "MulBackward0") and is_scaled(node):
                factor, node = saved(node, "other", self._hooked), only_input(node)
            parts.append(self._sum(node, DEEPEST))
        found = parts[0] if len(parts) == 1 else _added(parts, sum((part.value for part in parts[1:]), parts[0].value))
        if not found.terms:
            raise Unreadable(PENALTY if found.shared is not None else UNRELATED)
        return found, factor

    def reader_at(self, node: Any) -> Reader | None:
        """How the loss is read that was computed at this node; None if none was."""
        name = node.name()
        reader = READERS.get(name)
        if reader is not None:
            if self._hooked and any(through_hook(node, kept) for kept in ("self", "target", "weight")):
                raise Unreadable(HOOKED)
            return reader
        return self._noted(node) or (FORMS[name](node, self._hooked) if name in FORMS else None)

    def _sum(self, node: Any, deep: int) -> Sum:
        if not deep:
            raise Unreadable(f"the loss is more than {DEEPEST} steps of arithmetic away from what it is made of")
        if node is None:
            raise Unreadable(UNRELATED)
        name = node.name()
        reader = self.reader_at(node)
        if reader is not None and not isinstance(reader, Noted):
            return self._term(reader, node)
        if name in ("MeanBackward0", "SumBackward0"):
            return self._reduced(reader, node, deep)
        if reader is not None:
            return self._term(reader, node)
        step = _STEPS.get(name)
        if step is not None:
            return step(self, node, deep - 1)
        if name.endswith("AccumulateGrad"):
            return Sum(node.variable.detach(), (), node.variable.detach(), True)
        return self._opaque(node, name)

    def _term(self, reader: Reader, node: Any) -> Sum:
        read = Read(*reader.read(node))
        if read.value is None or not read.reduction:
            raise Unreadable("the loss is a vector: it was not reduced")
        return Sum(read.value, (Term(reader, node, read),), None, True)

    def _reduced(self, noted: Reader | None, node: Any, deep: int) -> Sum:
        """A reduction by hand: of what a loss function gave for each element, of a stack of numbers, or of anything."""
        by, child = MEAN if node.name() == "MeanBackward0" else SUM, only_input(node)
        if child is None:
            raise Unreadable(UNRELATED)
        if not _shape(child):  # of a single number: itself
            if isinstance(noted, Noted):
                noted.finished()
            return self._sum(child, deep - 1)
        if is_named(child, "StackBackward0") and child.next_functions[0][0] is not None:
            parts = [following for following, _ in child.next_functions]
            if all(part is not None and not _shape(part) for part in parts):
                return self._stack(parts, by, deep - 1)
        reader = self.reader_at(child)
        if reader is not None:
            read = Read(*reader.read(child))
            if not read.reduction and list(read.elements.shape) == _shape(child):
                if isinstance(noted, Noted):
                    noted.finished()
                value, divisor = reduced(read.elements, by), read.elements.numel() if by == MEAN else 1
                valid = None if by == MEAN else read.valid  # a mean by hand is over those that do not count, too
                read = read._replace(reduction=by, value=value, divisor=divisor, valid=valid)
                return Sum(value, (Term(reader, child, read),), None, True)
        if noted is None:
            raise Unreadable(f"the loss ends in {node.name()}, and what was reduced was not seen")
        return self._term(noted, node)

    def _stack(self, parts: list[Any], by: int, deep: int) -> Sum:
        found = [self._sum(part, deep) for part in parts]
        value = reduced(torch.stack([part.value for part in found]), by)
        if by == MEAN:
            share = value.new_tensor(len(found))
            found = [_scaled(part, Scaling(torch.div, share)) for part in found]
        return _added(found, value)

    def _opaque(self, node: Any, name: str) -> Sum:
        """A number of which only the value is known: a penalty, if it is made of parameters alone."""
        if name in ("CompiledFunctionBackward", "torch::autograd::CompiledFunctionBackward"):
            raise Unreadable("it was computed inside of what torch.compile compiled, whose graph keeps no losses")
        value = _visible(node, name, self._hooked)
        if value is None or value.dim() or not depends_on_parameters_alone(node):
            raise Unreadable(f"the loss ends in {name}, which this version does not read")
        return Sum(value, (), value, True)

    def add(self, node: Any, deep: int) -> Sum:
        """``a + alpha * b``, or with ``-``."""
        (left, _), (right, _) = node.next_functions
        minus = node.name() == "SubBackward0"
        alpha: Any = node._saved_alpha
        found = [self._sum(child, deep) if child is not None else None for child in (left, right)]
        first, second = found
        if first is None and second is None:
            raise Unreadable(UNRELATED)
        if second is not None and alpha != 1:
            second = _scaled(second, Scaling(torch.mul, second.value.new_tensor(alpha)))
        if second is not None and minus:
            negative = _scaled(second, Scaling(torch.neg, None))
        else:
            negative = second
        if first is None or negative is None or second is None:
            only = first if first is not None else negative
            assert only is not None
            return only._replace(whole=False)
        value = first.value - second.value if minus else first.value + second.value
        return _added([first, negative], value)

    def rsub(self, node: Any, deep: int) -> Sum:
        """``number - a``."""
        return _scaled(self._sum(only_input(node), deep), Scaling(torch.neg, None))._replace(whole=False)

    def negate(self, node: Any, deep: int) -> Sum:
        """``-a``."""
        return _scaled(self._sum(only_input(node), deep), Scaling(torch.neg, None))

    def scale(self, node: Any, deep: int) -> Sum:
        """``a * b`` or ``a / b``, of which one has samples at most."""
        divides = node.name() == "DivBackward0"
        (left, _), (right, _) = node.next_functions
        inner = self._sum(left, deep) if left is not None else None
        if right is None:
            other = saved(node, "other", self._hooked)
            if inner is None or other is None:
                raise Unreadable(UNRELATED)
            return self._by(inner, torch.div if divides else torch.mul, other)
        outer = self._sum(right, deep)
        if outer.terms and (divides or (inner is not None and inner.terms)):
            raise Unreadable("the loss is a quotient or product of losses, which no sample has a share of")
        if outer.terms:
            factor = saved(node, "self", self._hooked)
            return self._by(outer, torch.mul, factor)
        other = saved(node, "other", self._hooked)
        if inner is None:  # a number by a learned weight
            above = saved(node, "self", self._hooked)
            value = above / other if divides else above * other
            return Sum(value, (), value, True)
        return self._by(inner, torch.div if divides else torch.mul, other)

    def _by(self, inner: Sum, operator: Callable[..., Tensor], other: Tensor) -> Sum:
        if other.dim():
            if other.numel() != 1:
                raise Unreadable("the loss was multiplied by a tensor of several numbers")
            other = other.reshape(())
        return _scaled(inner, Scaling(operator, other))

    def same(self, node: Any, deep: int) -> Sum:
        """The same number in another class, place or shape."""
        if torch.Size(_shape(node)).numel() != 1:
            raise Unreadable("the loss is a vector: it was not reduced")
        inner = self._sum(only_input(node), deep)
        return inner._replace(value=inner.value.reshape(()))

    def cast(self, node: Any, deep: int) -> Sum:
        """``.float()``, ``.to(device)``."""
        inner, made = self._sum(only_input(node), deep), node._input_metadata[0]
        return inner._replace(value=inner.value.to(made.device, made.dtype))

    def chosen(self, node: Any, deep: int) -> Sum:
        """``torch.where`` of numbers: the branch that the condition chose; on an accelerator nobody asks it."""
        condition = saved(node, "condition", self._hooked)
        if condition.numel() != 1 or not condition.is_cpu:
            raise Unreadable("the loss is chosen by a condition that is not a number on the CPU")
        branch = node.next_functions[0 if condition.item() else 1][0]
        if branch is None:  # a constant, which the graph does not keep
            raise Unreadable(UNRELATED)
        inner = self._sum(branch, deep)
        return inner._replace(value=inner.value.reshape(()))

    def curved(self, node: Any, deep: int) -> Sum:
        """A function that is not linear: of what has no samples, its value; of a loss, no sample has a share of it."""
        name = node.name()
        try:
            inner = self._sum(only_input(node), deep)
        except Unreadable:
            return self._opaque(node, name)
        if inner.terms:
            raise Unreadable(f"the loss is {_CURVED[name]} of a mean or sum, which no sample has a share of")
        value = _visible(node, name, self._hooked)
        if value is None:
            raise Unreadable(f"the loss ends in {name}, which this version does not read")
        return Sum(value, (), value, inner.whole)


def _scaled(inner: Sum, step: Scaling) -> Sum:
    operator, other = step

    def done(value: Tensor) -> Tensor:
        return operator(value) if other is None else operator(value, other)

    return Sum(
        done(inner.value), tuple(term._replace(tail=(*term.tail, step)) for term in inner.terms),
        done(inner.shared) if inner.shared is not None else None, inner.whole,
    )  # fmt: skip


def _added(parts: list[Sum], value: Tensor) -> Sum:
    shared = None
    for part in parts:
        if part.shared is not None:
            shared = part.shared if shared is None else shared + part.shared
    return Sum(value, tuple(term for part in parts for term in part.terms), shared, all(part.whole for part in parts))


def _shape(node: Any) -> list[int]:
    return list(node._input_metadata[0].shape)


def _visible(node: Any, name: str, hooked: bool) -> Tensor | None:
    """The value of a number that its node keeps, or keeps what it was made of."""
    if name in _RESULTS:
        return saved(node, "result", hooked)
    if name == "PowBackward0":
        return saved(node, "self", hooked).pow(node._saved_exponent)
    if name == "DotBackward0":
        one, other = saved(node, "self", hooked), saved(node, "tensor", hooked)
        return torch.dot(one, other) if one is not None and other is not None else None
    if name in ("LogBackward0", "AbsBackward0"):
        return getattr(torch, "log" if name == "LogBackward0" else "abs")(saved(node, "self", hooked))
    return None


_RESULTS = {
    "ExpBackward0", "SqrtBackward0", "SigmoidBackward0", "TanhBackward0", "LinalgVectorNormBackward0", "NormBackward0",
    "NormBackward1", "RsqrtBackward0", "ReciprocalBackward0",
}  # fmt: skip

_CURVED = {
    "PowBackward0": "a power", "SqrtBackward0": "the square root", "ExpBackward0": "the exponential",
    "LogBackward0": "the logarithm", "AbsBackward0": "the absolute value", "SigmoidBackward0": "the sigmoid",
    "TanhBackward0": "the hyperbolic tangent", "RsqrtBackward0": "the reciprocal square root",
    "ReciprocalBackward0": "the reciprocal", "SoftplusBackward0": "the softplus", "ReluBackward0": "the positive part",
    "ClampBackward1": "a part", "ClampMinBackward0": "a part", "ClampMaxBackward0": "a part",
}  # fmt: skip

_STEPS: dict[str, Callable[[Expression, Any, int], Sum]] = {
    "AddBackward0": Expression.add,
    "SubBackward0": Expression.add,
    "RsubBackward1": Expression.rsub,
    "NegBackward0": Expression.negate,
    "MulBackward0": Expression.scale,
    "DivBackward0": Expression.scale,
    "AliasBackward0": Expression.same,
    "CloneBackward0": Expression.same,
    "ToCopyBackward0": Expression.cast,
    "WhereBackward0": Expression.chosen,
    **{f"{stem}Backward{number}": Expression.same
       for stem in ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Expand") for number in range(4)},
    **dict.fromkeys(_CURVED, Expression.curved),
}  # fmt: skip
"""By the name of a node."""
