"""Hashes of this rank's structure, weights, buffers and newest samples; the hub compares those of all ranks.

No rank sees another's, and no collective is added: each answers at the step on which all have agreed.
"""

from __future__ import annotations

import hashlib
from array import array
from typing import TYPE_CHECKING, Any

from onthefly.health.fingerprint import of_texts, together
from onthefly.health.scene import Answer, undisturbed

if TYPE_CHECKING:
    from onthefly.health.scene import Scene


def look(scene: Scene) -> Answer:
    """At what this rank has."""
    if scene.ranks == 1:
        return Answer("unknown", "one process trains: there is no other rank to agree with")
    parameters, buffers = list(scene.parameters()), list(scene.buffers())
    sharded = any(hasattr(parameter, "_local_tensor") for _, parameter in parameters)
    with undisturbed():
        numbers: dict[str, Any] = {
            "structure": of_texts(f"{name} {parameter.dtype} {tuple(parameter.shape)}"
                                  for name, parameter in [*parameters, *buffers]),
            "weights": None if sharded else together(parameters),
            "buffers": None if sharded else together(buffers),
            "samples": _samples(scene),
            "parameters": sum(parameter.numel() for _, parameter in parameters),
        }  # fmt: skip
    says = "this rank's part, to be compared with the others'"
    return Answer("unknown", f"{says}; its weights are sharded, and so not compared" if sharded else says,
                  numbers=numbers)  # fmt: skip


def _samples(scene: Scene) -> str | None:
    """Of the indices of the newest step's samples; None where they have none."""
    if scene.records is None:
        return None
    samples = array("q", scene.records.sample)
    count = array("i", scene.records.count)
    mine = samples[-count[-1] :] if count and count[-1] else samples[:0]
    if not mine or min(mine) < 0:
        return None
    return hashlib.blake2b(mine.tobytes(), digest_size=8).hexdigest()
