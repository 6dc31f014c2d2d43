"""The container of tensors: as the package ``safetensors`` reads and writes it, and strict about every offset."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import deserialize, safe_open, serialize
from safetensors.torch import load, load_file, save

from onthefly.bundle.refusals import Damaged
from onthefly.bundle.tensors import ITEM_BYTES, Stored, chunks, read

if TYPE_CHECKING:
    from pathlib import Path


def tensors() -> dict[str, torch.Tensor]:
    """Some of many dtypes and shapes, empty ones and numbers among them."""
    made = {str(d)[6:]: torch.arange(6).reshape(2, 3).to(d) for d in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2,
    )}  # fmt: skip
    return {**made, "number": torch.tensor(3.5), "empty": torch.zeros(0, 4), "été ☀": torch.ones(1)}


def written(given: dict[str, Stored]) -> bytes:
    """The file."""
    return b"".join(bytes(piece) for piece in chunks(given, {"format": "pt"}))


def test_the_package_reads_what_we_write(tmp_path: Path) -> None:
    from onthefly.state.encoding import stored_form

    made = tensors()
    stored = {name: form for name, tensor in made.items() if (form := stored_form(tensor)) is not None}
    assert len(stored) == len(made)
    path = tmp_path / "t.safetensors"
    path.write_bytes(written(stored))
    theirs = load_file(path)
    assert theirs.keys() == made.keys()
    assert all(theirs[name].dtype == t.dtype and equal(theirs[name], t) for name, t in made.items())
    with safe_open(str(path), "pt") as file:  # pyright: ignore[reportUnknownVariableType]
        assert file.metadata() == {"format": "pt"}


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit for bit."""
    return a.shape == b.shape and bytes(a.contiguous().reshape(-1).view(torch.uint8)) == bytes(
        b.contiguous().reshape(-1).view(torch.uint8)
    )


def test_we_read_what_the_package_writes() -> None:
    made = tensors()
    found = read(save(made, {"some": "metadata"}))
    assert found.keys() == made.keys()
    for name, stored in found.items():
        assert stored.shape == tuple(made[name].shape)
        assert bytes(stored.data) == bytes(made[name].reshape(-1).view(torch.uint8)), name


def test_nothing_at_all() -> None:
    assert read(written({})) == {}
    assert load(written({})) == {}
    assert read(serialize({}, None)) == {}


def test_a_buffer_of_the_wrong_length_is_not_written() -> None:
    with pytest.raises(ValueError, match="asks for 8"):
        written({"x": Stored("F32", (2,), b"1234")})


def file(header: Any, body: bytes) -> bytes:
    """A file with that header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def one(shape: Any, begin: Any, end: Any, dtype: Any = "F32", **more: Any) -> dict[str, Any]:
    """An entry of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"1234567", struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 3) + b"{}", file(b"{", b""),
        file([], b""), file({"x": []}, b""), file({"x": one([1], 0, 4)}, b"123"), file({"x": one([1], 0, 4)}, b"12345"),
        file({"x": one([2], 0, 4)}, b"1234"), file({"x": one([1], 4, 0)}, b"1234"),
        file({"x": one([-1], 0, 4)}, b"1234"),
        file({"x": one([1], 0, 4), "y": one([1], 0, 4)}, b"1234"), file({"x": one([1], 4, 8)}, b"12345678"),
        file({"x": one([1], 0, 4), "y": one([1], 5, 9)}, b"123456789"), file({"x": one([1], 0, 4, "F31")}, b"1234"),
        file({"x": one([1], 0, 4, more=1)}, b"1234"), file({"x": one([1.0], 0, 4)}, b"1234"),
        file({"x": one([True], 0, 4)}, b"1234"), file({"x": one([1 << 40, 1 << 40], 0, 4)}, b"1234"),
        file(b"{%s,%s}" % ((b'"x":' + json.dumps(one([1], 0, 4)).encode(),) * 2), b"1234"), file(b"[" * 100_000, b""),
        file({"x": one([1] * 65, 0, 4)}, b"1234"), file({"x": one([1], 0, 4, None)}, b"1234"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(Damaged):
        read(data)


def test_every_cut_is_refused() -> None:
    good = written({"a": Stored("F32", (2, 2), bytes(16)), "b": Stored("I64", (1,), bytes(8))})
    for length in range(len(good)):
        with pytest.raises(Damaged):
            read(good[:length])


def test_the_dtypes_are_those_of_the_package() -> None:
    for name, size in ITEM_BYTES.items():
        data = written({"x": Stored(name, (2,), bytes(2 * size))})
        ((_, theirs),) = deserialize(data)
        assert (theirs["dtype"], len(theirs["data"])) == (name, 2 * size)
