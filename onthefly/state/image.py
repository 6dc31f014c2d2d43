"""The image of a script: everything live that it holds at a pause point, as plain values that another process reads.

A graph. Its nodes are objects: containers, instances, modules, optimizers, tensors, functions with what they close
over, iterators, suspended generators. A *token* stands for a value: an atom (number, text, None) for itself, ``[n]``
for node ``n``; so that what two variables share is shared again. The roots are the variables and value stacks of the
frames, and the globals of the script's modules.

What is not in it: code, which the other process has from the same files; files' contents; data sets beyond their plain
attributes; large tensors that nothing has ever written into, of which a sample of values is kept so that they are known
again. What else cannot be described stands as *opaque*: the other process must have it at the same place.

:mod:`onthefly.state.matching` finds what of it another process has already, :mod:`onthefly.state.rebuilding` puts it
there.
"""

from __future__ import annotations

import functools
import gc
import io
from collections import deque
from types import FunctionType, GeneratorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _BaseDataLoaderIter  # pyright: ignore[reportPrivateUsage]

from onthefly.bundle import arrays
from onthefly.state import script, stack, values
from onthefly.state.codes import code_id, name_of
from onthefly.state.contents import CLASS, GLOBALS, LOADER, SLOTS, form_of, has_slots
from onthefly.state.flow import Unreadable
from onthefly.state.frames import drivers, has_own_variables, managed, variables
from onthefly.state.graphs import LIVE, graph_of
from onthefly.state.iterators import kind_of, length_left, native, over
from onthefly.state.kept import ATOMS
from onthefly.state.random import generator_of
from onthefly.state.tensors import LARGE, detached_copy, grad_of, is_plain, nbytes, sample_of, undisturbed, version_of
from onthefly.state.walk import MAX_ARRAY, MAX_ITEMS, MAX_OBJECTS, is_followed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from onthefly.state.copies import Taker
    from onthefly.state.winding import Began

_PLAIN = frozenset(ATOMS)

WRITTEN = 256 << 20
"""Bytes up to which a large tensor that nobody trains, but that was written into, is kept whole."""

OURS = ("post_hook", "pre_hook", "hook")
"""Variables of torch's own frames that hold a hook, which may be ours: each process has its own."""

EMPTY_IN_MODULES: dict[str, Any] = {name: type(one) for name, one in vars(nn.Module()).items() if one in ({}, set())}
"""What a module of torch has empty at first: left out where it still is, since there are thousands."""


class Tensors(NamedTuple):
    """A tensor that was found, and what will be kept of it."""

    node: dict[str, Any]
    tensor: Tensor
    name: str


