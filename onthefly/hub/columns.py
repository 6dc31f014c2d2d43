"""Columns as they come from agents, checked and made into arrays; and columns as they go to clients."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from onthefly.hub.schema import COMPONENT
from onthefly.protocol import (
    CERTIFICATES,
    COMPONENT_PATTERN,
    IDENTITIES,
    PHASES,
    Column,
    ColumnsHeader,
    Metrics,
    Records,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

REPEATED = ("run", "rank", "step", "epoch", "backward", "phase", "loader", "certificate", "time")
"""Columns of a backward call that each of its samples carries."""

TRAIN = PHASES.index("train")

YEAR_10000 = 253_402_300_800
"""Seconds since the epoch: Python, JSON and Parquet readers go no further."""

Array = Any
"""A one-dimensional NumPy array."""


class BadColumns(ValueError):
    """Columns whose lengths or codes do not fit together."""


class Words:
    """Texts of a batch by number, so that a column of them is a column of codes."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._places: dict[str, int] = {}

    def place(self, word: str) -> int:
        """The number of this text."""
        if word not in self._places:
            self._places[word] = len(self.words)
            self.words.append(word)
        return self._places[word]

    def places(self, words: Sequence[str], codes: NDArray[Any]) -> NDArray[Any]:
        """Codes of one message as codes of the batch; -1 stays."""
        table = np.array([*[self.place(word) for word in words], -1], dtype=np.int32)
        return table[codes]


def column_of(data: bytes, dtype: str, count: int | None, name: str) -> Array:
    """A column of that dtype; :class:`BadColumns` where it has another length."""
    size = np.dtype(dtype).itemsize
    if len(data) % size or (count is not None and len(data) != count * size):
        raise BadColumns(f"column {name} has {len(data)} bytes")
    return np.frombuffer(data, dtype=np.dtype(dtype).newbyteorder("<"))


def codes_of(data: bytes, limit: int, count: int, name: str) -> Array:
    """A column of codes below ``limit``."""
    codes = column_of(data, "u1", count, name)
    if count and int(codes.max()) >= limit:
        raise BadColumns(f"column {name} has an unknown code")
    return codes


def backward_columns(records: Records, rank: int, runs: Words, loaders: Words, reasons: Words) -> dict[str, Array]:
    """The per-call columns of a block, ready for the table ``backwards``; :class:`BadColumns` if they do not fit."""
    backward = column_of(records.backward, "i8", None, "backward")
    count = len(backward)
    for codes, names, name in (
        (records.loader, records.loaders, "loader"),
        (records.reason, records.reasons, "reason"),
    ):
        places = column_of(codes, "i2", count, name)
        if count and not (int(places.min()) >= -1 and int(places.max()) < len(names)):
            raise BadColumns(f"column {name} points nowhere")
    return {
        "run": np.full(count, runs.place(records.run), dtype=np.int32),
        "rank": np.full(count, rank, dtype=np.int16),
        "step": column_of(records.step, "i8", count, "step"),
        "epoch": column_of(records.epoch, "i4", count, "epoch"),
        "backward": backward,
        "phase": codes_of(records.phase, len(PHASES), count, "phase"),
        "loader": loaders.places(records.loaders, column_of(records.loader, "i2", count, "loader")),
        "loss": column_of(records.loss, "f8", count, "loss"),
        "shared": column_of(records.shared, "f8", count, "shared"),
        "certificate": codes_of(records.certificate, len(CERTIFICATES), count, "certificate"),
        "error": column_of(records.error, "f8", count, "error"),
        "reason": reasons.places(records.reasons, column_of(records.reason, "i2", count, "reason")),
        "time": microseconds(column_of(records.time, "f8", count, "time")),
    }


