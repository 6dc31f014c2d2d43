"""Calls of loss functions and reductions, taken apart: operands, reduction, and the same without one.

A row of :data:`FUNCTIONS` for each slot of ``instruments/functions.py``; the parameters are those of the function that
torch calls in the end, so that every way to call it comes by here in one form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from torch import Tensor

from onthefly.capture.reading import MEAN, NONE, SUM, counting, to_long

if TYPE_CHECKING:
    from collections.abc import Callable


class Called(NamedTuple):
    """One call."""

    operands: tuple[Any, ...]
    """Tensors whose rows are the loss's rows, in the order in which they are asked for the batch."""
    reduction: int
    each: Callable[[], Tensor]
    """The loss of each element."""
    again: Optional[Callable[[], Tensor]] = None
    """The call with its own reduction; None where that is the elements' plain mean or sum."""
    divisor: Any = None
    """Of a mean; None: the number of elements."""
    of_elements: bool = False
    """The one operand is what was reduced, element by element."""
    valid: Optional[Tensor] = None
    """Which elements count, in the shape of them; None: all."""
    scores: Optional[Callable[[], Tensor]] = None
    """Where targets are classes: log-probabilities [rows, classes, ...]."""


def _reduction(name: str) -> int:
    return {"none": NONE, "mean": MEAN, "sum": SUM}[name]


def _mean(again: Callable[..., Tensor], input: Tensor, *given: Any, **named: Any) -> Called:
    return Called((input,), MEAN, lambda: input, lambda: again(input, *given, **named), None, True)


def _sum(again: Callable[..., Tensor], input: Tensor, *given: Any, **named: Any) -> Called:
    return Called((input,), SUM, lambda: input, lambda: again(input, *given, **named), None, True)


def _l1(again: Callable[..., Tensor], input: Tensor, target: Tensor, reduction: int = NONE) -> Called:
    return Called((target, input), reduction, lambda: again(input, target, NONE))


def _kl(
    again: Callable[..., Tensor], input: Tensor, target: Tensor, reduction: int = NONE, *, log_target: bool = False
) -> Called:
    return Called((target, input), reduction, lambda: again(input, target, NONE, log_target=log_target))


def _poisson(
    again: Callable[..., Tensor], input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int
) -> Called:
    return Called((target, input), reduction, lambda: again(input, target, log_input, full, eps, NONE))


def _gaussian(
    again: Callable[..., Tensor], input: Tensor, target: Tensor, var: Any,
    full: bool = False, eps: float = 1e-6, reduction: str = "mean",
) -> Called:  # fmt: skip
    return Called((target, input), _reduction(reduction), lambda: again(input, target, var, full, eps, "none"))


def _cosine(
    again: Callable[..., Tensor], first: Tensor, second: Tensor, target: Tensor, margin: float = 0.0,
    reduction: int = MEAN,
) -> Called | None:  # fmt: skip
    if first.dim() < 2:
        return None
    return Called((target, first, second), reduction, lambda: again(first, second, target, margin, NONE))


def _ranking(
    again: Callable[..., Tensor], first: Tensor, second: Tensor, target: Tensor, margin: float = 0.0,
    reduction: int = MEAN,
) -> Called:  # fmt: skip
    return Called((target, first, second), reduction, lambda: again(first, second, target, margin, NONE))


def _hinge(
    again: Callable[..., Tensor], input: Tensor, target: Tensor, margin: float = 1.0, reduction: int = MEAN
) -> Called:
    return Called((target, input), reduction, lambda: again(input, target, margin, NONE))


def _triplet(
    again: Callable[..., Tensor], anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0,
    p: float = 2, eps: float = 1e-6, swap: bool = False, reduction: int = MEAN,
) -> Called | None:  # fmt: skip
    if anchor.dim() < 2:
        return None
    return Called((anchor, positive, negative), reduction,
                  lambda: again(anchor, positive, negative, margin, p, eps, swap, NONE))  # fmt: skip


