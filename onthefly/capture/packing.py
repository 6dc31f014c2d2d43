"""Indices of samples as bytes: 8 for each, whole numbers from 0 on."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Any

from onthefly.capture.batches import NOT_INTEGERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from onthefly.capture.loaders import LoaderRecord


class Packer:
    """Packs index lists; those of one length, one after the other, are the usual case and the fast one."""

    def __init__(self, notice: Callable[[str, str], None]) -> None:
        self._notice = notice
        self._rows, self._pack = 0, struct.Struct("").pack

    def pack(self, loader: LoaderRecord | None, samples: Sequence[Any], rows: int) -> bytes | None:
        """The indices, those below 0 counted from the beginning; None, and a notice, if they are no whole numbers."""
        try:
            return self._pack(*samples) if rows == self._rows else self._packed(samples, rows)
        except struct.error:  # -1 would mean that there is none
            positive = loader.numbering.from_the_start(list(samples)) if loader is not None else None
            if positive is not None:
                with contextlib.suppress(struct.error):
                    return self._packed(positive, rows)
        self._notice(f"samples have no index: {NOT_INTEGERS}", "")
        return None

    def _packed(self, samples: Sequence[Any], rows: int) -> bytes:
        """And the next ones of as many rows faster; ``struct.error`` if they are not >= 0."""
        self._rows, self._pack = rows, struct.Struct(f"={rows}Q").pack
        return self._pack(*samples)
