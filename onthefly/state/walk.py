"""The walk through everything that the script holds: what is found, and how it will be put back.

It goes from variables and globals through containers, instances of the script's own classes and of the libraries whose
objects have a part in training. It never calls a method of theirs. It does not go into data sets, samplers and loaders
(:mod:`onthefly.state.deliveries` winds what they deliver, so that their own state must stay as it is), modules, files,
sockets, locks, threads, loggers. What else it cannot read it names.
"""

from __future__ import annotations

import datetime
import enum
import functools
import io
import logging
import os
import pathlib
import sys
import threading
import types
from collections.abc import Sized
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _BaseDataLoaderIter  # pyright: ignore[reportPrivateUsage]

from onthefly.state.contents import CLASS, DICT, LOADER, SLOTS, Content, Form, form_of, has_slots
from onthefly.state.frames import FrameState
from onthefly.state.iterators import native
from onthefly.state.kept import ATOMS, Keeper
from onthefly.state.places import Place
from onthefly.state.random import generator_of, generators_in
from onthefly.state.script import is_own, made_by_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_OBJECTS = 200_000
MAX_ITEMS = 1_000_000
"""Entries of one container from which on it is taken for data that does not change."""

MAX_ARRAY = 16 << 20
"""Bytes of a NumPy array from which on it is not copied."""

PACKAGES = (
    "lightning",
    "pytorch_lightning",
    "lightning_fabric",
    "torchmetrics",
    "ignite",
    "accelerate",
    "transformers",
    "skorch",
    "tqdm",
)
TORCH = ("torch.nn", "torch.optim", "torch.distributions", "torch.amp", "torch.cuda.amp", "torchvision.transforms")
TRAINER = "onthefly.trainer"
"""Ours, and a training loop like that of any other library."""

_SILENT = (
    *ATOMS, range, slice, type(Ellipsis), type(NotImplemented), enum.Enum, pathlib.PurePath, torch.dtype, torch.device,
    torch.layout, torch.memory_format, torch.Size, types.ModuleType, types.BuiltinFunctionType, type(object.__init__),
    type("".join), types.CodeType, types.FrameType, types.TracebackType, BaseException, type, property, io.IOBase,
    logging.Logger, logging.Handler, logging.LoggerAdapter, threading.Thread, type(threading.Lock()),
    type(threading.RLock()), threading.Event, datetime.date, datetime.timedelta, os.stat_result, types.MappingProxyType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType, memoryview, _BaseDataLoaderIter,
)  # fmt: skip
_HOLDERS = (
    "argparse.Namespace", "types.SimpleNamespace", "collections.UserDict", "collections.UserList",
    "collections.ChainMap", "torch.utils.hooks.RemovableHandle",
)  # fmt: skip
_UNNAMED = ("builtins", "numpy", "contextlib", "functools", "weakref", "torch", "_thread", "re", "threading", "typing")
"""Modules whose objects hold nothing that a script counts on."""

_LOADER_PARTS = (
    "dataset", "sampler", "batch_sampler", "collate_fn", "worker_init_fn", "_iterator", "base_dataloader",
)  # fmt: skip


