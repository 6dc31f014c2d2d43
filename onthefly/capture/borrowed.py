"""The reading of losses, lent to those who do steps again: for batches that no loader has delivered to the script."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from onthefly.capture.batches import RecentBatches
from onthefly.capture.loaders import LoaderRecord
from onthefly.capture.persample import PerSample

if TYPE_CHECKING:
    from collections.abc import Generator

    from onthefly.capture.noted import OpenLosses


class Lender:
    """Lends what the recorder reads losses with, and takes it back as it was."""

    def __init__(self, recent: RecentBatches, noted: OpenLosses) -> None:
        self._recent = recent
        self._noted = noted

    @contextlib.contextmanager
    def lent(self, loader: Any, name: str) -> Generator[tuple[LoaderRecord, PerSample], None, None]:
        """A record of that loader, which batches are delivered to, and what reads the losses of these.

        While it lasts the script's own batches are out of sight; none of what is recorded is touched.
        """
        recent = self._recent
        kept = {slot: getattr(recent, slot) for slot in RecentBatches.__slots__}
        fresh = RecentBatches()
        for slot in kept:
            setattr(recent, slot, getattr(fresh, slot))
        try:
            record = LoaderRecord(0, loader, recent, lambda: None)
            record.name = name
            yield record, PerSample(recent, self._noted)
        finally:
            for slot, value in kept.items():
                setattr(recent, slot, value)
