"""Per-sample losses read back out of the autograd graph.

A reduction's node keeps what it was computed from in its ``_saved_*`` attributes. The loss of each element is the same
ATen operator on those tensors with ``reduction="none"``, so that no loss function is patched, however the script
imported it. Never a ``gather`` of our own: an ignored target is out of range, which is fatal on CUDA.
"""

from __future__ import annotations

import functools
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import torch
from torch import Tensor

from onthefly.capture.graph import is_named, only_input
from onthefly.capture.quiet import check_plain

if TYPE_CHECKING:
    from collections.abc import Callable

NONE, MEAN, SUM = 0, 1, 2
"""``reduction`` as ATen counts it."""

_nn: Any = torch._C._nn  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]


class Read(NamedTuple):
    """A loss before it was reduced. A plain tuple with these fields where there is one for each step."""

    target: Optional[Tensor]
    """The tensor that tells the batch, element by element or row by row; None where none is kept."""
    elements: Tensor
    """The loss of each element."""
    reduction: int
    """What the operator did with them; NONE if it left them."""
    value: Optional[Tensor]
    """The operator again, with that reduction: to be compared with the script's number. None where it left them."""
    divisor: Any
    """What a mean divided the sum of the elements by: a number, or a tensor on an accelerator. 1 for a sum."""
    valid: Optional[Tensor]
    """Which elements count, in the shape of them; None: all."""
    unit: int = 1
    """How many numbers each element stands for."""


class Reader:
    """How a loss is read once the place in the graph is found where it was computed. Runs with gradients off."""

    name = ""
    """The function, as torch calls it."""
    classifies = False
    """Whether its targets are classes, so that :meth:`hits` can be asked."""

    def read(self, node: Any) -> Read:
        """Take what was saved, and compute.

        Raises :class:`Unreadable` if it cannot be read, ``Overridden`` if the script would see our operators,
        RuntimeError if the graph was freed.
        """
        raise NotImplementedError

    def called(self, node: Any) -> str:
        """The name of the function that made this node."""
        return self.name

    def hits(self, node: Any) -> tuple[Tensor, Tensor, Tensor]:
        """What accuracy is made of: log-probabilities [rows, classes], targets [rows], and which of them count."""
        raise NotImplementedError

    def scores(self, node: Any) -> Tensor:
        """The log-probabilities alone."""
        raise NotImplementedError


