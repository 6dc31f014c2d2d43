"""Leaves a model as it was: modes, buffers, attributes, random states, grad mode, autocast.

Parameters and gradients are not touched by what is done here: nothing is back-propagated, and nothing stepped. Buffers
are: a BatchNorm writes into its running statistics. So each buffer is a copy while the block lasts, and the script's
own tensors, their version counters included, never learn of it: a graph that waits for its backward stays valid.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onthefly.insight.sources import as_they_were
from onthefly.state.random import RandomStates

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]

_OWN = ("_parameters", "_buffers", "_modules")
_MUTABLE: tuple[type, ...] = (list, dict, set, deque)
"""Containers whose content is put back, when they are attributes of modules or are closed over by their hooks."""


class Modules:
    """What modules hold, and putting it back."""

    def __init__(self, roots: Iterable[nn.Module]) -> None:
        seen: dict[int, nn.Module] = {id(one): one for root in roots for one in root.modules()}
        self.modules: list[nn.Module] = list(seen.values())
        self._attributes = [(one, dict(vars(one)), dict(one._buffers), dict(one._parameters)) for one in self.modules]
        self._contents = [(found, _copy(found)) for found in self._containers()]
        self.lent: dict[int, Tensor] = {}
        """The copies, by the ``id`` of what they are copies of."""

    def _containers(self) -> list[Any]:
        found: dict[int, Any] = {}
        for one in self.modules:
            values = [value for name, value in vars(one).items() if name not in _OWN]
            hooks = [hook for value in values if isinstance(value, dict) for hook in value.values() if callable(hook)]
            for hook in hooks:
                values += [cell.cell_contents for cell in getattr(hook, "__closure__", None) or ()
                           if _is_filled(cell)]  # fmt: skip
            for value in values:
                if type(value) in _MUTABLE:
                    found[id(value)] = value
        return list(found.values())

    def lend_copies(self) -> None:
        """Buffers, and tensors that are plain attributes, are copies from now on."""
        copies = self.lent
        for one in self.modules:
            for name, buffer in one._buffers.items():
                if buffer is not None:
                    one._buffers[name] = copies.setdefault(id(buffer), buffer.detach().clone())
            for name, value in list(vars(one).items()):
                if type(value) is Tensor and not value.requires_grad:
                    vars(one)[name] = copies.setdefault(id(value), value.detach().clone())

    def put_back(self) -> None:
        """All is as it was; what came since is gone."""
        for container, content in self._contents:
            _refill(container, content)
        for one, attributes, buffers, parameters in self._attributes:
            held = vars(one)
            held.clear()
            held.update(attributes)
            one._buffers.clear()
            one._buffers.update(buffers)
            one._parameters.clear()
            one._parameters.update(parameters)


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _copy(container: Any) -> list[Any]:
    return list(container.items()) if isinstance(container, dict) else list(container)


def _refill(container: Any, content: list[Any]) -> None:
    if _copy(container) != content if not _has_tensors(content) else True:
        container.clear()
        if isinstance(container, (list, deque)):
            container.extend(content)
        else:
            container.update(content)


def _has_tensors(content: list[Any]) -> bool:
    """Whether comparing would ask tensors, which have no single answer: then it is simply filled again."""
    return any(not isinstance(one, (int, float, str, bool, type(None))) for one in content)


@contextlib.contextmanager
def as_before(roots: Sequence[nn.Module], datasets: Sequence[Any] = ()) -> Generator[Modules, None, None]:
    """While the block lasts these modules may be run, in any mode, and the data sets asked; then all is as it was."""
    random = RandomStates.take()
    enabled = torch.is_grad_enabled()
    modules = Modules(roots)
    try:
        modules.lend_copies()
        with as_they_were(datasets):
            yield modules
    finally:
        modules.put_back()
        _c._set_grad_enabled(enabled)
        random.put_back()
