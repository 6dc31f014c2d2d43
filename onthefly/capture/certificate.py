"""How far a record may be trusted: the check of per-sample values against the number that was back-propagated.

``exact``: the operator, run again with the script's own reduction on the same tensors, equals the loss bit for bit, and
the total of the values in float64 lies within 16 eps of the loss's dtype times their mean magnitude. A plain mean of
the values equals the loss bit for bit in only half of all correct batches (reductions add in another order), so that
alone would be no test. The certificate vouches for values, not for indices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

EXACT, APPROXIMATE, NONE = 0, 1, 2
"""Codes as in ``protocol.CERTIFICATES``."""

TOLERANCE = 16
"""Units of eps; float32 sums of a thousand values stay below 4."""


class Verdict(NamedTuple):
    """For each call of a group, as tensors of one length."""

    reproduced: Tensor
    """bool: the operator gave the loss again, bit for bit."""
    certificate: Tensor
    """uint8: ``EXACT`` or ``APPROXIMATE``."""
    error: Tensor
    """float64: total of the samples minus the loss; 0 where exact."""


def judge(losses: Tensor, reduced: Tensor, values: Tensor, divisors: Tensor | int, eps: float) -> Verdict:
    """Compare losses with their reproductions and with the totals of their samples.

    Args:
        losses: [k] float64, what was back-propagated.
        reduced: [k] float64, the same operators with the script's reduction, again.
        values: [k, n] in the loss's dtype.
        divisors: [k] or a number: what the script's reduction divides the sum by.
        eps: of the loss's dtype.
    """
    wide = values.double()
    error = wide.sum(1).div_(divisors).sub_(losses)
    allowed = wide.abs_().sum(1).div_(divisors).mul_(TOLERANCE * eps)
    # A loss that is NaN or infinite has no distance from its total: there, being reproduced is the test.
    reproduced = (losses == reduced).logical_or_(losses.isnan().logical_and_(reduced.isnan()))
    exact = (error.abs() <= allowed).logical_or_(losses.isfinite().logical_not_()).logical_and_(reproduced)
    return Verdict(reproduced, exact.logical_not().byte(), error.masked_fill_(exact, 0.0))
