"""How each kind of object stands in an image (:mod:`onthefly.state.image`)."""

from __future__ import annotations

import csv
import functools
import gc
import io
import sys
from collections import deque
from types import FunctionType, GeneratorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _BaseDataLoaderIter  # pyright: ignore[reportPrivateUsage]

from onthefly.bundle import arrays
from onthefly.state import openfiles, script, values
from onthefly.state.codes import code_id, name_of
from onthefly.state.contents import CLASS, LOADER
from onthefly.state.iterators import kind_of, length_left, native, over
from onthefly.state.random import generator_of
from onthefly.state.walk import MAX_ARRAY, MAX_ITEMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.state.image import Image


def describe(image: Image, value: Any, name: str) -> dict[str, Any]:
    """The node of an object of one of these kinds; empty for others."""
    for kinds, function in _DESCRIBED:
        if isinstance(value, kinds):
            return function(image, value, name)
    sqlite = sys.modules.get("sqlite3")
    if sqlite is not None and isinstance(value, sqlite.Connection):
        image.obstacle = image.obstacle or f"{name} is a database that is open: what goes into it cannot be taken back"
        return values.opaque(value)
    if generator_of(value) is not None:
        return _random(image, value)
    if native(value):
        return _iterator(image, value, name)
    if arrays.kind(value) or arrays.holds_objects(value):
        return _array(image, value, name)
    return values.encode(value, functools.partial(image.token, name=name))


def _array(image: Image, value: Any, name: str) -> dict[str, Any]:
    if arrays.kind(value) == "scalar":
        return {"kind": "plain", "value": value}
    node: dict[str, Any] = {
        "kind": "array", "type": values.type_name(type(value)), "shape": list(value.shape),
        "dtype": str(value.dtype),
    }  # fmt: skip
    base = arrays.base_of(value)
    if arrays.kind(base) or arrays.holds_objects(base):
        node["base"] = image.token(base, f"what {name} is a view of")
        node["view"] = [arrays.offset_of(value, base), list(value.strides)]
        return node
    if base is not None and type(base) is not bytes:
        node["shares"] = values.type_name(type(base))
    if arrays.holds_objects(value):
        if value.size > MAX_ITEMS:
            return values.opaque(value)
        return {**node, "items": [image.token(one, name) for one in value.ravel().tolist()]}
    if value.nbytes > MAX_ARRAY:
        image.left_out.append(f"{name}: an array of {value.nbytes >> 20} MiB, taken to be data that does not change")
        return node
    return {**node, "data": value.copy()}


def _random(image: Image, value: Any) -> dict[str, Any]:
    kind: Any = generator_of(value)
    state = kind.read(value)
    device = str(value.device) if isinstance(value, torch.Generator) else ""
    return {"kind": "random", "type": values.type_name(type(value)), "device": device, "state": state}


def _iterator(image: Image, value: Any, name: str) -> dict[str, Any]:
    node: dict[str, Any] = {"kind": "iterator", "type": values.type_name(type(value))}
    kind = kind_of(value)
    if kind is None:
        node["left"] = length_left(value)
        held = next((one for one in gc.get_referents(value) if isinstance(one, (dict, deque))), None)
        return {**node, "over": image.token(held, name)} if held is not None else node
    held, place = over(value), kind.read(value)
    node["place"] = place[1] if held is not None else list(place) if isinstance(place, tuple) else place
    if held is not None:
        node["over"] = image.token(held, name)
    node["inner"] = [image.token(one, name) for one in kind.inner(value)]
    if isinstance(value, (map, filter)):
        node["function"] = image.token(value.__reduce__()[1][0], name)  # type: ignore[index]
    return node


def _function(image: Image, value: FunctionType, name: str) -> dict[str, Any]:
    if not script.is_own(value.__code__.co_filename):
        return values.opaque(value)
    label = value.__qualname__
    return {
        "kind": "function", "code": code_id(value.__code__), "full": name_of(value), "module": value.__module__,
        "cells": [image.token(cell, label) for cell in value.__closure__ or ()],
        "defaults": image.token(value.__defaults__, label), "keywords": image.token(value.__kwdefaults__, label),
        "attributes": {key: image.token(part, f"{label}.{key}") for key, part in vars(value).items()},
    }  # fmt: skip


def _class(image: Image, value: type, name: str) -> dict[str, Any]:
    node: dict[str, Any] = {"kind": "class", "full": name_of(value), "qualified": values.type_name(value)}
    if script.made_by_script(value):
        node["content"] = image.tokens(CLASS.read(value), lambda key: f"{value.__qualname__}.{key}")
    return node


