"""Sets numbers in the parameter groups of optimizers, so that they stay set under a learning rate scheduler.

A scheduler computes the next rate from the current one, or from base rates that it keeps; so a new rate scales all of
these: the schedule goes on in its own form, through the new value. Where it comes down to a floor (``eta_min``), what
is scaled is the distance to the floor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import lr_scheduler

from onthefly.actions.living import schedulers_of
from onthefly.errors import Refused
from onthefly.protocol import ParameterGroup

if TYPE_CHECKING:
    import weakref

    from torch.optim import Optimizer

    from onthefly.core.gate import Place

MAX_SHOWN = 64
"""Parameter groups that are shown; layer-wise decay makes hundreds."""

AT_LEAST_ZERO = ("lr", "weight_decay", "eps", "alpha", "rho", "lambd", "initial_accumulator_value")
BELOW_ONE = ("momentum", "betas")


class Optimizers:
    """The optimizers that have stepped, in that order, and what a command may change in them."""

    def __init__(self, seen: list[weakref.ref[Optimizer]]) -> None:
        """``seen`` is the instrument's own list, which grows."""
        self._seen = seen

    def living(self) -> list[Optimizer]:
        """Those that are still there."""
        return [optimizer for known in self._seen if (optimizer := known()) is not None]

    def groups(self) -> list[ParameterGroup]:
        """The parameter groups as they are now."""
        return [
            ParameterGroup(
                optimizer=number, kind=type(optimizer).__name__, group=place,
                parameters=sum(parameter.numel() for parameter in group["params"]), values=numbers_of(group),
            )
            for number, optimizer in enumerate(self.living())
            for place, group in enumerate(optimizer.param_groups)
        ][:MAX_SHOWN]  # fmt: skip

    def set(self, given: Any, place: Place, by: str) -> dict[str, Any]:
        """The command ``set``: all or nothing."""
        chosen = self._chosen(given.name, given.optimizer, given.group)
        value = _checked(given.name, given.value)
        for _, _, group in chosen:
            _fits(given.name, group[given.name], value)
        if given.name == "lr":
            for optimizer, number, group in chosen:
                _refuse_if_stuck(optimizer, number, group)
        before = {label: _plain(group[given.name]) for label, group in self._labelled(chosen)}
        for optimizer, number, group in chosen:
            if given.name == "lr":
                _reschedule(optimizer, number, _number(group["lr"]), value)
            group[given.name] = _put(group[given.name], value)
        after = {label: _plain(group[given.name]) for label, group in self._labelled(chosen)}
        return {"before": before, "after": after}

    def _labelled(self, chosen: list[tuple[Optimizer, int, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
        numbers = {id(optimizer): number for number, optimizer in enumerate(self.living())}
        return [(f"{numbers[id(optimizer)]}/{number}", group) for optimizer, number, group in chosen]

    def _chosen(self, name: str, wanted: int, place: int) -> list[tuple[Optimizer, int, dict[str, Any]]]:
        living = self.living()
        if not living:
            raise Refused("no optimizer has stepped yet", "set it after the first step; SGD by hand has no groups")
        if wanted >= len(living):
            raise Refused(f"there is no optimizer {wanted}", f"they are numbered 0 to {len(living) - 1}")
        optimizers = [living[wanted]] if wanted >= 0 else living
        if place >= 0 and not any(place < len(optimizer.param_groups) for optimizer in optimizers):
            most = max(len(optimizer.param_groups) for optimizer in optimizers)
            raise Refused(f"there is no parameter group {place}", f"they are numbered 0 to {most - 1}")
        found = [
            (optimizer, number, group)
            for optimizer in optimizers
            for number, group in enumerate(optimizer.param_groups)
            if name in numbers_of(group, every=True) and place in (-1, number)
        ]
        if not found:
            known = sorted({key for each in optimizers for group in each.param_groups for key in numbers_of(group)})
            raise Refused(f"no parameter group has a number called {name!r}", f"known here: {', '.join(known)}")
        return found


def numbers_of(group: dict[str, Any], *, every: bool = False) -> dict[str, float | list[float]]:
    """The numbers of a parameter group by name; one that lies on an accelerator is not read (NaN with ``every``)."""
    found: dict[str, Any] = {}
    value: Any
    for name, value in group.items():
        if isinstance(value, torch.Tensor):
            if value.numel() == 1 and name != "params" and (every or value.is_cpu):
                found[name] = float(value) if value.is_cpu else math.nan
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if every or math.isfinite(value):
                found[name] = float(value)
        elif name != "params" and _is_numbers(value):
            found[name] = _plain(value)
    return {name: value for name, value in found.items() if name != "initial_lr"}


def _is_numbers(value: Any) -> bool:
    """Whether it is a few of them, as ``betas`` are."""
    entries: list[Any] = list(value) if isinstance(value, (tuple, list)) and len(value) < 5 else []  # pyright: ignore[reportUnknownArgumentType]
    return bool(entries) and all(
        entry.is_cpu and entry.numel() == 1 if isinstance(entry, torch.Tensor) else type(entry) in (int, float)
        for entry in entries
    )


def _checked(name: str, value: Any) -> Any:
    """The value, if it is one that this number can have."""
    numbers = value if isinstance(value, list) else [value]
    if not all(math.isfinite(number) for number in numbers):
        raise Refused(f"{name} must be finite")
    if name in AT_LEAST_ZERO and min(numbers) < 0:
        raise Refused(f"{name} must not be negative")
    if name in BELOW_ONE and not all(0 <= number < 1 for number in numbers):
        raise Refused(f"{name} must lie in [0, 1)")
    return value


def _fits(name: str, old: Any, value: Any) -> None:
    if isinstance(old, (tuple, list)):
        if not isinstance(value, list) or len(value) != len(old):  # pyright: ignore[reportUnknownArgumentType]
            raise Refused(f"{name} takes {len(old)} numbers")  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list):
        raise Refused(f"{name} takes one number")


def _put(old: Any, value: Any) -> Any:
    """The value in the form of the old one; a tensor is kept, and filled."""
    if isinstance(old, torch.Tensor):
        with torch.no_grad():
            old.fill_(value)
        return old
    if isinstance(old, (tuple, list)):
        return type(old)(_put(entry, number) for entry, number in zip(old, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return int(value) if isinstance(old, int) and float(value).is_integer() else float(value)


def _plain(value: Any) -> Any:
    return [_number(entry) for entry in value] if isinstance(value, (tuple, list)) else _number(value)  # pyright: ignore[reportUnknownVariableType]


def _number(value: Any) -> float:
    return float(value)


def _refuse_if_stuck(optimizer: Any, number: int, group: dict[str, Any]) -> None:
    """From a rate of zero no schedule can be scaled to another one."""
    for scheduler in schedulers_of(optimizer):
        if _number(group["lr"]) == _floor(scheduler) and not isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            raise Refused(
                f"the learning rate of group {number} is {_number(group['lr']):g} now, which its "
                f"{type(scheduler).__name__} cannot be scaled from", "set it some steps later",
            )  # fmt: skip


def _floor(scheduler: Any) -> float:
    return float(getattr(scheduler, "eta_min", 0.0) or 0.0)


def _reschedule(optimizer: Any, number: int, old: float, new: float) -> None:
    """Have the schedulers of that group go on from the new rate."""
    group, done = optimizer.param_groups[number], False
    for scheduler in schedulers_of(optimizer):
        floor = _floor(scheduler)
        ratio = (new - floor) / (old - floor) if old != floor else 1.0
        for name in ("base_lrs", "max_lrs"):
            rates = getattr(scheduler, name, None)
            if isinstance(rates, list) and number < len(rates):  # pyright: ignore[reportUnknownArgumentType]
                rates[number] = floor + (rates[number] - floor) * ratio
        last = getattr(scheduler, "_last_lr", None)
        if isinstance(last, list) and number < len(last):  # pyright: ignore[reportUnknownArgumentType]
            last[number] = new
        if not done:
            done = True
            for name in ("initial_lr", "max_lr", "min_lr"):  # OneCycleLR's are here
                if isinstance(group.get(name), (float, torch.Tensor)):
                    group[name] = _put(group[name], floor + (_number(group[name]) - floor) * ratio)
