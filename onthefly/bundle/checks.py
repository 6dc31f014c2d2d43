"""What is asked of a member's content before anybody uses it: bounded, well formed, and nothing built that is not."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from onthefly.bundle import files, tensors
from onthefly.bundle.refusals import Damaged, TooLarge
from onthefly.bundle.sealed import unique

if TYPE_CHECKING:
    from pathlib import Path

MAX_DEPTH = 64
MAX_BYTES = 64 << 20
MAX_NODES = 2_000_000
MAX_DOCUMENT, MAX_VALUES = 4 << 20, 200_000
"""Of a document that is read here: bytes, and values in it."""
MAX_LINE = 1 << 20

_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DIGITS = 4300
"""Of a number: longer ones take Python's reader a time that grows with their square."""


def document(data: bytes, what: str) -> Any:
    """A JSON document of moderate size, decoded."""
    scan(data, what, MAX_DOCUMENT, MAX_VALUES)
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=_refuse, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{what} is not the JSON that was written: {error}") from error


def scan(data: bytes, what: str, size: int = MAX_BYTES, nodes: int = MAX_NODES) -> None:
    """See how large a JSON text would become, and how deep it is nested, without decoding it."""
    if len(data) > size:
        raise TooLarge(f"{what} has {len(data)} bytes, where {size} are allowed", "")
    found = data.count(b",") + data.count(b"[") + data.count(b"{")
    if found > nodes:
        raise TooLarge(f"{what} has about {found} values, where {nodes} are allowed", "")
    depth = 0
    for bracket in _TEXTS.sub(b"", data).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise Damaged(f"{what} is nested deeper than {MAX_DEPTH} levels")


def checkpoint_member(path: Path) -> None:
    """The file of a checkpoint, by the end of its name: tensors that fill it exactly, JSON within its bounds."""
    if path.suffix == ".safetensors":
        tensors.check(path)
    elif path.suffix == ".json":
        scan(bytes(files.read_file(path, MAX_BYTES)), path.name)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)
