"""The safetensors container, written and read as bytes.

Eight bytes with the length of the header, the header (JSON: name to dtype, shape and offsets), the elements. Written
here and not by the package of that name: its ``serialize`` builds the whole file in memory, where a checkpoint of many
gigabytes can be written tensor by tensor straight from the copies; and a reader that is to trust nothing has to look at
every offset itself. The tests read what is written here with that package, and the other way round.
"""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from onthefly.bundle.refusals import Damaged, TooLarge
from onthefly.bundle.sealed import unique

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Buffer = Union[bytes, bytearray, memoryview]

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""Bytes an element takes, by the container's name of its dtype."""

MAX_HEADER = 64 << 20
MAX_NODES = 2_000_000
"""How many values a header may hold, counted before anything is built from it: some 200,000 tensors."""
_LENGTH = struct.Struct("<Q")
_ALIGN = 8


class Stored(NamedTuple):
    """The elements of a tensor, row-major and little-endian."""

    dtype: str
    shape: tuple[int, ...]
    data: Buffer


def chunks(tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None = None) -> Iterator[Buffer]:
    """The file, piece by piece: the header, then each tensor's buffer, wide dtypes first so that all are aligned."""
    order = sorted(tensors, key=lambda name: (-ITEM_BYTES[tensors[name].dtype], name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name in order:
        stored = tensors[name]
        size = math.prod(stored.shape) * ITEM_BYTES[stored.dtype]
        if memoryview(stored.data).nbytes != size:
            raise ValueError(f"{name}: {memoryview(stored.data).nbytes} bytes, and its shape asks for {size}")
        header[name] = {"dtype": stored.dtype, "shape": list(stored.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % _ALIGN)
    yield _LENGTH.pack(len(text)) + text
    for name in order:
        yield tensors[name].data


def read(data: Buffer) -> dict[str, Stored]:
    """The tensors of a file, as views into ``data``. Raises :class:`Damaged` on anything but exactly such a file.

    Every byte behind the header belongs to one tensor and to no other: spans follow each other from first to last,
    and each is as long as its shape and dtype say.
    """
    view = memoryview(data).cast("B")
    start = _LENGTH.size + _header_length(bytes(view[: _LENGTH.size]), len(view))
    body = view[start:]
    spans = _spans(bytes(view[_LENGTH.size : start]), len(body))
    return {name: Stored(dtype, shape, body[begin:end]) for name, (dtype, shape, begin, end) in spans.items()}


def check(path: Path) -> None:
    """The same for a file on the disk, of which the header alone is read."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        length = _header_length(file.read(_LENGTH.size), size)
        _spans(file.read(length), size - _LENGTH.size - length)


def _spans(text: bytes, size: int) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """Dtype, shape, begin and end of each tensor, in the ``size`` bytes behind the header."""
    header = _header(text)
    header.pop("__metadata__", None)
    found = {name: _entry(name, entry) for name, entry in header.items()}
    reached = 0
    for begin, end, name in sorted((begin, end, name) for name, (_, _, begin, end) in found.items()):
        dtype, shape, _, _ = found[name]
        if math.prod(shape) * ITEM_BYTES[dtype] != end - begin or end > size:
            raise Damaged(f"tensor {name!r} does not fill the span that it claims")
        if begin != reached:
            raise Damaged(f"there is a gap or an overlap before tensor {name!r}")
        reached = end
    if reached != size:
        raise Damaged(f"{size - reached} bytes belong to no tensor")
    return found


def _header_length(data: bytes, size: int) -> int:
    if len(data) < _LENGTH.size:
        raise Damaged("too short for a file of tensors")
    (length,) = _LENGTH.unpack(data)
    if length > min(MAX_HEADER, size - _LENGTH.size):
        raise Damaged(f"a header of {length} bytes is longer than the file or than {MAX_HEADER}")
    return length


def _header(text: bytes) -> dict[str, Any]:
    nodes = text.count(b",") + text.count(b"[") + text.count(b"{")
    if nodes > MAX_NODES:
        raise TooLarge(f"a header of about {nodes} values, where {MAX_NODES} are allowed", "")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"the header of the tensors is not the JSON that was written: {error}") from error
    if type(header) is not dict:
        raise Damaged("the header of the tensors is no table")
    return header


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    if type(entry) is not dict or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Damaged(f"tensor {name!r} has no dtype, shape and offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(dtype) is not str or dtype not in ITEM_BYTES:
        raise Damaged(f"tensor {name!r} has the unknown dtype {dtype!r}")
    if not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise Damaged(f"tensor {name!r} has an impossible shape or offset")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _sizes(given: Any) -> bool:
    return type(given) is list and len(given) <= 64 and all(type(n) is int and 0 <= n < 1 << 63 for n in given)
