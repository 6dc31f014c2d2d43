"""What the loss of a batch says of each of its samples: loss, target, prediction; read as the training's losses are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onthefly.capture.certificate import NONE, judge
from onthefly.capture.graph import Unreadable
from onthefly.capture.noted import Noted
from onthefly.capture.persample import reason_of
from onthefly.capture.quiet import Overridden, undisturbed
from onthefly.insight.tally import Classes, Numbers

if TYPE_CHECKING:
    from onthefly.capture.expression import Term
    from onthefly.capture.persample import PerSample

_MEASURED = ("MseLossBackward0", "SmoothL1LossBackward0", "HuberLossBackward0")
_BINARY = {"BinaryCrossEntropyBackward0": 0.5, "BinaryCrossEntropyWithLogitsBackward0": 0.0}
"""And from where on it is the class 1."""


class Read(NamedTuple):
    """One batch."""

    rows: int
    loss: float
    """What the script's step makes of it."""
    values: Tensor | None
    """Of each sample [rows], on the host; None: why stands in ``reason``."""
    reason: str
    samples: list[Any] | None
    """Index of each in the root data set, or its key."""
    identity: str
    valid: list[int]
    """Elements averaged into each value."""
    certificate: int
    target: Tensor | None
    """Of each sample [rows], where it is one number; float64 on the host."""
    predicted: Tensor | None
    seen: Any
    """What a tally is made of: :class:`Classes`, :class:`Numbers`, None."""
    confidence: Tensor | None
    margin: Tensor | None


def read(loss: Tensor, rows: int, per_sample: PerSample) -> Read:
    """Of the loss of a batch; gradients are off meanwhile."""
    with undisturbed():
        if loss.numel() != 1:
            return unread(math.nan, rows, "the loss is not a single number")
        try:
            found = per_sample.measure((loss,))
        except (Unreadable, RuntimeError) as error:
            return unread(loss.item(), rows, reason_of(error))
        except Overridden:
            return unread(loss.item(), rows, "tensors of a class of the script's own")
        tie, joined = found.tie, found.joined
        values = joined.values
        count = values.shape[0]
        seen, target, predicted = _seen(found.found.terms, count)
        confidence = margin = None
        if isinstance(seen, Classes) and target is not None:
            confidence, margin = seen.sureness()
        return Read(
            count, loss.item(), values.float().cpu(), "", tie.indices,
            tie.identity if tie.indices is not None else "none", _valid(joined.valid, count),
            _certificate(loss, found), target, predicted, seen, confidence, margin,
        )  # fmt: skip


def unread(loss: float, rows: int, reason: str) -> Read:
    """Of a batch whose samples cannot be told apart."""
    return Read(rows, loss, None, reason, None, "none", [], NONE, None, None, None, None, None)


def _valid(valid: Any, rows: int) -> list[int]:
    return valid.tolist() if isinstance(valid, Tensor) else [int(valid)] * rows


def _certificate(loss: Tensor, found: Any) -> int:
    joined, wide = found.joined, found.joined.values.double()
    weighed = isinstance(joined.weight, Tensor)
    wide = wide * joined.weight if weighed else wide
    divisor = float(joined.divisor)
    share = (1 if weighed else joined.weight) / divisor if divisor else math.nan
    shared = float(found.shared) if found.shared is not None else 0.0
    eps = torch.finfo(joined.values.dtype).eps
    return judge(loss.item(), found.found.value.item(), wide.sum().item() * share + shared,
                 wide.abs().sum().item() * share, eps)[0]  # fmt: skip


def _seen(terms: tuple[Term, ...], rows: int) -> tuple[Any, Tensor | None, Tensor | None]:
    """Targets and predictions of the term that has them: for a tally, and one number a sample where it is one."""
    for term in terms:
        if term.reader.classifies:
            scores, target, counted = term.reader.hits(term.node)
            classes = Classes(scores, target, counted, term.read.elements)
            return classes, *classes.of_samples(rows)
        name = term.node.name() if not isinstance(term.reader, Noted) else ""
        if name in _BINARY and term.read.elements.numel() == rows:
            given, target = term.node._saved_self.reshape(rows), term.node._saved_target.reshape(rows)
            if bool(((target == 0) | (target == 1)).all()):
                classes = Classes.of_two(given, target, _BINARY[name], term.read.elements)
                return classes, target.double().cpu(), (given > _BINARY[name]).double().cpu()
        pair = None
        if name in _MEASURED:
            pair = term.node._saved_self, term.node._saved_target
        elif isinstance(term.reader, Noted) and term.reader.name == "l1_loss" and len(term.reader.operands) == 2:
            pair = term.reader.operands[1], term.reader.operands[0]
        if pair is not None and pair[0].shape == pair[1].shape:
            numbers = Numbers(pair[0], pair[1])
            if pair[0].numel() == rows:
                return numbers, pair[1].reshape(rows).double().cpu(), pair[0].detach().reshape(rows).double().cpu()
            return numbers, None, None
    return None, None, None
