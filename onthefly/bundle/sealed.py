"""Manifests: JSON in one exact text, with a hash of all the rest at its end; what differs by a bit is none."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from onthefly.bundle.refusals import Damaged, NewerFormat


def text(found: dict[str, Any]) -> bytes:
    """The manifest as it is written."""
    plain = json.dumps(found, indent=1)
    return json.dumps({**found, "seal": hashlib.sha256(plain.encode("ascii")).hexdigest()}, indent=1).encode("ascii")


def read(data: bytes, where: str, known: int) -> dict[str, Any]:
    """The manifest of such a text, ``format`` included, which is at most ``known``.

    Raises :class:`~onthefly.bundle.refusals.NewerFormat`, :class:`~onthefly.bundle.refusals.Damaged`.
    """
    try:
        found = json.loads(data.decode("ascii"), object_pairs_hook=unique)
        number = found["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"the manifest of {where} is not what was written: {error}") from error
    if type(number) is int and number > known:
        raise NewerFormat(where, number, known)
    found.pop("seal", None)
    if text(found) != data or type(number) is not int or number < 1:
        raise Damaged(f"the manifest of {where} is not what was written")
    return found


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``object_pairs_hook``: an object whose keys are all different."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found
