"""What is merged: the states of several models of one structure, and the rules that hold for every strategy.

A state is a module's state dict. What all parents have alike stays as it is, to the bit: a mean of equal numbers may
differ from them in its last digit. Integers have no mean; those that count (``num_batches_tracked``) are re-estimated
with BatchNorm's statistics (:mod:`onthefly.merging.statistics`), any others that differ are refused. Tied parameters
are merged once, and stay tied. A strategy sees floating-point entries that differ, in double precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import torch
from torch import Tensor

from onthefly.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

State = dict[str, Tensor]
Combine = Callable[[str, Tensor], Tensor]
"""``combine(name, stacked)``: one tensor out of those of all parents, stacked along a new first axis."""

COUNTER = "num_batches_tracked"
STATISTICS = ("running_mean", "running_var", COUNTER)
"""What the names of BatchNorm's buffers end with."""

MAX_NAMED = 3


class Parents:
    """Models of one structure, checked: at least two, named, finite."""

    def __init__(self, states: Mapping[str, State], base: State | None = None) -> None:
        """``states``: by the name of the run; ``base``: of the model that all of them began from, if it is known.

        Raises :class:`~onthefly.errors.Refused` where they cannot be merged, with the first reason.
        """
        if len(states) < 2:
            raise Refused("a merge takes two models at least", "name two runs or more")
        self.names = list(states)
        self.states = list(states.values())
        self.base = base
        first = self.names[0]
        for name, state in [*list(states.items())[1:], *([("the base", base)] if base is not None else [])]:
            _expect_alike(first, self.states[0], name, state)
        for name, state in states.items():
            for entry, tensor in state.items():
                if _is_number(tensor) and not bool(torch.isfinite(tensor).all()):
                    raise Refused(f"{entry} of {name} holds values that are not finite", "merge from before that")

    @property
    def differing(self) -> list[str]:
        """Entries with floating-point numbers that are not the same in all parents; of tied ones the first."""
        return [names[0] for names in self._tied() if _is_number(self._of(names[0])[0]) and not self._alike(names[0])]

    @property
    def statistics(self) -> list[str]:
        """BatchNorm's buffers that differ: a mean of them belongs to no model."""
        return [name for name in self.states[0] if name.endswith(STATISTICS) and not self._alike(name)]

    def combined(self, combine: Combine) -> State:
        """The merged state; ``combine`` is called for each of :attr:`differing`.

        Raises :class:`~onthefly.errors.Refused` where integers differ, and where the result is not finite.
        """
        merged: State = {}
        for names in self._tied():
            tensor = self._one(names[0], combine)
            merged.update(dict.fromkeys(names, tensor))
        return {name: merged[name] for name in self.states[0]}

    def stacked(self, name: str) -> Tensor:
        """One entry of all parents, in double precision."""
        tensors = self._of(name)
        return torch.stack([tensor.detach().to(_wide(tensor)) for tensor in tensors])

    def based(self, name: str) -> Tensor:
        """The same entry of the base, in double precision; refused where there is no base."""
        if self.base is None:
            raise Refused("this strategy needs the model that all of them began from",
                          "fork the runs from one checkpoint, or take another strategy")  # fmt: skip
        return self.base[name].detach().to(_wide(self.base[name]))

    def _one(self, name: str, combine: Combine) -> Tensor:
        kept = self.states[0][name].detach()
        if self._alike(name) or name.endswith(COUNTER):
            return kept.clone()
        if not _is_number(kept):
            raise Refused(f"{name} holds integers that differ: they have no mean", "merge runs that have them alike")
        result = combine(name, self.stacked(name)).to(kept.dtype)
        if not bool(torch.isfinite(result).all()):
            raise Refused(f"{name} would hold values that are not finite", "take another strategy, or other weights")
        return result.reshape(kept.shape)

    def _alike(self, name: str) -> bool:
        first, *others = self._of(name)
        return all(torch.equal(first, other) for other in others)

    def _of(self, name: str) -> list[Tensor]:
        return [state[name] for state in self.states]

    def _tied(self) -> Iterator[list[str]]:
        """Names of the same memory in all parents, together."""
        found: dict[tuple[object, ...], list[str]] = {}
        for name in self.states[0]:
            found.setdefault(tuple(_memory(state[name]) for state in self.states), []).append(name)
        return iter(found.values())


def weights(given: Sequence[float] | None, count: int) -> Tensor:
    """One for each parent, their sum 1; without any, all alike. Refused if they are no weights."""
    if given is None:
        return torch.full((count,), 1.0 / count, dtype=torch.float64)
    found = torch.tensor(list(given), dtype=torch.float64)
    if len(given) != count:
        raise Refused(f"{len(given)} weights were given for {count} models", "give one for each")
    if not bool(torch.isfinite(found).all()) or bool((found < 0).any()) or float(found.sum()) == 0.0:
        raise Refused("weights are finite, not negative, and not all zero")
    return found / found.sum()


def mean(stacked: Tensor, share: Tensor) -> Tensor:
    """Their mean by these shares (of sum 1), along the first axis."""
    return torch.tensordot(share.to(stacked.dtype), stacked, dims=1)


def _expect_alike(first: str, one: State, name: str, other: State) -> None:
    missing = sorted(set(one) ^ set(other))
    if missing:
        more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        raise Refused(f"{first} and {name} are of different structure: {', '.join(missing[:MAX_NAMED])}{more} "
                      "is in one of them only")  # fmt: skip
    for entry, tensor in one.items():
        there = other[entry]
        if (tensor.shape, tensor.dtype) != (there.shape, there.dtype):
            raise Refused(f"{entry} is {_shape(tensor)} in {first} and {_shape(there)} in {name}")


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _is_number(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.complex128 if tensor.is_complex() else torch.float64


def _memory(tensor: Tensor) -> tuple[object, ...]:
    where = tensor.untyped_storage().data_ptr()
    # Nothing of no size is tied: all of it lies at address 0.
    return (where or id(tensor), tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride()))
