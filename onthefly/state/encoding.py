"""The torch side of the container: how tensors, dtypes, devices and sizes stand in tagged JSON and in safetensors.

Writing runs no operator of torch, since it happens on the writer's thread: it looks at addresses and shapes.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onthefly.bundle.refusals import Damaged
from onthefly.bundle.tensors import Stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onthefly.bundle.tagged import Decode, Encode

_NAMES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "float16": "F16", "bfloat16": "BF16",
    "int32": "I32", "uint32": "U32", "float32": "F32", "int64": "I64", "uint64": "U64", "float64": "F64",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip
STORED: dict[torch.dtype, str] = {
    getattr(torch, name): stored for name, stored in _NAMES.items() if hasattr(torch, name)
}
"""The container's names of torch's dtypes."""
_TORCH = {stored: dtype for dtype, stored in STORED.items()}
PAIRS = {torch.complex64: "F32", torch.complex128: "F64"}
"""Complex numbers are stored as pairs, which every reader of the format knows."""


class LeftOut(NamedTuple):
    """Stands where something was that is not kept."""

    what: str
    code: bool
    """It is a function or a class: what the script has there now is as good. Else it is data, and missing."""


def keep_in(tensors: dict[str, Stored]) -> Encode:
    """A hook for :func:`~onthefly.bundle.tagged.dumps` that puts tensors there, each once, under its path."""
    names: dict[int, str] = {}

    def encode(value: Any, path: str) -> dict[str, Any] | None:
        if isinstance(value, Tensor):
            if id(value) not in names:
                stored = stored_form(value)
                if stored is None:
                    return None
                name = path
                while name in tensors:
                    name += "'"  # a key with a dot in it may spell another one's path
                names[id(value)] = name
                tensors[name] = stored
            return {"$complex_tensor" if value.dtype in PAIRS else "$tensor": names[id(value)]}
        if isinstance(value, LeftOut):
            return {"$left_out": [value.what, value.code]}
        if isinstance(value, torch.Size):
            return {"$size": list(value)}
        if isinstance(value, torch.dtype):
            return {"$dtype": str(value)[len("torch.") :]}
        if isinstance(value, torch.device):
            return {"$device": str(value)}
        return None

    return encode


def stored_form(tensor: Tensor) -> Stored | None:
    """The elements of a row-major tensor in the host's memory, not copied; ``None`` for a dtype without a name."""
    pairs = PAIRS.get(tensor.dtype)
    dtype = pairs or STORED.get(tensor.dtype)
    if dtype is None or not tensor.is_cpu or not tensor.is_contiguous():
        return None
    size = tensor.numel() * tensor.element_size()
    data = memoryview((ctypes.c_ubyte * size).from_address(tensor.data_ptr())).cast("B") if size else b""
    return Stored(dtype, tuple(tensor.shape) + ((2,) if pairs else ()), data)


def find_in(stored: Mapping[str, Stored]) -> Decode:
    """A hook for :func:`~onthefly.bundle.tagged.loads`; what one name stands for is one tensor wherever it is used.

    The tensors lie in the memory that was read.
    """
    made: dict[str, Tensor] = {}

    def decode(tag: str, payload: Any) -> Any:
        if tag in ("$tensor", "$complex_tensor"):
            if payload not in made:
                made[payload] = loaded(stored[payload], pairs=tag == "$complex_tensor")
            return made[payload]
        if tag == "$left_out":
            what, code = payload
            return LeftOut(str(what), bool(code))
        if tag == "$size":
            return torch.Size(payload)
        if tag == "$dtype":
            dtype = getattr(torch, payload, None)
            if not isinstance(dtype, torch.dtype):
                raise ValueError(f"this torch has no dtype {payload!r}")
            return dtype
        if tag == "$device":
            return torch.device(payload)
        raise KeyError(tag)

    return decode


def loaded(stored: Stored, *, pairs: bool = False) -> Tensor:
    """A tensor over the memory of ``stored``."""
    dtype = _TORCH.get(stored.dtype)
    if dtype is None:
        raise Damaged(f"this torch has no dtype {stored.dtype}", "update torch")
    if not len(stored.data):
        tensor = torch.empty(stored.shape, dtype=dtype, device="cpu")
    else:
        tensor = torch.frombuffer(stored.data, dtype=dtype).reshape(stored.shape)
    return torch.view_as_complex(tensor) if pairs else tensor
