"""What a module makes of each sample, as at most 64 numbers.

A hook on the module sees its output while a test or scan runs, and is gone afterwards. Positions of an image or of a
sequence are averaged. What has more than 64 numbers is projected with a fixed random matrix (Johnson and Lindenstrauss
1984: distances stay, up to a few percent), so that memory and traffic do not grow with the width of a layer.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onthefly.errors import Refused
from onthefly.insight.values import tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

MOST = 64
SEED = 20260
KEY = -47621
"""Of our hook: torch counts its own from 0, and hands none of these out."""


class Embedding:
    """The output of one module."""

    def __init__(self, module: nn.Module | None, function: Callable[[Any], Any] | None = None) -> None:
        """``function``: makes the embedding of what the module gave; without one it is that itself."""
        self._module, self._function = module, function
        self._seen: Tensor | None = None
        self._projection: Tensor | None = None
        self.width = 0
        """Numbers a sample."""

    @contextlib.contextmanager
    def watching(self) -> Generator[None, None, None]:
        """See its output."""
        module: Any = self._module
        module._forward_hooks[KEY] = self._hook
        try:
            yield
        finally:
            module._forward_hooks.pop(KEY, None)

    def _hook(self, module: nn.Module, args: Any, output: Any) -> None:
        given = self._function(output) if self._function is not None else output
        first = next(tensors(given), None)
        self._seen = first.detach() if first is not None else None

    def take(self, rows: int) -> Tensor:
        """Of the batch that has just run [rows, at most 64], float32 on the host."""
        seen, self._seen = self._seen, None
        if seen is None or not seen.dim() or seen.shape[0] < rows:
            raise Refused("this module gives no tensor with a row for each sample", "choose another")
        with torch.no_grad():
            if seen.dim() == 4:
                seen = seen.float().mean((2, 3))
            elif seen.dim() == 3:
                seen = seen.float().mean(1)
            flat = seen[:rows].reshape(rows, -1).float()
            width = flat.shape[1]
            self.width = min(width, MOST)
            if width <= MOST:
                return flat.cpu()
            if self._projection is None or self._projection.shape[0] != width:
                own = torch.Generator().manual_seed(SEED)
                self._projection = torch.randn(width, MOST, generator=own).div_(MOST**0.5).to(flat.device)
            return (flat @ self._projection).cpu()


def module_of(roots: Sequence[nn.Module], name: str) -> nn.Module:
    """The module of that name within those that the step runs; :class:`~onthefly.errors.Refused` names what is near."""
    names: list[str] = []
    for root in roots:
        for inner, module in root.named_modules():
            if inner == name or (not inner and name == type(root).__name__):
                return module
            names.append(inner)
    known = ", ".join(filter(None, names[:20]))
    raise Refused(f"the step runs no module {name!r}", f"there are: {known}" if known else "")