def sample_columns(records: Records, backwards: dict[str, Array]) -> dict[str, Array]:
    """The per-sample columns of a block that each has, each call's values repeated for its samples."""
    calls = len(backwards["backward"])
    counts = column_of(records.count, "i4", calls, "count")
    if calls and int(counts.min()) < 0:
        raise BadColumns("column count is negative")
    total = int(counts.sum(dtype=np.int64))
    sample = column_of(records.sample, "i8", total, "sample")
    starts = np.cumsum(counts, dtype=np.int64) - counts
    columns = {name: np.repeat(backwards[name], counts) for name in REPEATED}
    columns["identity"] = np.repeat(codes_of(records.identity, len(IDENTITIES), calls, "identity"), counts)
    columns["position"] = (np.arange(total, dtype=np.int64) - np.repeat(starts, counts)).astype(np.int32)
    columns["sample"] = sample
    columns["loss"] = column_of(records.sample_loss, "f4", total, "sample_loss")
    columns["valid"] = column_of(records.valid, "i4", total, "valid")
    return columns


def optional_columns(records: Records, keys: Words) -> dict[str, Array]:
    """The per-sample columns that not each block has: ``key``, ``confidence``, ``margin``, ``loss.<component>``."""
    columns: dict[str, Array] = {}
    count = len(records.sample) // 8
    if records.key:
        places = column_of(records.key, "i4", count, "key")
        if count and not (int(places.min()) >= -1 and int(places.max()) < len(records.keys)):
            raise BadColumns("column key points nowhere")
        columns["key"] = keys.places(records.keys, places)
    for name, data in (("confidence", records.confidence), ("margin", records.margin)):
        if data:
            columns[name] = column_of(data, "f4", count, name)
    for name, data in records.components.items():
        if not COMPONENT_PATTERN.fullmatch(name):
            raise BadColumns(f"{name[:40]!r} is no name of a component")
        columns[COMPONENT + name] = column_of(data, "f4", count, name)
    if len({name.lower() for name in columns}) < len(columns):
        raise BadColumns("two components differ by capitals only, which names of columns do not")
    return columns


def metric_columns(metrics: Metrics, rank: int, runs: Words, names: Words) -> dict[str, Array]:
    """A block of per-step values as rows of the long table.

    A step that lacks a value has no row: that is what NaN says, unless all are said to be values.
    """
    step = column_of(metrics.step, "i8", None, "step")
    count = len(step)
    epoch = column_of(metrics.epoch, "i4", count, "epoch")
    time = microseconds(column_of(metrics.time, "f8", count, "time"))
    parts: list[dict[str, Array]] = []
    for name, data in metrics.values.items():
        value = column_of(data, "f8", count, name)
        there = np.ones(count, dtype=bool) if metrics.complete else ~np.isnan(value)
        parts.append({
            "run": np.full(int(there.sum()), runs.place(metrics.run), dtype=np.int32),
            "rank": np.full(int(there.sum()), rank, dtype=np.int16),
            "step": step[there], "epoch": epoch[there], "time": time[there],
            "name": np.full(int(there.sum()), names.place(name), dtype=np.int32),
            "value": value[there],
        })  # fmt: skip
    return stacked(parts)


def stacked(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Blocks one below the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def microseconds(seconds: Array) -> Array:
    """Times as the store keeps them; what no calendar shows becomes the epoch's start."""
    shown = (seconds >= 0) & (seconds < YEAR_10000)
    return (np.where(shown, seconds, 0.0) * 1e6).astype(np.int64)


def binary_message(header: ColumnsHeader, columns: dict[str, Array]) -> bytes:
    """u32 header length, JSON header, padding to 8, then each array padded to 8 (little-endian)."""
    kinds = {"f8": "<f8", "f4": "<f4", "i8": "<i8", "i4": "<i4", "u1": "u1"}
    arrays = {name: np.ascontiguousarray(column) for name, column in columns.items()}
    header.columns = [Column(name=name, dtype=_dtype(array), count=len(array)) for name, array in arrays.items()]
    head = msgspec.json.encode(header)
    parts = [struct.pack("<I", len(head)), head, bytes(-(4 + len(head)) % 8)]
    for column, array in zip(header.columns, arrays.values()):
        data = array.astype(kinds[column.dtype], copy=False).tobytes()
        parts += [data, bytes(-len(data) % 8)]
    return b"".join(parts)


def _dtype(array: Array) -> Any:
    return f"{array.dtype.kind}{array.dtype.itemsize}"
