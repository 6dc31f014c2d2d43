"""How far a record may be trusted: the check of per-sample values against the number that was back-propagated.

``exact``: the operator, run again with the script's own reduction on the same tensors (or its elements, added up as it
does it), equals the loss bit for bit, and the total of the values in float64 lies within 16 eps of the loss's dtype
times their mean magnitude. A plain mean of the values equals the loss bit for bit in only half of all correct batches
(reductions add in another order), so that alone would be no test. The certificate vouches for values, not for indices.
"""

from __future__ import annotations

from typing import NamedTuple

EXACT, APPROXIMATE, NONE = 0, 1, 2
"""Codes as in ``protocol.CERTIFICATES``."""

TOLERANCE = 16
"""Units of eps; float32 sums of a thousand values stay below 4."""


class Verdict(NamedTuple):
    """What one backward call is worth."""

    certificate: int
    """``EXACT`` or ``APPROXIMATE``."""
    error: float
    """Total of the samples minus the loss; 0 where exact."""
    reproduced: bool
    """The operator gave the loss again, bit for bit."""


def judge(loss: float, reduced: float, total: float, magnitude: float, eps: float) -> Verdict:
    """Compare a loss with its reproduction and with the total of its samples; all are float64.

    Plain floats on the host: for the calls of a block a quarter of the time that tensors take.

    Args:
        loss: what was back-propagated.
        reduced: the same operator with the script's reduction, again.
        total: of the values, divided as the script's reduction does.
        magnitude: the same for their absolute values.
        eps: of the loss's dtype.
    """
    if reduced != loss and (reduced == reduced or loss == loss):
        return Verdict(APPROXIMATE, total - loss, False)
    # A loss that is NaN or infinite has no distance from its total: there, being reproduced is the test.
    if abs(total - loss) <= TOLERANCE * eps * magnitude or loss - loss != 0.0:
        return Verdict(EXACT, 0.0, True)
    return Verdict(APPROXIMATE, total - loss, True)
