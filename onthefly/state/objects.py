"""The live things with state that a script has, under names that its author knows.

The caller gives what names the script can see (the locals and globals of its frames); what hangs below them is found
in attributes and containers of the script's own objects: ``self.model`` of a ``Trainer`` is ``trainer.model``, the
second of a list of optimizers ``optimizers[1]``. Each thing is found once, under its shortest name. A module inside of
another one is part of that. DDP's and the compiler's wrappers are looked through: the state is that of the module
inside, without a prefix in its names.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset, Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_DEPTH = 4
"""How many attributes and subscripts a name may have."""
MAX_ITEMS = 256
"""Containers longer than this are data."""
MAX_LOOKED_AT = 20_000

_LEAVES = (str, bytes, bytearray, int, float, complex, bool, type, ModuleType, FunctionType, MethodType, type(None))
_WRAPPERS = {"DistributedDataParallel": "module", "DataParallel": "module", "OptimizedModule": "_orig_mod"}
_OF_LIBRARIES = frozenset(getattr(sys, "stdlib_module_names", ())) - {"__main__"} | {
    "torch",
    "numpy",
    "onthefly",
    "builtins",
}


class Found(NamedTuple):
    """A name and what it stands for."""

    name: str
    thing: Any
    depth: int


class Objects:
    """What :func:`find` found, by kind and name, in the order in which it was found."""

    def __init__(self) -> None:
        self.modules: dict[str, nn.Module] = {}
        """Those that are in no other; without their wrappers."""
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.schedulers: dict[str, Any] = {}
        self.scalers: dict[str, Any] = {}
        self.generators: dict[str, torch.Generator] = {}
        self.others: dict[str, Any] = {}
        """Whatever else has ``state_dict`` and ``load_state_dict``: samplers, averages, metrics of the script's own."""
        self.tensors: dict[str, Tensor] = {}
        """Parameters that belong to no module: of models written by hand, or of a module that has no name here."""
        self.wrapped: dict[str, str] = {}
        """Names of wrapped modules, with the kind of the wrapper."""

    def kinds(self) -> dict[str, dict[str, Any]]:
        """All of them by the name of their kind."""
        return {
            "modules": self.modules, "optimizers": self.optimizers, "schedulers": self.schedulers,
            "scalers": self.scalers, "generators": self.generators, "others": self.others, "tensors": self.tensors,
        }  # fmt: skip

    def trained(self) -> dict[str, int]:
        """For each module, how many of its elements some optimizer trains."""
        ours = {id(p) for optimizer in self.optimizers.values() for g in optimizer.param_groups for p in g["params"]}
        return {
            name: sum(p.numel() for p in module.parameters() if id(p) in ours) for name, module in self.modules.items()
        }

    def trains(self) -> dict[str, str]:
        """For each optimizer, the module most of whose parameters it has; for each scheduler, its optimizer."""
        found: dict[str, str] = {}
        owner = {id(p): name for name, module in self.modules.items() for p in module.parameters()}
        for name, optimizer in self.optimizers.items():
            owners = [owner.get(id(p), "") for group in optimizer.param_groups for p in group["params"]]
            best = max(set(owners), key=lambda o: (bool(o), owners.count(o), o), default="")
            if best:
                found[name] = best
        names = {id(optimizer): name for name, optimizer in self.optimizers.items()}
        for name, scheduler in self.schedulers.items():
            held = names.get(id(getattr(scheduler, "optimizer", None)))
            if held is not None:
                found[name] = held
        return found


def find(roots: Mapping[str, Any]) -> Objects:
    """What has state below those names. Looks at attributes and containers only: no property, no code of the script.

    ``roots`` is in the order of preference where one thing has several names of one length.
    """
    found, seen, modules = Objects(), set[int](), dict[str, nn.Module]()
    queue = deque(_named(roots))
    looked_at = 0
    while queue and looked_at < MAX_LOOKED_AT:
        name, thing, depth = queue.popleft()
        looked_at += 1
        if _is(thing, _LEAVES) or id(thing) in seen:
            continue
        if _is(thing, nn.Module):
            inner, wrapper = _unwrapped(thing)
            if wrapper:
                seen.add(id(thing))
                if id(inner) not in seen:
                    found.wrapped[name] = wrapper
            thing = inner
            if id(thing) in seen:
                continue
            modules[name] = thing
        seen.add(id(thing))
        _file(found, name, thing)
        if depth < MAX_DEPTH:
            queue.extend(below for below in _below(name, thing, depth + 1) if id(below.thing) not in seen)
    _keep_outermost(found, modules)
    _keep_strays(found)
    return found


def _is(thing: Any, kinds: type | tuple[type, ...]) -> bool:
    """``isinstance`` that never asks a proxy what it stands for."""
    return issubclass(type(thing), kinds)


def _named(roots: Mapping[str, Any]) -> Iterator[Found]:
    taken = {name for name in roots if name not in ("self", "cls")}
    for name, thing in roots.items():
        called = _root(name, thing, roots)
        if called != name and called in taken and roots.get(called) is not thing:
            called = name  # two different things: the class's name is another one's
        taken.add(called)
        yield Found(called, thing, 1)


