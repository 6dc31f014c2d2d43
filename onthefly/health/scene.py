"""What a check looks at, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.state.tensors import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from onthefly.protocol import Records, Value, Verdict

MAX_ROWS = 100
"""Of modules, loaders, ... that a result lists."""

__all__ = ["Answer", "Cancelled", "Scaling", "Scene", "Steps", "named", "undisturbed"]


class Cancelled(Exception):
    """Somebody does not want to wait for the rest."""


class Answer(NamedTuple):
    """What a check has found."""

    verdict: Verdict
    says: str
    do: str = ""
    numbers: dict[str, Value] = {}  # noqa: RUF012 - never written to
    rows: list[dict[str, Value]] = []  # noqa: RUF012 - never written to


class Scaling(NamedTuple):
    """What gradient scalers did since the session opened."""

    steps: int
    skipped: int
    """Of these, left out since a gradient was infinite."""


class Steps(NamedTuple):
    """The newest steps that were recorded: lists of one length."""

    took_ms: list[float]
    waiting_ms: list[float]
    """Of these, waiting for data."""
    ours_us: list[float]
    """Of these, in our hooks."""


@dataclass
class Scene:
    """Everything that checks may look at; made for one examination."""

    models: list[tuple[str, nn.Module]]
    """Modules that are part of no other, with parameters, and what their parameters' names begin with."""
    optimizers: list[Optimizer]
    loaders: list[tuple[str, Any]]
    """The one that is trained on first."""
    ranks: int = 1
    scaling: Scaling = field(default_factory=lambda: Scaling(0, 0))
    steps: Steps = field(default_factory=lambda: Steps([], [], []))
    records: Records | None = None
    """The newest block of backward calls."""
    step: int = 0
    checkpoints: int = 0
    """Bytes of ours in memory."""
    seconds: float = 20.0
    """The longest that data sets are read for."""
    progress: Callable[[int, int, str], None] = lambda done, of, what: None
    """Told how far a check is; raises :class:`Cancelled` where it is to end."""

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Each parameter once: those of models, and those that only an optimizer has."""
        seen: set[int] = set()
        for prefix, model in self.models:
            for name, parameter in model.named_parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield prefix + name, parameter
        for number, optimizer in enumerate(self.optimizers):
            for place, parameter in enumerate(_parameters(optimizer)):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield f"parameter {place} of optimizer {number}", parameter

    def buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Each buffer of the models."""
        for prefix, model in self.models:
            for name, buffer in model.named_buffers():
                yield prefix + name, buffer

    def trained(self) -> set[int]:
        """``id`` of each parameter that an optimizer has."""
        return {id(parameter) for optimizer in self.optimizers for parameter in _parameters(optimizer)}


def _parameters(optimizer: Any) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def named(models: list[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Models with what the names of their parameters begin with: nothing where there is one."""
    if len(models) == 1:
        return [("", models[0])]
    kinds = [type(model).__name__ for model in models]
    return [
        (f"{kind}{kinds[:place].count(kind) + 1 if kinds.count(kind) > 1 else ''}.", model)
        for place, (kind, model) in enumerate(zip(kinds, models))
    ]
