"""The receipt of a resume: what its first steps have proven, as the user and the hub are told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from onthefly.protocol import ReceiptInfo

if TYPE_CHECKING:
    from onthefly.state.form import Place
    from onthefly.state.receipt import Receipt


def told(session: str, run: str, origin: Place, receipt: Receipt) -> ReceiptInfo:
    """What there is to say now of the run that goes on from ``origin``."""
    first = str(receipt) if receipt.first_other is not None else ""
    text = str(receipt) if receipt.steps else "nothing was recorded after the checkpoint to compare with"
    return ReceiptInfo(
        session=session, run=run, from_run=origin.run, from_step=origin.step, compared=receipt.compared + bool(first),
        equal=receipt.compared, expected=receipt.steps, first_difference=first, text=text, time=time.time(),
    )  # fmt: skip
