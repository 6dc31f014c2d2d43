"""What a sample holds: its input and target, a hash of its content, and what there is to say of its numbers."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGETS = ("label", "labels", "target", "targets", "y", "class")
"""What a target is called in samples that are dictionaries."""

MAX_DEPTH = 6


class Sample(NamedTuple):
    """One item of a data set."""

    input: bytes
    """Hash of its content."""
    target: Any
    """A class as a whole number, or None."""
    nonfinite: int
    """Numbers of the input that are not finite."""
    blank: bool
    """All numbers of the input are one, and there is more than one."""
    numbers: torch.Tensor | None
    """The input, where it is one tensor of real numbers."""


def sample(item: Any) -> Sample:
    """What there is to know of it."""
    given, target = _split(item)
    hashed = hashlib.blake2b(digest_size=8)
    _hash(given, hashed, 0)
    tensors = list(_tensors(given, 0))
    nonfinite = sum(int((~tensor.isfinite()).sum()) for tensor in tensors if tensor.is_floating_point())
    numbers = tensors[0] if len(tensors) == 1 and tensors[0].numel() and not tensors[0].is_complex() else None
    blank = numbers is not None and numbers.numel() > 1 and bool((numbers == numbers.flatten()[0]).all())
    return Sample(hashed.digest(), _class(target), nonfinite, blank, numbers)


def _split(item: Any) -> tuple[Any, Any]:
    if isinstance(item, dict):
        for name in TARGETS:
            if name in item:
                return {key: value for key, value in item.items() if key != name}, item[name]
        return item, None  # pyright: ignore[reportUnknownVariableType]
    if isinstance(item, (tuple, list)) and len(item) > 1:  # pyright: ignore[reportUnknownArgumentType]
        return item[0] if len(item) == 2 else list(item[:-1]), item[-1]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(item, (tuple, list)) and len(item) == 1:  # pyright: ignore[reportUnknownArgumentType]
        return item[0], None  # pyright: ignore[reportUnknownVariableType]
    return item, None


def _class(target: Any) -> int | None:
    if isinstance(target, torch.Tensor) and target.numel() == 1 and not target.is_floating_point():
        return int(target) if not target.is_complex() else None
    if isinstance(target, bool) or not hasattr(target, "__index__") or isinstance(target, torch.Tensor):
        return int(target) if isinstance(target, bool) else None
    return int(target.__index__())


def _hash(value: Any, hashed: Any, depth: int) -> None:
    """Content with its types and shapes; of what is not known, nothing but its type."""
    hashed.update(type(value).__name__.encode())
    if isinstance(value, torch.Tensor):
        hashed.update(f"{value.dtype}{tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        hashed.update(_bytes(flat))
    elif isinstance(value, (bool, int, float, str, type(None))):
        hashed.update(repr(value).encode())
    elif isinstance(value, (bytes, bytearray)):
        hashed.update(value)
    elif isinstance(value, dict) and depth < MAX_DEPTH:
        for key, part in value.items():  # pyright: ignore[reportUnknownVariableType]
            hashed.update(repr(key).encode())  # pyright: ignore[reportUnknownArgumentType]
            _hash(part, hashed, depth + 1)
    elif isinstance(value, (tuple, list)) and depth < MAX_DEPTH:
        for part in value:  # pyright: ignore[reportUnknownVariableType]
            _hash(part, hashed, depth + 1)
    elif callable(raw := getattr(value, "tobytes", None)):  # arrays, images
        hashed.update(f"{getattr(value, 'shape', getattr(value, 'size', ''))}".encode())
        hashed.update(raw())


def _bytes(flat: torch.Tensor) -> Any:
    """Its bytes; through NumPy where the script has it, a hundred times as fast."""
    if not flat.numel():
        return b""
    raw = flat.view(torch.uint8)
    return raw.numpy() if "numpy" in sys.modules else bytes(raw.tolist())


def _tensors(value: Any, depth: int) -> Iterator[torch.Tensor]:
    """Real dense tensors in it; arrays of numbers as such."""
    if isinstance(value, torch.Tensor):
        if value.layout is torch.strided and value.dtype is not torch.bool:
            yield value.detach()
    elif type(value).__module__ == "numpy" and getattr(value, "dtype", None) is not None and value.dtype.kind in "fiu":
        yield torch.as_tensor(value)
    elif isinstance(value, dict) and depth < MAX_DEPTH:
        for part in value.values():  # pyright: ignore[reportUnknownVariableType]
            yield from _tensors(part, depth + 1)
    elif isinstance(value, (tuple, list)) and depth < MAX_DEPTH:
        for part in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _tensors(part, depth + 1)