def _ctc(
    again: Callable[..., Tensor], log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any,
    blank: int = 0, reduction: int = MEAN, zero_infinity: bool = False,
) -> Called | None:  # fmt: skip
    """The mean divides each sample's loss by the length of its target first, and that by the number of samples."""
    if log_probs.dim() != 3:
        return None
    lengths: Any = target_lengths

    def each() -> Tensor:
        losses = again(log_probs, targets, input_lengths, target_lengths, blank, NONE, zero_infinity)
        if reduction != MEAN:
            return losses
        divisor = lengths if isinstance(lengths, Tensor) else losses.new_tensor(lengths)
        return losses / divisor.to(losses.device, losses.dtype).clamp(min=1)

    kept = (targets,) if targets.dim() == 2 else ()
    return Called((*kept, input_lengths if isinstance(input_lengths, Tensor) else None,
                   target_lengths if isinstance(target_lengths, Tensor) else None), reduction, each,
                  lambda: again(log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity)
                  )  # fmt: skip


FUNCTIONS: dict[str, Callable[..., Optional[Called]]] = {
    "mean": _mean,
    "sum": _sum,
    "l1_loss": _l1,
    "kl_div": _kl,
    "poisson_nll_loss": _poisson,
    "gaussian_nll_loss": _gaussian,
    "cosine_embedding_loss": _cosine,
    "margin_ranking_loss": _ranking,
    "hinge_embedding_loss": _hinge,
    "triplet_margin_loss": _triplet,
    "ctc_loss": _ctc,
}
"""By the name of the function."""


def _cross_entropy(
    again: Callable[..., Tensor], input: Tensor, target: Tensor, weight: Optional[Tensor] = None, reduction: int = MEAN,
    ignore_index: int = -100, label_smoothing: float = 0.0,
) -> Called | None:  # fmt: skip
    if input.dim() < 2:
        return None
    classes = not target.is_floating_point()
    counts: Any = None
    valid = None
    if classes:
        valid = counting(target, ignore_index)
        counts = valid.sum() if weight is None else weight[to_long(target).where(valid, 0)].mul(valid).sum()
        counts = counts.item() if counts.is_cpu else counts
    return Called(
        (target, input), reduction,
        lambda: again(input, target, weight, NONE, ignore_index, label_smoothing),
        lambda: again(input, target, weight, reduction or MEAN, ignore_index, label_smoothing),
        counts if reduction != SUM else None, False, valid,
        (lambda: input.log_softmax(1)) if classes else None,
    )  # fmt: skip


def _nll(
    again: Callable[..., Tensor], input: Tensor, target: Tensor, weight: Optional[Tensor] = None, reduction: int = MEAN,
    ignore_index: int = -100,
) -> Called | None:  # fmt: skip
    if input.dim() < 2:
        return None
    valid = counting(target, ignore_index)
    counts: Any = valid.sum() if weight is None else weight[to_long(target).where(valid, 0)].mul(valid).sum()
    return Called(
        (target, input), reduction, lambda: again(input, target, weight, NONE, ignore_index),
        lambda: again(input, target, weight, reduction or MEAN, ignore_index),
        counts.item() if counts.is_cpu else counts, False, valid, lambda: input,
    )  # fmt: skip


def _pair(again: Callable[..., Tensor], input: Tensor, target: Tensor, reduction: int = MEAN, *more: Any) -> Called:
    return Called((target, input), reduction, lambda: again(input, target, NONE, *more))


def _bce(
    again: Callable[..., Tensor], input: Tensor, target: Tensor, weight: Optional[Tensor] = None, reduction: int = MEAN
) -> Called:
    return Called((target, input), reduction, lambda: again(input, target, weight, NONE))


def _bce_with_logits(
    again: Callable[..., Tensor], input: Tensor, target: Tensor, weight: Optional[Tensor] = None,
    pos_weight: Optional[Tensor] = None, reduction: int = MEAN,
) -> Called:  # fmt: skip
    return Called((target, input), reduction, lambda: again(input, target, weight, pos_weight, NONE))


EVALUATED: dict[str, Callable[..., Optional[Called]]] = {
    **{name: row for name, row in FUNCTIONS.items() if name not in ("mean", "sum")},
    "cross_entropy_loss": _cross_entropy,
    "nll_loss_nd": _nll,
    "mse_loss": _pair,
    "smooth_l1_loss": _pair,
    "huber_loss": _pair,
    "soft_margin_loss": _pair,
    "binary_cross_entropy": _bce,
    "binary_cross_entropy_with_logits": _bce_with_logits,
}
"""Those that are of interest while gradients are off, by the name of the function that torch calls in the end."""
