"""What differs between a script that was never interrupted and one that was: files, exit code, every printed line."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tests.resume.running import Ran

STEP = re.compile(r"^step \d+", re.MULTILINE)
"""How each script begins the line that it prints for a step."""


def differences(whole: Ran, before: str, resumed: Ran, cut: tuple[int, int] | None) -> list[str]:
    """In words; nothing where the resumed script ended as the whole one.

    ``before``: what was printed up to the checkpoint, where that is known (``cut`` is None); else ``cut`` are the
    fewest and the most lines of steps that were printed before it.
    """
    found: list[str] = []
    if resumed.code != whole.code:
        found.append(f"exit code {resumed.code}, not {whole.code}")
    found += _printed(whole.out, before, resumed.out, cut)
    if not whole.theirs.endswith(resumed.theirs):
        found.append(f"standard error: {_first(whole.theirs[-len(resumed.theirs) :], resumed.theirs)}")
    return found + files(whole.files, resumed.files)


def _printed(whole: str, before: str, after: str, cut: tuple[int, int] | None) -> list[str]:
    if cut is None:
        joined = before + after
        return [] if joined == whole else [f"printed: {_first(whole, joined)}"]
    if not whole.endswith(after):
        return [f"printed: {_first(whole[-len(after) :], after)}"]
    head = whole[: len(whole) - len(after)]
    steps = len(STEP.findall(head))
    if head and not head.endswith(("\n", "\r")):
        return ["printed: begins within a line"]
    return [] if cut[0] <= steps <= cut[1] else [f"printed: begins after {steps} steps, not {cut[0]} to {cut[1]}"]


def files(wanted: dict[str, bytes], given: dict[str, bytes]) -> list[str]:
    """Names of files that are missing, too many, or of other content."""
    found = [f"file {name} is missing" for name in sorted(wanted.keys() - given.keys())]
    found += [f"file {name} is one too many" for name in sorted(given.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & given.keys()):
        if wanted[name] != given[name]:
            what = content(wanted[name], given[name])
            if what:
                found.append(f"file {name}: {what}")
    return found


def content(wanted: bytes, given: bytes) -> str:
    """How the content of two files differs that are not the same bytes; empty for archives of equal values.

    ``torch.save`` writes a string or a tuple once or twice, after whether two places hold one object or equal ones:
    so archives of equal values may differ in their bytes.
    """
    if not (wanted.startswith(b"PK") and given.startswith(b"PK")):
        a, b = (text.decode(errors="replace") for text in (wanted, given))
        return _first(a, b)
    return value(*(torch.load(io.BytesIO(data), weights_only=False) for data in (wanted, given)))


def value(a: Any, b: Any, where: str = "") -> str:
    """The first place at which two loaded values differ, types and bits included; empty where they are equal."""
    if type(a) is not type(b):
        return f"{where or 'it'} is a {type(b).__name__}, not a {type(a).__name__}"
    if isinstance(a, torch.Tensor):
        same = a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride() and _bits(a) == _bits(b)
        return "" if same else f"tensor {where or 'it'}: off by {_distance(a, b)}"
    if isinstance(a, dict):
        if list(a) != list(b):  # pyright: ignore[reportUnknownArgumentType]
            return f"keys of {where or 'it'}: {list(b)}, not {list(a)}"  # pyright: ignore[reportUnknownArgumentType]
        pairs: Any = [(key, a[key], b[key]) for key in a]  # pyright: ignore[reportUnknownVariableType]
    elif isinstance(a, (list, tuple)):
        if len(a) != len(b):  # pyright: ignore[reportUnknownArgumentType]
            return f"length of {where or 'it'}: {len(b)}, not {len(a)}"  # pyright: ignore[reportUnknownArgumentType]
        pairs = [(place, *pair) for place, pair in enumerate(zip(a, b))]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    elif hasattr(a, "__dict__") and not isinstance(a, type):
        return value(vars(a), vars(b), f"{where}.__dict__")
    else:
        same = a == b or repr(a) == repr(b)  # nan is nan
        return "" if same else f"{where or 'it'} is {b!r}, not {a!r}"
    return next(filter(None, (value(one, other, f"{where}[{key!r}]") for key, one, other in pairs)), "")


def _bits(tensor: torch.Tensor) -> bytes:
    data = tensor.detach().contiguous()
    return data.flatten().view(torch.uint8).numpy().tobytes() if data.numel() else b""


def _distance(a: torch.Tensor, b: torch.Tensor) -> str:
    if a.shape != b.shape or a.dtype != b.dtype or a.stride() != b.stride():
        return f"{b.dtype} {tuple(b.shape)} for {a.dtype} {tuple(a.shape)}"
    return f"{(a.double() - b.double()).abs().max().item():g}"


def _first(wanted: str, given: str) -> str:
    """The first line that differs."""
    a, b = wanted.splitlines(), given.splitlines()
    for number, (one, other) in enumerate(zip(a, b), 1):
        if one != other:
            return f"line {number} is {other[:100]!r}, not {one[:100]!r}"
    return f"{len(b)} lines, not {len(a)}"
