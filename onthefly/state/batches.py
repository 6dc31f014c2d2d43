"""One batch that a loader delivered, kept so that it can be delivered again as it was.

Containers are rebuilt each time (scripts pop labels out of theirs), tensors are handed out as new objects over the same
memory (a script may ask for the gradient of its input). Their version counters tell whether the script has written
into them; from then on batches are copied. Tensors in shared memory are copied at once: each keeps a file open.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import Any, Callable

import torch

from onthefly.state.kept import ATOMS
from onthefly.state.tensors import nbytes, undisturbed, version_of

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]
_Base: Any = torch._C.TensorBase  # pyright: ignore[reportPrivateUsage]
_Maker = Callable[[], Any]

MAX_WRITES = 8
"""Into a copy, to count up its version."""


class Unkeepable(Exception):
    """A batch of a kind that cannot be delivered twice."""


class KeptBatch:
    """What a loader delivered."""

    __slots__ = ("_copied", "_made", "_tensors", "again", "nbytes")

    def __init__(self, data: Any, *, copied: bool) -> None:
        """``copied``: the script writes into its batches. Raises :class:`Unkeepable`."""
        self._copied = copied
        self._tensors: list[tuple[torch.Tensor, int]] = []
        self._made: dict[int, _Maker] = {}
        self.nbytes = 0
        self.again: _Maker = self._keep(data)
        """Makes the batch anew."""
        self._made.clear()

    @property
    def moved(self) -> bool:
        """Whether a tensor of it was written since."""
        return not self._copied and any(version_of(tensor) != version for tensor, version in self._tensors)

    def _keep(self, value: Any) -> _Maker:
        kind = type(value)
        if kind in ATOMS:
            return lambda: value
        if isinstance(value, torch.Tensor):
            if id(value) not in self._made:
                self._made[id(value)] = self._tensor(value)
            return self._made[id(value)]
        if kind is list or kind is tuple:
            parts = [self._keep(part) for part in value]
            return lambda: kind([part() for part in parts])
        if kind is dict:
            entries = [(key, self._keep(part)) for key, part in value.items()]
            return lambda: {key: part() for key, part in entries}
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            fields = [self._keep(part) for part in value]  # pyright: ignore[reportUnknownVariableType]
            return lambda: kind(*[part() for part in fields])
        return self._object(value)

    def _tensor(self, value: torch.Tensor) -> _Maker:
        needs, kind, version = value.requires_grad, type(value), version_of(value)
        if not value.is_leaf or value.layout is not torch.strided:
            raise Unkeepable(f"tensors that are {'computed' if not value.is_leaf else value.layout}")
        quiet = kind is torch.Tensor and not needs and not _c._len_torch_dispatch_stack()
        quiet = quiet and not _c._len_torch_function_stack()
        with contextlib.nullcontext() if quiet else undisturbed():  # which costs 100 us
            copied = self._copied or (value.is_cpu and value.is_shared())
            kept = _copy(value, version) if copied else _Base.detach(value)
        self._tensors.append((kept, version_of(kept)))
        self.nbytes += nbytes(kept)

        def again() -> Any:
            with undisturbed():
                made = _copy(kept, version) if self._copied else _Base.detach(kept)
            made = made.as_subclass(kind) if kind is not torch.Tensor else made
            return made.requires_grad_() if needs else made

        return again

    def _object(self, value: Any) -> _Maker:
        """Anything else: a copy of all that it consists of, each time."""
        try:
            kept = copy.deepcopy(value)
        except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
            raise Unkeepable(f"a {type(value).__name__}, which cannot be copied") from error
        self.nbytes += _size_of(kept)
        return lambda: copy.deepcopy(kept)


def _copy(value: torch.Tensor, version: int) -> torch.Tensor:
    """A copy whose version counter stands where that of the batch stood: capture tells by it who wrote into it since.

    Workers' tensors have 1, or 2: each write into a copy adds one.
    """
    made: torch.Tensor = _Base.clone(value)
    for _ in range(min(version, MAX_WRITES)):
        _Base.copy_(made, value)
    return made


def _size_of(value: Any) -> int:
    size = getattr(value, "nbytes", 0)
    if isinstance(size, int) and size:
        return size
    parts: Mapping[Any, Any] = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    return sum(nbytes(part) for part in parts.values() if isinstance(part, torch.Tensor))