class Walk:
    """One walk, and what it has found."""

    def __init__(self, keeper: Keeper, loading: Iterable[Any]) -> None:
        """``loading``: the parts of live iterators, whose state belongs to what they deliver."""
        self.keeper = keeper
        self.contents: list[Content] = []
        self.tensors: dict[int, tuple[torch.Tensor, str, bool]] = {}
        """By ``id``: the tensor, what it is called, and whether training writes it."""
        self.generators: dict[int, Any] = {}
        """Random generators."""
        self.arrays: list[Any] = []
        self.frames: list[tuple[Any, FrameState]] = []
        """Suspended generators of the script, referred to by the caller, with their frames."""
        self.places: list[tuple[Any, Place, str]] = []
        self.modules: list[tuple[torch.nn.Module, str]] = []
        self.optimizers: list[tuple[Optimizer, str]] = []
        self.left_out: list[str] = []
        self.covered: set[int] = set()
        """The ``id`` of objects that are put back."""
        self.leaves: list[tuple[Any, str, int]] = []
        """What open loops of generators go over."""
        self._skipped = {id(part) for part in loading}
        self._seen: dict[int, Any] = {}
        self._pending: list[tuple[Any, str, bool]] = []
        self._named: set[str] = set()
        self._kinds: tuple[tuple[Any, Callable[[Any, str], None]], ...] = (
            ((torch.nn.Module, Optimizer), self._trained),
            (types.FunctionType, self._function),
            (type, self._class),
            ((tuple, frozenset), lambda value, name: self._items(list(value), name)),
            (functools.partial, lambda value, name: self._items([value.func, value.args, value.keywords], name)),
            (types.MethodType, lambda value, name: self._items([value.__self__, value.__func__], name)),
            ((Dataset, Sampler), lambda value, name: self._items(generators_in(value), name)),
            (DataLoader, self._loader),
            (types.GeneratorType, self._generator),
        )

    def go(self, roots: Iterable[tuple[str, Any]]) -> None:
        """Visit everything from those on; each root has a name that a person understands."""
        self._pending += [(value, name, False) for name, value in reversed(list(roots))]
        while self._pending:
            value, name, essential = self._pending.pop()
            if type(value) in ATOMS:
                continue
            if isinstance(value, torch.Tensor):
                self._tensor(value, name, essential=essential)
            elif id(value) not in self._seen and id(value) not in self._skipped:
                if len(self._seen) >= MAX_OBJECTS:
                    self._leave_out(f"{name} and what follows: more than {MAX_OBJECTS:,} objects")
                    self._pending.clear()
                    return
                self._seen[id(value)] = value
                self._visit(value, name)

    def finish(self) -> None:
        """Let go of what was only visited."""
        self._seen.clear()
        self._skipped.clear()

    def add(self, owner: Any, form: Form, name: str) -> None:
        """Record what an object holds, and follow it."""
        content = Content(owner, form, self.keeper.keep)
        self.contents.append(content)
        self.covered.add(id(owner))
        self._follow(form.read(owner), name)

    def _follow(self, values: list[Any], name: str, *, essential: bool = False) -> None:
        for value in values:
            if type(value) not in ATOMS:
                self._pending.append((value, name, essential))

    def _leave_out(self, text: str) -> None:
        if text not in self._named:
            self._named.add(text)
            self.left_out.append(text)

    def _tensor(self, tensor: torch.Tensor, name: str, *, essential: bool) -> None:
        kept = self.keeper.keep(tensor)
        if kept is not tensor:
            return  # its values are remembered; what was computed is not written again
        known = self.tensors.get(id(tensor))
        essential = essential or isinstance(tensor, torch.nn.Parameter)
        self.tensors[id(tensor)] = tensor, known[1] if known else name, essential or (known is not None and known[2])
        if known is None:
            if tensor.is_leaf and tensor.grad is not None:
                self._pending.append((tensor.grad, f"{name}.grad", True))
            if vars(tensor):
                self._pending.append((vars(tensor), name, False))

    def _visit(self, value: Any, name: str) -> None:
        for kinds, visit in self._kinds:
            if isinstance(value, kinds):
                visit(value, name)
                return
        if generator_of(value) is not None:
            self.generators[id(value)] = value
        elif native(value):
            self._place(value, name)
        elif _is_array(value):
            self._array(value, name)
        elif not isinstance(value, _SILENT):
            self._object(value, name)

    def _class(self, value: type, name: str) -> None:
        if made_by_script(value):
            self.add(value, CLASS, name)

    def _items(self, values: list[Any], name: str) -> None:
        if len(values) <= MAX_ITEMS:
            self._follow(values, name)

    def _trained(self, value: Any, name: str) -> None:
        """A module or an optimizer: what it holds, whoever made its class."""
        if isinstance(value, torch.nn.Module):
            self.modules.append((value, name))
            for part, tensor in [*value._parameters.items(), *value._buffers.items()]:
                if tensor is not None:
                    self._pending.append((tensor, f"{name}.{part}", True))
        else:
            self.optimizers.append((value, name))
            for state in list(value.state.values()):
                if isinstance(state, dict):
                    self._follow(list(state.values()), f"the state of {name}", essential=True)
        self.add(vars(value), DICT, name)
        self.covered.add(id(value))
        self._seen[id(vars(value))] = vars(value)

    def _function(self, value: types.FunctionType, name: str) -> None:
        if is_own(value.__code__.co_filename):
            label = value.__qualname__
            for cell in value.__closure__ or ():
                self._pending.append((cell, label, False))
            self._follow([value.__defaults__, value.__kwdefaults__], label)
            self._pending.append((vars(value), label, False))  # also when there are none: some may be set later

    def _loader(self, value: Any, name: str) -> None:
        """A loader's own settings, and what frameworks count in it; not its parts."""
        self.contents.append(Content(vars(value), LOADER, self.keeper.keep))
        self.covered.add(id(value))
        self._follow([part for key, part in vars(value).items() if key not in _LOADER_PARTS], name)
        for key in ("dataset", "sampler", "batch_sampler"):
            self._follow(generators_in(vars(value).get(key)), name)

    def _place(self, value: Any, name: str) -> None:
        self.places.append((value, Place(value), name))
        self.covered.add(id(value))
        self._follow(list(Place.leaves(value)), name)

    def _generator(self, value: Any, name: str) -> None:
        """A generator that waits: its frame. One that runs is among the script's frames."""
        if value.gi_frame is None or value.gi_running:
            return
        state = FrameState(value.gi_frame, self.keeper.keep, waits=True)
        self.frames.append((value, state))
        self.covered.add(id(value))
        self.leaves += [(leaf, state.name, line) for leaf, line in state.leaves]
        self._pending += [(part, f"{label} in {state.name}()", False) for label, part in state.roots]
        state.let_go()

    def _array(self, value: Any, name: str) -> None:
        if value.nbytes > MAX_ARRAY:
            self._leave_out(f"{name}: a NumPy array of {value.nbytes >> 20} MiB, taken to be data that does not change")
        elif value.flags.writeable:
            self.arrays.append(value)
            if value.dtype.hasobject:
                self._follow(value.ravel().tolist(), name)

    def _object(self, value: Any, name: str) -> None:
        form, kind = form_of(value), type(value)
        if form is not None:
            count = len(value) if isinstance(value, Sized) else 0
            if count > MAX_ITEMS:
                self._leave_out(f"{name}: {count:,} entries, taken to be data that does not change")
                return
            self.add(value, form, name)
        if form is not None or is_followed(kind):
            self._attributes(value, name)
        elif kind.__module__ not in _UNNAMED and not kind.__module__.startswith(("torch.", "onthefly")):
            self._leave_out(f"{name}: {kind.__module__}.{kind.__qualname__}")

    def _attributes(self, value: Any, name: str) -> None:
        attributes = getattr(value, "__dict__", None)
        self.covered.add(id(value))
        if isinstance(attributes, dict) and id(attributes) not in self._seen:
            self._seen[id(attributes)] = attributes
            self.contents.append(Content(attributes, DICT, self.keeper.keep))
            for key, part in attributes.items():
                if type(part) not in ATOMS:
                    self._pending.append((part, f"{name}.{key}", False))
        if is_followed(type(value)):
            if has_slots(value):
                self.add(value, SLOTS, name)
            if made_by_script(type(value)):
                self._pending.append((type(value), type(value).__qualname__, False))


def is_followed(kind: type) -> bool:
    """Whether instances of that class are gone into: the script's, and those that have a part in training."""
    module = str(kind.__module__)
    return (
        made_by_script(kind)
        or module.split(".")[0] in PACKAGES
        or module.startswith((*TORCH, TRAINER))
        or f"{module}.{kind.__qualname__}" in _HOLDERS
    )


def _is_array(value: Any) -> bool:
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and hasattr(numpy, "ndarray") and isinstance(value, numpy.ndarray)
