"""Putting live objects into a state: first everything is checked, then what may fail is done, then tensors are copied.

Objects that take their state themselves (schedulers, scalers, whatever has ``load_state_dict``) run code that is not
ours and may raise: they come first, and get back what they had when one of them does. What is copied in place has been
compared before and cannot fail. An optimizer's state is put where it belongs without torch's ``load_state_dict``, which
casts it to the parameter's dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onthefly.errors import Refused
from onthefly.state.copies import Taker, unfit
from onthefly.state.encoding import LeftOut
from onthefly.state.placing import OptimizerPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from onthefly.state.objects import Objects

    Writes = list[Callable[[], object]]

FOREIGN = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What ``state_dict`` and ``load_state_dict`` of somebody else's object raise."""
REMEDY = "the script's objects must be those that the checkpoint was made of"


class Plan:
    """What will be written where, for all objects; :meth:`check` refuses, :meth:`carry_out` writes."""

    def __init__(self, sections: dict[str, Any], objects: Objects, *, same_torch: bool = True) -> None:
        self._sections = sections
        self._objects = objects
        self._same_torch = same_torch
        self._calls: list[tuple[str, Any, Any]] = []
        """Objects that take their state themselves, with what they are given."""
        self._writes: Writes = []

    def check(self) -> None:
        """Compare everything; raises :class:`~onthefly.errors.Refused` with all that does not fit."""
        problems = list(self._names())
        if not problems:
            for kind, things in self._objects.kinds().items():
                for name, thing in things.items():
                    if name in self._sections[kind]:
                        problems += getattr(self, f"_{kind}")(name, thing, self._sections[kind][name])
        if problems:
            raise Refused("this checkpoint does not fit: " + "; ".join(problems[:8])
                          + (f"; and {len(problems) - 8} more" if len(problems) > 8 else ""), REMEDY)  # fmt: skip

    def carry_out(self) -> None:
        """Write. Raises :class:`~onthefly.errors.Refused` if an object does not take its state; nothing has changed."""
        self._call_all()
        with torch.no_grad():
            for write in self._writes:
                write()

    def _names(self) -> Iterator[str]:
        classes = self._sections["classes"]
        for kind, things in self._objects.kinds().items():
            for name in classes[kind]:
                if name not in things:
                    yield f"{name} ({classes[kind][name]}) is not there now"
            for name, thing in things.items():
                now = f"{type(thing).__module__}.{type(thing).__qualname__}"
                if name not in classes[kind]:
                    yield f"{name} ({now}) is not in it"
                elif classes[kind][name] != now and kind != "tensors":
                    yield f"{name} was a {classes[kind][name]} and is a {now}"

    def _modules(self, name: str, module: nn.Module, saved: Any) -> Iterator[str]:
        live = module.state_dict()
        for key in saved.keys() - live.keys():
            yield f"{name}.{key} is not there now"
        for key in live.keys() - saved.keys():
            yield f"{name}.{key} is not in it"
        own = {t.data_ptr() for t in [*module.parameters(), *module.buffers()] if not unfit(t)}
        whole = False
        for key in saved.keys() & live.keys():
            value, now = saved[key], live[key]
            if isinstance(now, Tensor):
                problem = differs(value, now)
                if problem:
                    yield f"{name}.{key} {problem}"
                elif unfit(now) or (now.numel() and now.data_ptr() not in own):
                    whole = True  # a hook made it: only the module knows where it goes
                else:
                    self._copy(now, value)
            else:
                whole = True
        if whole:
            self._calls.append((name, module, saved))
        yield from self._modes(name, module, self._sections["modes"][name])

    def _modes(self, name: str, module: nn.Module, saved: dict[str, list[str]]) -> Iterator[str]:
        evaluating, frozen = set(saved["evaluating"]), set(saved["frozen"])
        inner, parameters = dict(module.named_modules()), dict(module.named_parameters())
        for gone in (evaluating - inner.keys()) | (frozen - parameters.keys()):
            yield f"{name}.{gone} is not there now"

        def write() -> None:
            for key, one in inner.items():
                one.training = key not in evaluating
            for key, parameter in parameters.items():
                parameter.requires_grad_(key not in frozen)

        self._writes.append(write)

    def _tensors(self, name: str, tensor: Tensor, saved: Any) -> Iterator[str]:
        problem = differs(saved, tensor)
        if problem:
            yield f"{name} {problem}"
        else:
            self._copy(tensor, saved)

    def _generators(self, name: str, generator: torch.Generator, saved: Any) -> Iterator[str]:
        problem = differs(saved, generator.get_state())
        if problem:
            yield f"the state of {name} {problem}"
        else:
            self._writes.append(lambda: generator.set_state(saved.clone()))

    def _optimizers(self, name: str, optimizer: torch.optim.Optimizer, saved: Any) -> Iterator[str]:
        kind = type(optimizer)
        hooks: Any = (getattr(optimizer, f"_optimizer_{when}load_state_dict_{at}_hooks", None)
                      for when, at in (("", "pre"), ("", "post")))  # fmt: skip
        theirs = kind.load_state_dict is not torch.optim.Optimizer.load_state_dict or any(hooks)
        if theirs or not self._same_torch:
            self._calls.append((name, optimizer, saved))
            return
        plan = OptimizerPlan(name, optimizer, saved)
        yield from plan.problems()
        self._writes.append(plan.carry_out)

    def _schedulers(self, name: str, scheduler: Any, saved: Any) -> Iterator[str]:
        self._calls.append((name, scheduler, saved))
        return iter(())

    _others = _schedulers

    def _scalers(self, name: str, scaler: Any, saved: Any) -> Iterator[str]:
        self._calls.append((name, scaler, saved["state"]))
        for optimizer in saved["optimizers"].keys() - self._objects.optimizers.keys():
            yield f"{name} knows of {optimizer}, which is not there now"

        def write() -> None:
            states = getattr(scaler, "_per_optimizer_states", None)
            if states is None:
                return
            states.clear()
            for optimizer, state in saved["optimizers"].items():
                entry = states[id(self._objects.optimizers[optimizer])]
                entry["stage"] = type(entry["stage"])(state["stage"])
                entry["found_inf_per_device"] = {
                    torch.device(device): found.to(device, copy=True) for device, found in state["found_inf"].items()
                }

        self._writes.append(write)

    def _copy(self, live: Tensor, saved: Tensor) -> None:
        self._writes.append(lambda: live.copy_(saved))

    def _call_all(self) -> None:
        before: list[tuple[Any, Any]] = []
        try:
            for name, thing, saved in self._calls:
                taker = Taker(torch.clone)
                now = thing.state_dict()
                before.append((thing, merged(taker.take(now, name), now)))
                thing.load_state_dict(merged(Taker(torch.clone).take(saved, name), now))
        except FOREIGN as error:
            for thing, state in reversed(before):
                thing.load_state_dict(state)
            raise Refused(f"{self._calls[len(before) - 1][0]} does not take its state: "
                          f"{type(error).__name__}: {error}", REMEDY) from error  # fmt: skip


def differs(saved: Any, live: Tensor) -> str:
    """Why a saved tensor cannot be copied into a live one; empty: it can."""
    if isinstance(saved, LeftOut):
        return f"is not in it: it was {saved.what}"
    if not isinstance(saved, Tensor):
        return f"was a {type(saved).__name__} and is a tensor"
    if saved.shape != live.shape:
        return f"has the shape {list(saved.shape)} in it and {list(live.shape)} now"
    if saved.dtype != live.dtype:
        return f"is {saved.dtype} in it and {live.dtype} now"
    return ""


def merged(saved: Any, live: Any) -> Any:
    """The saved tree, with what was left out taken from the live one; where that has nothing, it is left away."""
    if isinstance(saved, LeftOut):
        return live
    if isinstance(saved, dict) and type(live) is type(saved):
        for key in list(saved):
            if isinstance(saved[key], LeftOut) and key not in live:
                del saved[key]
            else:
                saved[key] = merged(saved[key], live.get(key))
    elif type(saved) in (list, tuple) and type(live) is type(saved) and len(live) == len(saved):
        return type(saved)(merged(one, now) for one, now in zip(saved, live))
    return saved
