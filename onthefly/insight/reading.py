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
from onthefly.capture.reading import reshape, to_double, to_float, to_host
from onthefly.insight.tally import Classes, Numbers

if TYPE_CHECKING:
    from onthefly.capture.expression import Term
    from onthefly.capture.loaders import LoaderRecord
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
            count, loss.item(), to_host(to_float(values)), "", tie.indices,
            tie.identity if tie.indices is not None else "none", _valid(joined.valid, count),
            _certificate(loss, found), target, predicted, seen, confidence, margin,
        )  # fmt: skip


ROWS = "rows"
"""Identity of values that are in the order of the batch's samples, until these are named."""


def given(values: Tensor) -> Read:
    """Of losses of samples [rows] that somebody else has made: nothing vouches for them but he."""
    count, values = len(values), to_host(to_float(values.data))
    return Read(count, values.mean().item(), values, "", None, ROWS, [1] * count, NONE, None, None, None, None, None)


def named(batch: Read, record: LoaderRecord, drawn: Any) -> Read:
    """The same with the indices of its samples in the root data set."""
    samples = record.numbering.root(list(drawn)) if drawn else None
    return batch._replace(samples=samples, identity="none" if samples is None else "index")


def alike(one: Read, other: Read) -> bool:
    """Whether two ways to read a batch gave the same values to the same samples, bit for bit."""
    if one.values is None or other.values is None:
        return False
    same = torch.equal(one.values.view(torch.int32), other.values.view(torch.int32))
    return same and (one.samples, one.identity, one.valid, one.certificate) == (
        other.samples, other.identity, other.valid, other.certificate
    )  # fmt: skip


def unread(loss: float, rows: int, reason: str) -> Read:
    """Of a batch whose samples cannot be told apart."""
    return Read(rows, loss, None, reason, None, "none", [], NONE, None, None, None, None, None)


def _valid(valid: Any, rows: int) -> list[int]:
    return valid.tolist() if isinstance(valid, Tensor) else [int(valid)] * rows


def _certificate(loss: Tensor, found: Any) -> int:
    joined, wide = found.joined, to_double(found.joined.values)
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
            given, target = reshape(term.node._saved_self, (rows,)), reshape(term.node._saved_target, (rows,))
            if bool(((target == 0) | (target == 1)).all()):
                classes = Classes.of_two(given, target, _BINARY[name], term.read.elements)
                return classes, to_host(to_double(target)), to_host(to_double(given > _BINARY[name]))
        pair = None
        if name in _MEASURED:
            pair = term.node._saved_self, term.node._saved_target
        elif isinstance(term.reader, Noted) and term.reader.name == "l1_loss" and len(term.reader.operands) == 2:
            pair = term.reader.operands[1], term.reader.operands[0]
        if pair is not None and pair[0].shape == pair[1].shape:
            numbers = Numbers(pair[0], pair[1])
            if pair[0].numel() == rows:
                return numbers, _column(pair[1], rows), _column(pair[0], rows)
            return numbers, None, None
    return None, None, None


def _column(numbers: Tensor, rows: int) -> Tensor:
    return to_host(to_double(reshape(numbers.data, (rows,))))
