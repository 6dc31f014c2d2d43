"""A number for the bits of a tensor: the same bits give the same number, on every device and in every process.

``sum of mix(word) * weight(place)`` over its 64-bit words, modulo 2**64: exact in any order of summing, computed where
the tensor lies, in chunks, and one number is fetched for each tensor. No hash against somebody who wants a collision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

CHUNK = 1 << 20
"""Words."""

MASK, ODD = (1 << 64) - 1, -7046029254386353131
"""The golden ratio's 64 bits, as a signed number."""


def fingerprint(tensor: Tensor) -> int | None:
    """Of its type, shape and bits; None where it has none to look at (sparse, fake, on no device).

    With DTensor those of this rank.
    """
    local: Any = getattr(tensor, "_local_tensor", tensor).detach()
    if local.layout is not torch.strided or local.device.type == "meta" or local.is_quantized or local.is_nested:
        return None
    found = _text(f"{local.dtype} {tuple(local.shape)}")
    if not local.numel():
        return found
    flat = local.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    whole = len(flat) // 8 * 8
    for start, chunk in enumerate(_words(flat[:whole]).split(CHUNK)):
        weights = torch.arange(start * CHUNK + 1, start * CHUNK + 1 + len(chunk), device=chunk.device)
        found += int((((chunk >> 29) ^ chunk) * (weights * ODD | 1)).sum())
    return (found + int.from_bytes(bytes(flat[whole:].tolist()), "little") * 31) & MASK


def _words(flat: Tensor) -> Tensor:
    """As 64-bit words; a storage may begin anywhere."""
    return (flat if flat.storage_offset() % 8 == 0 else flat.clone()).view(torch.int64)


def _text(text: str) -> int:
    found = 0
    for letter in text.encode():
        found = (found * 1099511628211 + letter) & MASK
    return found


def together(named: Iterable[tuple[str, Tensor]]) -> str:
    """Of many tensors with their names, in their order; as text, since JSON's numbers have 53 bits."""
    found = 0
    for name, tensor in named:
        bits = fingerprint(tensor)
        found = (found * 6364136223846793005 + _text(name) + (bits or 0)) & MASK
    return f"{found:016x}"


def of_texts(texts: Iterable[str]) -> str:
    """The same for texts."""
    found = 0
    for text in texts:
        found = (found * 6364136223846793005 + _text(text)) & MASK
    return f"{found:016x}"