class Image:
    """The making of one; on the training thread, in a step's hook."""

    def __init__(self, frames: list[FrameType], loading: Callable[[Any], Optional[Began]]) -> None:
        """``frames``: the script's, innermost first. ``loading(iterator)`` tells how a loader's iterator began."""
        self.nodes: list[Any] = []
        self.obstacle = ""
        """Why no other process can go on from here; empty: as far as can be told, one can."""
        self.left_out: list[str] = []
        """What is not in it and may matter, in plain words."""
        self.tensors: list[Tensors] = []
        self._loading = loading
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []
        self._pending: list[tuple[int, Any, str]] = []
        self._essential: set[int] = set()
        self._running = {id(frame): number for number, frame in enumerate(frames)}
        with undisturbed():
            self.obstacle = drivers(frames)
            self.frames = [self._frame(frame) for frame in frames]
            self.modules = {
                name: self._tokens(GLOBALS.read(held), lambda key, module=name: _global(module, key))
                for name, held in script.modules()
            }
            self._follow()

    def finish(self, taker: Taker) -> dict[str, Any]:
        """Copy what it holds; the plain tree of it all. To be called at the same moment."""
        with undisturbed():
            storages: dict[int, int] = {}
            for node, tensor, name in self.tensors:
                if "storage" in node:
                    node["storage"] = storages.setdefault(node["storage"], len(storages))
                self._content(node, tensor, name, taker)
        self._alive.clear()
        self._numbers.clear()
        self.tensors.clear()
        return {"frames": self.frames, "modules": self.modules, "nodes": self.nodes}

    def token(self, value: Any, name: str) -> Any:
        """What stands for that value."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self.nodes)
            self._alive.append(value)
            self.nodes.append(None)
            self._pending.append((number, value, name))
        return [number]

    def _tokens(self, flat: Iterable[Any], name: Callable[[Any], str]) -> list[Any]:
        """Of keys and values in turn."""
        found: list[Any] = []
        key: Any = None
        for number, value in enumerate(flat):
            if number % 2:
                found.append(self.token(value, name(key)))
            else:
                key = value
                found.append(self.token(value, "a key"))
        return found

    def _follow(self) -> None:
        while self._pending:
            number, value, name = self._pending.pop()
            if number >= MAX_OBJECTS:
                self.obstacle = self.obstacle or f"the script holds more than {MAX_OBJECTS:,} objects"
                self._pending.clear()
                return
            node = self.nodes[number] = self._node(value, name)
            node["name"] = name

    # -- frames

    def _frame(self, frame: FrameType, *, waits: bool = False) -> dict[str, Any]:
        code = frame.f_code
        given: dict[str, Any] = {"code": code_id(code), "at": frame.f_lasti, "line": frame.f_lineno}
        if has_own_variables(frame):
            given["variables"] = {
                name: self.token(value, f"{name} in {code.co_name}()")
                for name, value in variables(frame).items()
                if not values.is_ours(value) and not (name in OURS and not script.is_own(code.co_filename))
            }
        if not code.co_filename.endswith(values.RUNS_HOOKS):
            self._stack(frame, given, waits)
        return given

    def _stack(self, frame: FrameType, given: dict[str, Any], waits: bool) -> None:
        try:
            held, loops = stack.read(frame, waits=waits)
        except Unreadable as error:
            self.obstacle = self.obstacle or f"what {frame.f_code.co_name} has under way is not known: {error}"
            return
        given["stack"], given["managers"] = {}, {}
        for at, value in enumerate(held):
            waiting = managed(value)
            if waiting is not None:
                given["managers"][str(at)] = self._frame(waiting, waits=True)
            elif not stack.is_empty(value) and not values.is_ours(value):
                where = f"the loop in line {loops[at]}" if at in loops else "a value under way"
                given["stack"][str(at)] = self.token(value, f"{where} of {frame.f_code.co_name}()")

    # -- nodes

    def _node(self, value: Any, name: str) -> dict[str, Any]:
        """What one object is."""
        if isinstance(value, Tensor):
            return self._tensor(value, name)
        if values.is_ours(value):
            return {"kind": "ours"}
        for kinds, describe in _DESCRIBED:
            if isinstance(value, kinds):
                return describe(self, value, name)
        if generator_of(value) is not None:
            return self._random(value)
        if native(value):
            return self._iterator(value, name)
        if arrays.kind(value):
            return self._array(value, name)
        plain = values.encode(value, functools.partial(self.token, name=name))
        return plain or self._object(value, name)

    def _object(self, value: Any, name: str) -> dict[str, Any]:
        form, kind = form_of(value), type(value)
        node: dict[str, Any] = {"kind": "object", "type": values.type_name(kind)}
        if form is not None:
            held = form.read(value)
            if len(held) > MAX_ITEMS:
                self.left_out.append(f"{name}: {len(held):,} entries, taken to be data that does not change")
                return values.opaque(value)
            pairs = isinstance(value, dict)
            node["content"] = (
                self._tokens(held, lambda key: f"{name}[{key!r}]" if type(key) in _PLAIN else f"a value in {name}")
                if pairs
                else [self.token(one, f"{name}[{number}]") for number, one in enumerate(held)]
            )
            node.update(values.settings_of(value, functools.partial(self.token, name=name)))
        followed = is_followed(kind)
        if followed:
            self._attributes(node, value, name)
        elif form is None:
            if values.is_unknown(value):
                self.left_out.append(f"{name}: {kind.__module__}.{kind.__qualname__}")
            return values.opaque(value)
        return node

    def _attributes(self, node: dict[str, Any], value: Any, name: str) -> None:
        attributes: Any = getattr(value, "__dict__", None)
        empty = EMPTY_IN_MODULES if isinstance(value, nn.Module) else {}
        if type(attributes) is dict:
            node["attributes"] = {
                key: self.token(part, f"{name}.{key}")
                for key, part in attributes.items()
                if type(key) is str and not values.is_ours(part) and not (key in empty and empty[key] is type(part) and not part)
            }
        if has_slots(value):
            node["slots"] = self._tokens(SLOTS.read(value), lambda key: f"{name}.{key}")
        if script.made_by_script(type(value)):
            node["class"] = self.token(type(value), type(value).__qualname__)

    def _trained(self, value: Any, name: str) -> dict[str, Any]:
        """A module or an optimizer, whoever made its class."""
        node: dict[str, Any] = {"kind": "object", "type": values.type_name(type(value))}
        self._attributes(node, value, name)
        if isinstance(value, nn.Module):
            for part, tensor in [*value._parameters.items(), *value._buffers.items()]:
                if tensor is not None:
                    self._train(tensor, f"{name}.{part}")
        else:
            for state in list(value.state.values()):
                for part in state.values() if isinstance(state, dict) else ():
                    if isinstance(part, Tensor):
                        self._train(part, f"the state of {name}")
        return node

    def _train(self, tensor: Tensor, name: str) -> None:
        self._essential.add(id(tensor))
        self.token(tensor, name)

    def _tensor(self, tensor: Tensor, name: str) -> dict[str, Any]:
        node: dict[str, Any] = {"kind": "tensor", "type": values.type_name(type(tensor))}
        if is_plain(tensor):
            where = tensor.untyped_storage()
            node.update(
                shape=list(tensor.shape), stride=list(tensor.stride()), dtype=tensor.dtype, device=str(tensor.device),
                needs=tensor.requires_grad and tensor.is_leaf, leaf=tensor.is_leaf,
                storage=where._cdata, offset=tensor.storage_offset(), whole=where.nbytes(),
            )  # fmt: skip
            if not tensor.is_leaf and graph_of(tensor) == LIVE:
                self.obstacle = self.obstacle or (
                    f"{name}, a tensor of shape {tuple(tensor.shape)}, waits for its backward here"
                )
        grad = grad_of(tensor)
        if grad is not None:
            self._essential.add(id(grad))
            node["grad"] = self.token(grad, f"{name}.grad")
        if vars(tensor):
            node["attributes"] = {key: self.token(part, f"{name}.{key}") for key, part in vars(tensor).items()}
        self.tensors.append(Tensors(node, tensor, name))
        return node

    def _content(self, node: dict[str, Any], tensor: Tensor, name: str, taker: Taker) -> None:
        """What is kept of a tensor's values: all, or, of data that does not change, a sample."""
        if "storage" not in node:
            node["version"] = version_of(tensor)
            self.left_out.append(f"{name}: a tensor of {tensor.layout}")
            return
        size = nbytes(tensor)
        essential = id(tensor) in self._essential or isinstance(tensor, nn.Parameter) or not tensor.is_leaf
        written = version_of(tensor) != 0 and size <= WRITTEN
        if essential or size <= LARGE or written:
            kept = tensor if tensor.is_leaf else detached_copy(tensor)
            self._alive.append(kept)  # what is copied is known by its memory
            node["data"] = taker.take(kept, name)
        else:
            sample = sample_of(torch.Tensor.detach(tensor))
            self._alive.append(sample)
            node["sample"] = taker.take(sample, f"{name} (sample)")
            if version_of(tensor) != 0:
                self.left_out.append(f"{name}: a tensor of {size >> 20} MiB, taken to be data that does not change")

    def _array(self, value: Any, name: str) -> dict[str, Any]:
        if arrays.kind(value) == "scalar":
            return {"kind": "plain", "value": value}
        node = {"kind": "array", "type": values.type_name(type(value))}
        if value.nbytes > MAX_ARRAY:
            self.left_out.append(f"{name}: an array of {value.nbytes >> 20} MiB, taken to be data that does not change")
            return {**node, "shape": list(value.shape)}
        return {**node, "data": value.copy()}

    def _random(self, value: Any) -> dict[str, Any]:
        kind: Any = generator_of(value)
        state = kind.read(value)
        device = str(value.device) if isinstance(value, torch.Generator) else ""
        return {"kind": "random", "type": values.type_name(type(value)), "device": device, "state": state}

    def _iterator(self, value: Any, name: str) -> dict[str, Any]:
        node: dict[str, Any] = {"kind": "iterator", "type": values.type_name(type(value))}
        kind = kind_of(value)
        if kind is None:
            node["left"] = length_left(value)
            held = next((one for one in gc.get_referents(value) if isinstance(one, (dict, deque))), None)
            return {**node, "over": self.token(held, name)} if held is not None else node
        held, place = over(value), kind.read(value)
        node["place"] = place[1] if held is not None else list(place) if isinstance(place, tuple) else place
        if held is not None:
            node["over"] = self.token(held, name)
        node["inner"] = [self.token(one, name) for one in kind.inner(value)]
        if isinstance(value, (map, filter)):
            node["function"] = self.token(value.__reduce__()[1][0], name)  # type: ignore[index]
        return node

    def _function(self, value: FunctionType, name: str) -> dict[str, Any]:
        if not script.is_own(value.__code__.co_filename):
            return values.opaque(value)
        label = value.__qualname__
        return {
            "kind": "function", "code": code_id(value.__code__), "full": name_of(value), "module": value.__module__,
            "cells": [self.token(cell, label) for cell in value.__closure__ or ()],
            "defaults": self.token(value.__defaults__, label), "keywords": self.token(value.__kwdefaults__, label),
            "attributes": {key: self.token(part, f"{label}.{key}") for key, part in vars(value).items()},
        }  # fmt: skip

    def _class(self, value: type, name: str) -> dict[str, Any]:
        node = {"kind": "class", "full": name_of(value), "qualified": values.type_name(value)}
        if script.made_by_script(value):
            node["content"] = self._tokens(CLASS.read(value), lambda key: f"{value.__qualname__}.{key}")
        return node

    def _data(self, value: Any, name: str) -> dict[str, Any]:
        """A data set or a sampler: its plain attributes, those below it, and its random generators."""
        held: dict[str, Any] = vars(value) if hasattr(value, "__dict__") else {}
        return {
            "kind": "data", "type": values.type_name(type(value)),
            "attributes": {
                key: self.token(part, f"{name}.{key}") for key, part in held.items() if values.is_setting(part)
            },
        }  # fmt: skip

    def _loader(self, value: Any, name: str) -> dict[str, Any]:
        held = LOADER.read(vars(value))
        return {
            "kind": "data", "type": values.type_name(type(value)),
            "attributes": {
                key: self.token(part, f"{name}.{key}")
                for key, part in zip(held[::2], held[1::2])
                if key in ("dataset", "sampler", "batch_sampler") or values.is_setting(part)
            },
        }  # fmt: skip

    def _loader_iterator(self, value: Any, name: str) -> dict[str, Any]:
        node: dict[str, Any] = {"kind": "loading", "type": values.type_name(type(value))}
        began = self._loading(value)
        if began is None:
            return {**node, "ended": True}
        if began.loader is None:
            self.obstacle = self.obstacle or f"{name} goes over a loader that is gone"
        token = functools.partial(self.token, name=f"the loader of {name}")
        return {
            **node, "loader": token(began.loader), "yielded": value._num_yielded,
            "drawn": token(vars(value).get("_onthefly_drawn")),
            "starts": [
                {
                    "random": start.random.tree(), "first": start.first.tree() if start.first else None,
                    "generators": [[token(one), state] for one, state in start.generators],
                    "settings": [[token(one), held] for one, held in start.settings],
                }
                for start in began.starts
            ],
        }  # fmt: skip

    def _generator(self, value: Any, name: str) -> dict[str, Any]:
        if value.gi_frame is None:
            return {"kind": "generator", "ended": True}
        if value.gi_running:
            return {"kind": "running", "frame": self._running.get(id(value.gi_frame), -1)}
        return {"kind": "generator", "frame": self._frame(value.gi_frame, waits=True)}

    def _sequence(self, value: Any, name: str) -> dict[str, Any]:
        held = list(value)
        if len(held) > MAX_ITEMS:
            return values.opaque(value)
        return {
            "kind": "sequence", "type": values.type_name(type(value)),
            "items": [self.token(one, f"{name}[{number}]") for number, one in enumerate(held)],
        }  # fmt: skip

    def _method(self, value: MethodType, name: str) -> dict[str, Any]:
        return {
            "kind": "method", "owner": self.token(value.__self__, name), "called": value.__func__.__name__,
            "function": self.token(value.__func__, name),
        }  # fmt: skip

    def _partial(self, value: Any, name: str) -> dict[str, Any]:
        return {"kind": "partial", "parts": [self.token(one, name) for one in (value.func, value.args, value.keywords)]}


def _global(module: str, key: str) -> str:
    return key if module == "__main__" else f"{module}.{key}"


_DESCRIBED: tuple[tuple[Any, Callable[[Image, Any, str], dict[str, Any]]], ...] = (
    ((nn.Module, Optimizer), Image._trained),
    (FunctionType, Image._function),
    (type, Image._class),
    (ModuleType, lambda image, value, name: {"kind": "named", "full": f"{value.__name__}:"}),
    ((tuple, frozenset), Image._sequence),
    (functools.partial, Image._partial),
    (MethodType, Image._method),
    ((Dataset, Sampler), Image._data),
    (DataLoader, Image._loader),
    (_BaseDataLoaderIter, Image._loader_iterator),
    (GeneratorType, Image._generator),
    (io.IOBase, lambda image, value, name: values.file(value)),
)
