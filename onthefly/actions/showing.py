"""The command ``show``: at a pause, reads samples from a loader's data set, and describes them for a page.

Random states, generators of the data set and its attributes are as before; what it changes in place (a cache that is
filled) stays, as when the script itself had asked.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset

from onthefly.capture.datasets import nested, root_of
from onthefly.errors import Refused, outcome
from onthefly.insight.showing import describe
from onthefly.state.random import RandomStates, generator_of, generators_in

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from onthefly.core.gate import Gate, Place

SECONDS = 10.0
"""After so long the samples that are left are not read: somebody waits, and so does the script."""

MAX_BYTES = 700_000
"""Of one answer: the hub takes a megabyte."""


class Showing:
    """Of one session."""

    def __init__(self, gate: Gate, loaders: Callable[[], list[tuple[str, Any]]]) -> None:
        """``loaders()``: name and object of the script's loaders, the one that is trained on first."""
        self._gate = gate
        self._loaders = loaders

    def show(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """The command; samples are numbered in the root data set, as in the records."""
        if not self._gate.paused:
            raise Refused("the script runs: samples are read at a pause", "onthefly ctl SESSION pause")
        name, dataset = self._dataset(given.loader)
        samples: list[dict[str, Any]] = []
        size, limit = 0, time.monotonic() + SECONDS
        with as_it_was(dataset):
            for number in given.samples:
                if time.monotonic() > limit:
                    found = _nothing(number, f"not read: the ones before took {SECONDS:.0f} s")
                elif size > MAX_BYTES:
                    found = _nothing(number, "not read: the answer is full; ask for fewer, or smaller ones")
                else:
                    found = _one(dataset, number, given.size)
                size += len(json.dumps(found))
                samples.append(found)
        return {"loader": name, "samples": samples}

    def _dataset(self, wanted: str) -> tuple[str, Any]:
        loaders = self._loaders()
        if not loaders:
            raise Refused("no loader of the script is known: there is no data set to read from")
        found = next(((name, loader) for name, loader in loaders if name == wanted or not wanted), None)
        if found is None:
            raise Refused(f"there is no loader {wanted}", f"one of {', '.join(name for name, _ in loaders)}")
        dataset = root_of(getattr(found[1], "dataset", getattr(found[1], "_dataset", None)))
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
            raise Refused(f"the data of {found[0]} are a stream: samples cannot be read from it by their index")
        return found[0], dataset


def _one(dataset: Any, number: int, size: int) -> dict[str, Any]:
    value, fault = outcome(dataset.__getitem__, number)
    if fault is not None:
        return _nothing(number, f"the data set raises {type(fault).__name__}: {str(fault)[:200]}")
    told, fault = outcome(describe, value, size)
    if fault is not None:
        return _nothing(number, f"it cannot be drawn ({type(fault).__name__}: {str(fault)[:200]})")
    return {"sample": number, "reason": "", **told}


def _nothing(number: int, reason: str) -> dict[str, Any]:
    return {"sample": number, "reason": reason, "parts": [], "target": None}


@contextlib.contextmanager
def as_it_was(dataset: Any) -> Generator[None, None, None]:
    """Random states, the data set's generators and its attributes, and the mode of gradients, put back afterwards."""
    states, enabled = RandomStates.take(), torch.is_grad_enabled()
    own = [(one, kind, kind.read(one)) for one in generators_in(dataset) if (kind := generator_of(one)) is not None]
    held = [(one, dict(vars(one))) for one in (*nested(dataset), dataset) if hasattr(one, "__dict__")]
    try:
        yield
    finally:
        torch.set_grad_enabled(enabled)
        for one, before in held:
            vars(one).clear()
            vars(one).update(before)
        for one, kind, state in own:
            kind.write(one, state)
        states.put_back()