def _data(image: Image, value: Any, name: str) -> dict[str, Any]:
    """A data set or a sampler: its plain attributes, those below it, and its random generators."""
    held: dict[str, Any] = vars(value) if hasattr(value, "__dict__") else {}
    return {
        "kind": "data", "type": values.type_name(type(value)), "data": values.data_print(value),
        "attributes": {
            key: image.token(part, f"{name}.{key}") for key, part in held.items() if values.is_setting(part)
        },
    }  # fmt: skip


def _loader(image: Image, value: Any, name: str) -> dict[str, Any]:
    held = LOADER.read(vars(value))
    return {
        "kind": "data", "type": values.type_name(type(value)), "data": values.data_print(value),
        "attributes": {
            key: image.token(part, f"{name}.{key}")
            for key, part in zip(held[::2], held[1::2])
            if key in ("dataset", "sampler", "batch_sampler") or values.is_setting(part)
        },
    }  # fmt: skip


def _file(image: Image, value: Any, name: str) -> dict[str, Any]:
    """An open file, whose buffer is written out; of the three standard streams nothing is kept, nor of pipes."""
    described = openfiles.describe(value)
    if described is None and not value.closed:
        image.obstacle = image.obstacle or f"{name}, a {type(value).__name__}, is open, and cannot be carried on"
    if described is None or described["kind"] in ("other", "standard"):
        return values.opaque(value)
    if described["kind"] == "closed":
        described.update(name=getattr(value, "name", ""), mode=getattr(value, "mode", "r"))
    return {"kind": "file", "type": values.type_name(type(value)), "file": described}


def _loader_iterator(image: Image, value: Any, name: str) -> dict[str, Any]:
    node: dict[str, Any] = {"kind": "loading", "type": values.type_name(type(value))}
    began = image.loading(value)
    if began is None:
        return {**node, "ended": True}
    if began.loader is None:
        image.obstacle = image.obstacle or f"{name} goes over a loader that is gone"
    token = functools.partial(image.token, name=f"the loader of {name}")
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


def _generator(image: Image, value: Any, name: str) -> dict[str, Any]:
    if value.gi_frame is None:
        return {"kind": "generator", "ended": True}
    if value.gi_running:
        return {"kind": "running", "frame": image.running.get(id(value.gi_frame), -1)}
    return {"kind": "generator", "frame": image.frame(value.gi_frame, waits=True)}


def _sequence(image: Image, value: Any, name: str) -> dict[str, Any]:
    held = list(value)
    if len(held) > MAX_ITEMS:
        return values.opaque(value)
    return {
        "kind": "sequence", "type": values.type_name(type(value)),
        "items": image.items(held, name),
    }  # fmt: skip


def _method(image: Image, value: MethodType, name: str) -> dict[str, Any]:
    return {
        "kind": "method", "owner": image.token(value.__self__, name), "called": value.__func__.__name__,
        "function": image.token(value.__func__, name),
    }  # fmt: skip


def _csv(image: Image, value: Any, name: str) -> dict[str, Any]:
    files = [image.token(one, f"the file of {name}") for one in openfiles.behind(value)]
    return {"kind": "csv", "type": values.type_name(type(value)), "files": files}


def _calling(image: Image, value: Any, name: str) -> dict[str, Any]:
    """``iter(function, last)``; empty once it has ended."""
    return {
        "kind": "calling", "type": values.type_name(type(value)),
        "parts": [image.token(one, name) for one in gc.get_referents(value)],
    }  # fmt: skip


def _exception(image: Image, value: BaseException, name: str) -> dict[str, Any]:
    """One that the script has kept: what it says, not where it was raised."""
    return {
        "kind": "exception", "type": values.type_name(type(value)), "class": image.token(type(value), name),
        "args": image.token(value.args, name),
        "attributes": {key: image.token(part, f"{name}.{key}") for key, part in vars(value).items()},
    }  # fmt: skip


def _partial(image: Image, value: Any, name: str) -> dict[str, Any]:
    return {"kind": "partial", "parts": [image.token(one, name) for one in (value.func, value.args, value.keywords)]}


_DESCRIBED: tuple[tuple[Any, Callable[[Image, Any, str], dict[str, Any]]], ...] = (
    (FunctionType, _function),
    (type, _class),
    (ModuleType, lambda image, value, name: {"kind": "named", "full": f"{value.__name__}:"}),
    ((tuple, frozenset), _sequence),
    (BaseException, _exception),
    ((type(csv.writer(io.StringIO())), type(csv.reader(()))), _csv),
    (type(iter(int, 0)), _calling),
    (functools.partial, _partial),
    (MethodType, _method),
    ((Dataset, Sampler), _data),
    (DataLoader, _loader),
    (_BaseDataLoaderIter, _loader_iterator),
    (GeneratorType, _generator),
    (io.IOBase, _file),
)
