"""How far a record may be trusted: the check of per-sample values against the number that was back-propagated.

``exact``: the operator, run again with the script's own reduction on the same tensors, equals the loss bit for bit, and
the total of the values in float64 lies within 16 eps of the loss's dtype times their mean magnitude. A plain mean of
the values equals the loss bit for bit in only half of all correct batches (reductions add in another order), so that
alone would be no test. The certificate vouches for values, not for indices.
"""

from __future__ import annotations

import math
from typing import NamedTuple

EXACT, APPROXIMATE, NONE = 0, 1, 2
"""Codes as in ``protocol.CERTIFICATES``."""

TOLERANCE = 16


class Verdict(NamedTuple):
    """The certificate of one backward call, and the difference of its total from the loss (0 where exact)."""

    certificate: int
    error: float


def judge(loss: float, reduced: float, total: float, magnitude: float, eps: float) -> Verdict:
    """Compare the loss with its reproduction and with the total of its samples.

    Args:
        loss: what was back-propagated.
        reduced: the same operator with the script's reduction, again.
        total: the float64 total of the values, reduced as the script does.
        magnitude: the same total of their absolute values.
        eps: of the loss's dtype.
    """
    if not math.isfinite(loss):
        return Verdict(EXACT if same(loss, reduced) and same(loss, total) else APPROXIMATE, 0.0)
    error = total - loss
    if same(loss, reduced) and abs(error) <= TOLERANCE * eps * magnitude:
        return Verdict(EXACT, 0.0)
    return Verdict(APPROXIMATE, error)


def same(left: float, right: float) -> bool:
    """Equal as numbers, NaN included (a NaN that the script computed is reproduced as one)."""
    return left == right or (left != left and right != right)
