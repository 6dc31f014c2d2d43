"""An optimizer's state, put back exactly: same dtypes, on the devices where the optimizer keeps it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onthefly.state.copies import tensors_in
from onthefly.state.encoding import LeftOut

if TYPE_CHECKING:
    from collections.abc import Iterator


class OptimizerPlan:
    """One optimizer, and the state that it shall have.

    A tensor of the live state with the same shape and dtype is written in place, unless it shares its memory (another
    one may hold it: a captured graph). Else a new one is put on the parameter's device; ``step`` counts stay in the
    host's memory unless the optimizer is ``capturable`` or ``fused``, as torch does it.
    """

    def __init__(self, name: str, optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
        self._name = name
        self._optimizer = optimizer
        self._saved = saved
        self._made: dict[int, Tensor] = {}
        self._storages = Counter(_storage(tensor) for state in optimizer.state.values() for tensor in tensors_in(state))

    def problems(self) -> Iterator[str]:
        """What does not fit."""
        now, then = self._optimizer.param_groups, self._saved["param_groups"]
        if len(now) != len(then):
            yield f"{self._name} has {len(then)} parameter groups in it and {len(now)} now"
            return
        for number, (live, saved) in enumerate(zip(now, then)):
            place = f"{self._name}.param_groups[{number}]"
            if len(live["params"]) != len(saved["params"]):
                yield f"{place} has {len(saved['params'])} parameters in it and {len(live['params'])} now"
            for key, value in saved.items():
                if isinstance(value, LeftOut) and not (value.code and key in live):
                    yield f"{place}.{key} is not in it: it was {value.what}"
        for key, state in self._saved["state"].items():
            if isinstance(state, LeftOut) or any(isinstance(value, LeftOut) for value in _values(state)):
                yield f"{self._name}.state[{key!r}] is not wholly in it"

    def carry_out(self) -> None:
        """Write it."""
        parameters: dict[Any, Tensor] = {}
        groups: dict[Any, dict[str, Any]] = {}
        for live, saved in zip(self._optimizer.param_groups, self._saved["param_groups"]):
            for number, parameter in zip(saved["params"], live["params"]):
                parameters[number], groups[number] = parameter, live
            self._write_group(live, saved)
        states: Any = self._optimizer.state
        wanted = {parameters.get(key, key): (key, state) for key, state in self._saved["state"].items()}
        for key in [key for key in states if key not in wanted]:
            del states[key]
        for target, (key, state) in wanted.items():
            parameter = parameters.get(key)
            live = states.get(target)
            if isinstance(state, dict) and isinstance(live, dict):
                new = {n: self._value(v, live.get(n), parameter, groups.get(key), n) for n, v in state.items()}
                live.clear()
                live.update(new)
            elif isinstance(state, dict):
                states[target] = type(state)(
                    (n, self._value(v, None, parameter, groups.get(key), n)) for n, v in state.items()
                )
            else:
                states[target] = self._value(state, live, parameter, groups.get(key), "")

    def _write_group(self, live: dict[str, Any], saved: dict[str, Any]) -> None:
        for key in [key for key in live if key not in saved]:
            del live[key]
        for key, value in saved.items():
            if key != "params" and not isinstance(value, LeftOut):
                now = live.get(key)
                if isinstance(now, Tensor) and isinstance(value, Tensor) and _fits(now, value):
                    now.copy_(value)  # a learning rate in a tensor, which a captured graph reads
                else:
                    live[key] = self._value(value, None, None, None, key)

    def _value(self, saved: Any, live: Any, parameter: Tensor | None, group: dict[str, Any] | None, key: Any) -> Any:
        if isinstance(saved, Tensor):
            if id(saved) not in self._made:
                self._made[id(saved)] = self._tensor(saved, live, parameter, group, key)
            return self._made[id(saved)]
        if isinstance(saved, dict):
            return type(saved)((n, self._value(v, None, parameter, group, n)) for n, v in saved.items())
        if type(saved) in (list, tuple):
            return type(saved)(self._value(item, None, parameter, group, key) for item in saved)
        return saved

    def _tensor(
        self, saved: Tensor, live: Any, parameter: Tensor | None, group: dict[str, Any] | None, key: Any
    ) -> Tensor:
        if isinstance(live, Tensor) and _fits(live, saved) and self._storages[_storage(live)] == 1:
            return live.copy_(saved)
        if parameter is None:
            return saved.clone()
        on_host = key == "step" and not (group and (group.get("capturable") or group.get("fused")))
        if not on_host and saved.shape == parameter.shape:
            return torch.empty_like(parameter, dtype=saved.dtype, requires_grad=False).copy_(saved)
        return saved.to(device="cpu" if on_host else parameter.device, copy=True)


def _values(state: Any) -> list[Any]:
    if isinstance(state, dict):
        return [inner for value in state.values() for inner in _values(value)]
    if type(state) in (list, tuple):
        return [inner for value in state for inner in _values(value)]
    return [state]


def _fits(live: Tensor, saved: Tensor) -> bool:
    return live.shape == saved.shape and live.dtype == saved.dtype


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
