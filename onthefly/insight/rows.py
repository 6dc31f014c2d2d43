"""Rows of a test or a scan on their way to the hub: some thousands at a time, whatever the size of the split."""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onthefly.capture.certificate import NONE
from onthefly.capture.transfer import raw
from onthefly.protocol import IDENTITIES, Examined

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.insight.reading import Read

MAX_ROWS = 8192
"""In one message: 400 KiB, and 2 MiB of embeddings."""


class Rows:
    """Collects them, and sends them when there are many."""

    def __init__(
        self, send: Callable[[Examined], None], about: dict[str, Any], losses: list[Tensor] | None = None
    ) -> None:
        """``about``: the fields of :class:`~onthefly.protocol.Examined` that all share; ``losses`` takes those, too."""
        self._send, self._about, self._losses = send, about, losses
        self.first = 0
        """Place of the next row that is sent."""
        self._reads: list[tuple[Read, int]] = []
        self._vectors: list[Tensor] = []
        self._rows = 0

    def add(self, batch: Read, rows: int, vectors: Tensor | None) -> None:
        """One batch, of which so many rows count; nothing where its samples cannot be told apart."""
        if batch.values is None and vectors is None:
            return
        self._reads.append((batch._replace(seen=None), rows))
        if self._losses is not None and batch.values is not None:
            self._losses.append(batch.values[:rows])
        if vectors is not None:
            self._vectors.append(vectors[:rows].float().cpu())
        self._rows += rows
        if self._rows >= MAX_ROWS:
            self.send()

    def send(self) -> None:
        """What there is."""
        reads, vectors = self._reads, self._vectors
        self._reads, self._vectors, count, self._rows = [], [], self._rows, 0
        if not count:
            return
        with torch.no_grad():
            joined = torch.cat(vectors) if vectors else None
            self._send(Examined(
                **self._about, time=time.time(), first=self.first,
                sample=b"".join(_indices(one, rows) for one, rows in reads),
                loss=_column([one.values for one, _ in reads], reads, torch.float32),
                valid=array("i", [number for one, rows in reads
                                  for number in (one.valid[:rows] or [0] * rows)]).tobytes(),
                certificate=bytes(code for one, rows in reads
                                  for code in [one.certificate if one.values is not None else NONE] * rows),
                identity=bytes(code for one, rows in reads for code in [IDENTITIES.index(one.identity)] * rows),
                target=_column([one.target for one, _ in reads], reads, torch.float64),
                predicted=_column([one.predicted for one, _ in reads], reads, torch.float64),
                confidence=_column([one.confidence for one, _ in reads], reads, torch.float32),
                margin=_column([one.margin for one, _ in reads], reads, torch.float32),
                keys=_keys(reads),
                dimensions=joined.shape[1] if joined is not None else 0,
                vectors=raw(joined.contiguous()) if joined is not None else b"",
            ))  # fmt: skip
        self.first += count


def _indices(one: Read, rows: int) -> bytes:
    if one.samples is None or one.identity == "key":
        return b"\xff" * (8 * rows)  # -1
    return array("q", [int(index) for index in one.samples[:rows]]).tobytes()


def _keys(reads: list[tuple[Read, int]]) -> list[str]:
    if not any(one.identity == "key" for one, _ in reads):
        return []
    return [str(name) for one, rows in reads
            for name in ((one.samples or [])[:rows] if one.identity == "key" else [""] * rows)]  # fmt: skip


def _column(parts: list[Tensor | None], reads: list[tuple[Read, int]], dtype: torch.dtype) -> bytes:
    """NaN where a batch has none; nothing where no batch has any."""
    if all(part is None for part in parts) and dtype is not torch.float32:
        return b""
    if all(part is None for part in parts) and all(one.values is not None for one, _ in reads):
        return b""
    whole = [torch.full((rows,), torch.nan, dtype=dtype) if part is None else part[:rows].to(dtype)
             for part, (_, rows) in zip(parts, reads)]  # fmt: skip
    return raw(torch.cat(whole).contiguous())
