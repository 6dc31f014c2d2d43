"""A sample of the script's data set, described so that a page can draw it: never more than it says, and never code.

What it is told by its shape and type: ``[3, H, W]`` of numbers is a picture, a long vector a waveform, a short one a
row of a table, a matrix a heat map. Values are read, copied and made smaller; nothing of the script is changed.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import torch

from onthefly.insight.png import png

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

MAX_TEXT, MAX_ROW, MAX_PARTS = 2000, 64, 12
WAVE = 200
"""Parts of a waveform, each from its lowest to its highest value."""

LEAST = 4
"""Pixels of the shorter side of a picture."""

TARGETS = ("label", "labels", "target", "targets", "y", "class")
"""What the label is called in a sample that names its parts."""


def describe(value: Any, size: int) -> dict[str, Any]:
    """The parts of a sample and its target; a picture has at most ``size`` pixels on its longer side."""
    parts = list(_parts(value))
    told = [{"name": name, **part(one, size)} for name, one in parts[:MAX_PARTS]]
    return {"parts": told, "target": _target(parts)}


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        scalars = {name: one for name, one in value.items() if _scalar(one) is not None}
        if len(scalars) == len(value):
            yield "", value
            return
        for name, one in value.items():
            yield str(name)[:100], one
    elif isinstance(value, (list, tuple)) and 0 < len(value) <= MAX_PARTS and not all(map(_is_number, value)):
        names: Any = getattr(value, "_fields", range(len(value)))
        yield from ((str(name), one) for name, one in zip(names, value))
    else:
        yield "", value


def _target(parts: list[tuple[str, Any]]) -> str | None:
    """The label: what is called so, or the last of several parts if it is a single value."""
    for name, one in parts:
        if name.lower() in TARGETS and _scalar(one) is not None:
            return _scalar(one)
    return _scalar(parts[-1][1]) if len(parts) > 1 and parts[-1][0].isdigit() else None


def part(value: Any, size: int) -> dict[str, Any]:
    """One part: ``kind``, ``says``, and what is drawn."""
    text = _scalar(value)
    if isinstance(value, str):
        return {"kind": "text", "says": f"{len(value)} letters", "text": value[:MAX_TEXT]}
    if text is not None:
        return {"kind": "value", "says": _kind_of(value), "text": text}
    if isinstance(value, dict) and value:
        return _row([(str(name), one) for name, one in value.items()], f"{len(value)} values")
    tensor = _tensor(value)
    if tensor is None:
        if type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "items"):
            return _row([(str(name), one) for name, one in value.items()], f"{len(value)} values")
        return {"kind": "none", "says": f"{_kind_of(value)}: nothing that can be drawn"}
    return _drawn(tensor, size)


def _scalar(value: Any) -> str | None:
    if isinstance(value, (bool, int, float, str)):
        return str(value)[:MAX_TEXT]
    if isinstance(value, torch.Tensor) and value.numel() == 1 and value.dim() <= 1 and not value.is_complex():
        return _number(value.item())
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return str(value)[:MAX_TEXT]
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def _number(value: float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _kind_of(value: Any) -> str:
    kind: type[Any] = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]} {kind.__name__}"


def _tensor(value: Any) -> Tensor | None:
    """The same values as a dense tensor on the CPU; None where that is not possible."""
    if isinstance(value, torch.Tensor):
        dense = value.detach()
        dense = dense.to_dense() if dense.layout is not torch.strided or dense.is_quantized else dense
        return dense.abs().cpu() if dense.is_complex() else dense.cpu()
    if all(hasattr(value, name) for name in ("convert", "tobytes", "size", "mode")):  # a picture of Pillow's
        pixels = value.convert("RGB")
        width, height = pixels.size
        return torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8).reshape(height, width, 3)
    if isinstance(value, (list, tuple)) and value and all(map(_is_number, value)):
        return torch.tensor(value)
    other: Any = value
    if hasattr(other, "__array__") and getattr(getattr(other, "dtype", None), "kind", "") in ("b", "i", "u", "f"):
        return torch.tensor(other.tolist()) if other.dtype.byteorder == ">" else torch.from_numpy(other.copy())
    return None


def _drawn(tensor: Tensor, size: int) -> dict[str, Any]:
    says = f"{'x'.join(map(str, tensor.shape))} {str(tensor.dtype).partition('.')[2]}"
    if not tensor.numel():
        return {"kind": "none", "says": f"{says}: empty"}
    values = tensor if tensor.dtype is torch.uint8 else tensor.double()
    finite = values.double()[torch.isfinite(values.double())]
    if not len(finite):
        return {"kind": "none", "says": f"{says}: no value is finite"}
    low, high = float(finite.min()), float(finite.max())
    says = f"{says}, {_number(low)} to {_number(high)}"
    picture = _picture(values)
    if picture is not None:
        return _image(picture, "image", says, low, high, size)
    if values.dim() == 1 and len(values) <= MAX_ROW:
        return _row([(str(place), one) for place, one in enumerate(tensor.tolist())], says)
    if values.dim() == 1 and not tensor.is_floating_point():
        text = " ".join(map(str, tensor[: MAX_TEXT // 4].tolist()))
        return {"kind": "text", "says": says, "text": text[:MAX_TEXT]}
    if values.dim() == 1 or (values.dim() == 2 and len(values) <= 2 and values.shape[1] > MAX_ROW):
        return {"kind": "audio", "says": says, **_wave(values.reshape(-1, values.shape[-1]).double().mean(0))}
    flat = values.double().reshape(-1, values.shape[-1])
    return _image(flat[:, :, None], "heat", says, low, high, size)


def _picture(values: Tensor) -> Tensor | None:
    """``[H, W, 1 or 3]``; None where the shape is none of a picture."""
    if values.dim() == 3 and values.shape[0] in (1, 3, 4) and min(values.shape[1:]) >= LEAST:
        values = values.permute(1, 2, 0)
    elif values.dim() == 2 and min(values.shape) >= LEAST and values.dtype is torch.uint8:
        values = values[:, :, None]
    if values.dim() != 3 or values.shape[2] not in (1, 3, 4) or min(values.shape[:2]) < LEAST:
        return None
    return values[:, :, :3]


def _image(values: Tensor, kind: str, says: str, low: float, high: float, size: int) -> dict[str, Any]:
    step = max(1, math.ceil(max(values.shape[:2]) / size))
    if step > 1:
        tall, wide = (max(1, side // step) * min(step, side) for side in values.shape[:2])
        rows, columns = min(step, values.shape[0]), min(step, values.shape[1])
        part = values[:tall, :wide].double()
        values = part.reshape(tall // rows, rows, wide // columns, columns, -1).mean((1, 3))
        says = f"{says}; shown smaller"
    whole = kind == "image" and low >= 0 and (high <= 1 or 1 < high <= 255)
    if not whole:
        says = f"{says}; darkest to brightest"
    least, most = (0.0, 1.0 if high <= 1 else 255.0) if whole else (low, high)
    scaled = (torch.nan_to_num(values.double(), least, most, least) - least) * (255 / ((most - least) or 1.0))
    pixels = scaled.clamp(0, 255).round().to(torch.uint8).contiguous()
    height, width, channels = pixels.shape
    content = base64.b64encode(png(bytes(pixels.flatten().tolist()), width, height, channels)).decode()
    return {"kind": kind, "says": says, "png": content, "width": width, "height": height}


def _wave(values: Tensor) -> dict[str, Any]:
    """The lowest and highest of each stretch; NaN counts as 0."""
    values = torch.nan_to_num(values, 0.0, 0.0, 0.0)
    edges = [len(values) * place // min(WAVE, len(values)) for place in range(min(WAVE, len(values)) + 1)]
    stretches = [values[first:last] for first, last in zip(edges, edges[1:])]
    return {
        "low": [round(float(one.min()), 6) for one in stretches],
        "high": [round(float(one.max()), 6) for one in stretches],
    }


def _row(values: list[tuple[str, Any]], says: str) -> dict[str, Any]:
    cut = f"; the first {MAX_ROW}" if len(values) > MAX_ROW else ""
    shown = [(name[:100], _number(one) if isinstance(one, float) else str(one)[:200]) for name, one in values[:MAX_ROW]]
    return {"kind": "row", "says": says + cut, "row": shown}