def _root(name: str, thing: Any, roots: Mapping[str, Any]) -> str:
    """``self`` is called as the script calls it elsewhere, else after its class."""
    if name not in ("self", "cls"):
        return name
    other = next((n for n, t in roots.items() if t is thing and n not in ("self", "cls")), None)
    kind = thing if issubclass(type(thing), type) else type(thing)
    return other or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.__name__).lower()


def _unwrapped(module: nn.Module) -> tuple[nn.Module, str]:
    """The module inside of wrappers, and the name of the outermost one."""
    outermost = ""
    while True:
        kind = type(module)
        name = next((c.__name__ for c in kind.__mro__ if c.__name__ in _WRAPPERS and _of_torch(c)), "")
        inner = module._modules.get(_WRAPPERS[name]) if name else None
        if inner is None:
            return module, outermost
        module, outermost = inner, outermost or name


def _of_torch(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "torch"


def _file(found: Objects, name: str, thing: Any) -> None:
    if _is(thing, nn.Module):
        return  # decided at the end, when all of them are known
    if _is(thing, torch.optim.Optimizer):
        found.optimizers[name] = thing
    elif _is(thing, (LRScheduler, ReduceLROnPlateau)):
        found.schedulers[name] = thing
    elif any(c.__name__ == "GradScaler" and _of_torch(c) for c in type(thing).__mro__):
        found.scalers[name] = thing
    elif _is(thing, torch.Generator):
        found.generators[name] = thing
    elif _is(thing, Tensor):
        if thing.requires_grad and thing.is_leaf:
            found.tensors[name] = thing
    elif _has_state(thing):
        found.others[name] = thing


def _has_state(thing: Any) -> bool:
    # Looked up on the class: an instance's __getattr__ is the script's code. Where loaders are is kept elsewhere.
    if _is(thing, (DataLoader, Dataset)) or type(thing).__module__ == __name__:
        return False
    return callable(getattr(type(thing), "state_dict", None)) and callable(
        getattr(type(thing), "load_state_dict", None)
    )


def _below(name: str, thing: Any, depth: int) -> Iterator[Found]:
    """What a thing holds, where that may be state."""
    if _is(thing, dict):
        if len(thing) <= MAX_ITEMS:
            for key, item in list(dict.items(thing)):
                if isinstance(key, (str, int)):
                    yield Found(f"{name}[{key!r}]", item, depth)
    elif _is(thing, (list, tuple)):
        if len(thing) <= MAX_ITEMS:
            kind: Any = list if _is(thing, list) else tuple
            for number, item in enumerate(list(kind.__iter__(thing))):
                yield Found(f"{name}[{number}]", item, depth)
    else:
        for key, item in _attributes(thing):
            if not key.startswith("__"):
                yield Found(f"{name}.{key}", item, depth)


def _attributes(thing: Any) -> list[tuple[str, Any]]:
    try:
        held = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return []
    if type(held) is not dict or _is(thing, Tensor):
        return []
    if _is(thing, nn.Module):
        return [(key, item) for key, item in held.items() if not key.startswith("_")]
    only = next((names for kinds, names in _HOLD if _is(thing, kinds)), None)
    if only is not None:
        return [(key, held[key]) for key in only if key in held]
    if type(thing).__module__.partition(".")[0] in _OF_LIBRARIES:
        return []
    return list(held.items())


_HOLD = (
    ((LRScheduler, ReduceLROnPlateau), ("optimizer",)),
    ((DataLoader, Sampler), ("generator", "sampler", "batch_sampler")),
)
"""What is looked at in things of torch's own."""


def _keep_outermost(found: Objects, modules: Mapping[str, nn.Module]) -> None:
    inside = {id(inner) for module in modules.values() for inner in module.modules() if inner is not module}
    for name, module in modules.items():
        if id(module) not in inside and _holds_state(module):
            found.modules[name] = module
    found.wrapped = {name: kind for name, kind in found.wrapped.items() if name in found.modules}


def _holds_state(module: nn.Module) -> bool:
    """Loss functions and activations have none."""
    return (
        next(module.parameters(), None) is not None
        or next(module.buffers(), None) is not None
        or any(type(inner).get_extra_state is not nn.Module.get_extra_state for inner in module.modules())
    )


def _keep_strays(found: Objects) -> None:
    """Parameters that no module has: by their own name, or by their place in an optimizer.

    A tensor that an optimizer trains, or one that is to have gradients where there is no optimizer at all. (Beside an
    optimizer it may be a batch: an adversarial one has gradients too.)
    """
    of_modules = {id(p) for module in found.modules.values() for p in module.parameters()}
    trained = {id(p) for optimizer in found.optimizers.values() for g in optimizer.param_groups for p in g["params"]}
    found.tensors = {
        name: tensor
        for name, tensor in found.tensors.items()
        if id(tensor) not in of_modules and (id(tensor) in trained or not found.optimizers)
    }
    known = of_modules | {id(tensor) for tensor in found.tensors.values()}
    for name, optimizer in found.optimizers.items():
        for i, group in enumerate(optimizer.param_groups):
            for j, parameter in enumerate(group["params"]):
                if id(parameter) not in known:
                    known.add(id(parameter))
                    found.tensors[f"{name}.param_groups[{i}].params[{j}]"] = parameter
