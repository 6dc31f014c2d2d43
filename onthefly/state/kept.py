"""What a snapshot remembers of a value: the value itself, but of some a thing that keeps less alive.

A tensor whose graph is used up is remembered by its values, or the snapshot would keep the graph and the batch that it
was made from. An iterator of a loader and a generator are referred to weakly, or their workers and batches would stay.
"""

from __future__ import annotations

import weakref
from types import GeneratorType
from typing import Any

import torch
from torch.utils.data.dataloader import _BaseDataLoaderIter  # pyright: ignore[reportPrivateUsage]

from onthefly.state.graphs import LIVE, SPENT, graph_of
from onthefly.state.tensors import detached_copy, nbytes

ATOMS = (int, float, bool, str, bytes, type(None), complex)
_PLAIN = frozenset(ATOMS)


class Weak:
    """In the place of a value that the snapshot does not keep alive."""

    __slots__ = ("_refer", "name")

    def __init__(self, value: Any) -> None:
        self._refer: Any = weakref.ref(value)
        self.name = getattr(value, "__name__", type(value).__name__)

    def __call__(self) -> Any:
        """The value, None if it is gone."""
        return self._refer()


class Keeper:
    """Turns values into what is remembered of them, and back."""

    def __init__(self) -> None:
        self._weak: dict[int, Weak] = {}
        self._copies: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        """By ``id``: the tensor, held while the snapshot is taken, and its values."""
        self.waiting: list[torch.Tensor] = []
        """Tensors whose graph may still be back-propagated through."""
        self.nbytes = 0

    def keep(self, value: Any) -> Any:
        """What is remembered of that value."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if isinstance(value, torch.Tensor):
            return value if value.is_leaf else self._values_of(value)
        if isinstance(value, _BaseDataLoaderIter) or kind is GeneratorType:
            if id(value) not in self._weak or self._weak[id(value)]() is not value:
                self._weak[id(value)] = Weak(value)
            return self._weak[id(value)]
        return value

    def _values_of(self, tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in self._copies:
            state, copy = graph_of(tensor), tensor
            if state == LIVE:
                self.waiting.append(tensor)
            if state in (LIVE, SPENT):
                copy = detached_copy(tensor)
                self.nbytes += nbytes(copy)
            self._copies[id(tensor)] = tensor, copy
        return self._copies[id(tensor)][1]

    def finish(self) -> None:
        """The snapshot is taken: let go of the graphs."""
        self._copies.clear()
        self.waiting.clear()

    @property
    def weak(self) -> list[Weak]:
        """All that is weakly remembered."""
        return list(self._weak.values())

    @property
    def gone(self) -> str:
        """What of the weakly remembered is there no more; empty: nothing."""
        return next((weak.name for weak in self._weak.values() if weak() is None), "")


def give(kept: Any) -> Any:
    """The value that was kept."""
    return kept() if type(kept) is Weak else kept