class OperatorReader(Reader):
    """One kind of node whose operator takes ``reduction``: a row of :data:`READERS`."""

    def __init__(self, operator: Callable[..., Tensor], name: str, tensors: str, options: str = "") -> None:
        """``tensors`` and ``options`` name ``_saved_*`` attributes, input and target first; reduction is implied."""
        self.name = name
        self.operator = operator
        self.saved = attrgetter(*[f"_saved_{name}" for name in f"reduction {options} {tensors}".split()])
        self.given = len(options.split())
        self.planned = self.saved
        """The same, without what follows of it."""

    def read(self, node: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As :meth:`Reader.read`."""
        reduction, *saved = self.saved(node)
        options, given = saved[: self.given], saved[self.given :]
        check_plain(*given)
        elements = self.operator(*given, NONE, *options)
        value = self.operator(*given, reduction, *options) if reduction else None
        return given[1], elements, reduction, value, elements.numel() if reduction == MEAN else 1, None


class NllReader(OperatorReader):
    """Negative log-likelihood: classes, class weights, and targets to be ignored."""

    classifies = True

    def __init__(self, operator: Callable[..., Tensor]) -> None:
        super().__init__(operator, "nll_loss", "self target weight total_weight", "ignore_index")
        self.planned = attrgetter(
            *[f"_saved_{name}" for name in ["reduction", "ignore_index", "self", "target", "weight"]]
        )

    def read(self, node: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As :meth:`Reader.read`; the mean divides by the weights of the targets that count."""
        reduction, ignored, source, target, weight, total = self.saved(node)
        if type(source) is not Tensor or type(target) is not Tensor:
            check_plain(source, target, weight)
        ignored = self.as_given(ignored)
        elements = self.operator(source, target, weight, NONE, ignored)
        if not reduction:
            return target, elements, NONE, None, 1, counting(target, ignored)
        counted = total.item() if total.is_cpu else total
        plain = counted is not total and weight is None and counted == target.numel()
        return (
            target, elements, reduction, self.operator(source, target, weight, reduction, ignored),
            counted if reduction == MEAN else 1, None if plain else counting(target, ignored),
        )  # fmt: skip

    @staticmethod
    def as_given(ignored: int) -> int:
        """``ignore_index`` as the script gave it: the graph gives it back as unsigned."""
        return ignored - (1 << 64) if ignored >= 1 << 63 else ignored

    def called(self, node: Any) -> str:
        """As :meth:`Reader.called`: a softmax right before it is what makes it a cross entropy."""
        return "cross_entropy" if is_named(only_input(node), "LogSoftmaxBackward0") else self.name

    def hits(self, node: Any) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`Reader.hits`."""
        _, ignored, source, target, _, _ = self.saved(node)
        return source, target, counting(target, self.as_given(ignored))

    def scores(self, node: Any) -> Tensor:
        """As :meth:`Reader.scores`."""
        return node._saved_self


reshape, mean_of, sum_of = Tensor.reshape, Tensor.mean, Tensor.sum
to_double, to_float, to_long, to_int, to_host = Tensor.double, Tensor.float, Tensor.long, Tensor.int, Tensor.cpu
flattened = Tensor.flatten
"""As they are before they are watched: our own calls tell nobody anything (3 to 10 us each in a real loop)."""


def counting(target: Tensor, ignored: int) -> Tensor:
    """Which of these classes are not the one to be ignored: -100, compared with bytes as a byte, would be class 156."""
    return to_long(target).ne(ignored)


def reduced(values: Tensor, reduction: int) -> Tensor:
    """Elements reduced as the script or a composite operator does it."""
    return sum_of(values) if reduction == SUM else mean_of(values)


def cascaded(elements: Tensor) -> Tensor:
    """Sums of rows [rows, elements], added up in the order in which ``nll_loss`` does it on the CPU.

    Torch's kernel (``LossNLL.cpp``) adds sixteen at a time, sixteen sums of sixteen, and so on; all of these begin with
    the second element.
    """
    parts: list[Tensor] = []
    rest = elements[:, 1:]
    while rest.shape[1]:
        whole = rest.shape[1] // 16 * 16
        if whole < rest.shape[1]:
            parts.append(_one_by_one(rest[:, whole:]))
        rest = _one_by_one(reshape(rest[:, :whole], (len(rest), -1, 16))) if whole else rest[:, :0]
    return functools.reduce(torch.add, [*parts, elements[:, 0]])


def _one_by_one(values: Tensor) -> Tensor:
    """Sums over the last axis, whose elements are added one after the other."""
    return functools.reduce(torch.add, values.unbind(-1))


READERS: dict[str, Reader] = {
    "NllLossBackward0": NllReader(_nn.nll_loss),
    "NllLoss2DBackward0": NllReader(_nn.nll_loss2d),
    "MseLossBackward0": OperatorReader(_nn.mse_loss, "mse_loss", "self target"),
    "SmoothL1LossBackward0": OperatorReader(_nn.smooth_l1_loss, "smooth_l1_loss", "self target", "beta"),
    "HuberLossBackward0": OperatorReader(_nn.huber_loss, "huber_loss", "self target", "delta"),
    "BinaryCrossEntropyBackward0": OperatorReader(
        _nn.binary_cross_entropy, "binary_cross_entropy", "self target weight"
    ),
    "BinaryCrossEntropyWithLogitsBackward0": OperatorReader(
        torch.binary_cross_entropy_with_logits, "binary_cross_entropy_with_logits", "self target weight pos_weight"
    ),
    "SoftMarginLossBackward0": OperatorReader(_nn.soft_margin_loss, "soft_margin_loss", "self target"),
    "MultilabelMarginLossBackward0": OperatorReader(
        _nn.multilabel_margin_loss, "multilabel_margin_loss", "self target"
    ),
    "MultiMarginLossBackward0": OperatorReader(
        lambda source, target, weight, reduction, p, margin: _nn.multi_margin_loss(
            source, target, p, margin, weight, reduction
        ),
        "multi_margin_loss",
        "self target weight",
        "p margin",
    ),
}
"""By the name of the autograd node."""
