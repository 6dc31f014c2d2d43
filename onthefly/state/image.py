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
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from onthefly.state import describing, script, stack, values
from onthefly.state.codes import code_id
from onthefly.state.contents import GLOBALS, SLOTS, form_of, has_slots
from onthefly.state.flow import Unreadable
from onthefly.state.frames import drivers, has_own_variables, managed, variables
from onthefly.state.graphs import LIVE, graph_of
from onthefly.state.kept import ATOMS
from onthefly.state.tensors import LARGE, detached_copy, grad_of, is_plain, nbytes, sample_of, undisturbed, version_of
from onthefly.state.walk import MAX_ITEMS, MAX_OBJECTS, is_followed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import FrameType

    from onthefly.state.copies import Taker
    from onthefly.state.winding import Began

_PLAIN = frozenset(ATOMS)

FORMAT = 1
"""Of the image: raised when an older one cannot be read any more."""

WRITTEN = 256 << 20
"""Bytes up to which a large tensor that nobody trains, but that was written into, is kept whole."""

OURS = ("post_hook", "pre_hook", "hook")
"""Variables of torch's own frames that hold a hook, which may be ours: each process has its own."""

MAX_NAME = 200
"""Characters of what a value is called: those of a long chain of objects would be as long as the chain."""

EMPTY_IN_MODULES: dict[str, Any] = {name: type(one) for name, one in vars(nn.Module()).items() if one in ({}, set())}
"""What a module of torch has empty at first: left out where it still is, since there are thousands."""


class Tensors(NamedTuple):
    """A tensor that was found, and what will be kept of it."""

    node: dict[str, Any]
    tensor: Tensor
    name: str


class Image:
    """The making of one; on the training thread, in a step's hook."""

    def __init__(
        self, frames: list[FrameType], loading: Callable[[Any], Optional[Began]], unused: Collection[str] = ()
    ) -> None:
        """``frames``: the script's, innermost first. ``loading(iterator)`` tells how a loader's iterator began.

        ``unused``: names of tensors whose graphs are known to be kept and never used.
        """
        self.waiting: list[tuple[str, Tensor]] = []
        """Tensors whose graph may still be used, with their names."""
        self._unused = unused
        self.nodes: list[Any] = []
        self.obstacle = ""
        """Why no other process can go on from here; empty: as far as can be told, one can."""
        self.left_out: list[str] = []
        """What is not in it and may matter, in plain words."""
        self.tensors: list[Tensors] = []
        self.loading = loading
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []
        self._pending: list[tuple[int, Any, str]] = []
        self._essential: set[int] = set()
        self.running = {id(frame): number for number, frame in enumerate(frames)}
        with undisturbed():
            self.obstacle = drivers(frames)
            self.frames = [self.frame(frame) for frame in frames]
            self.modules = {
                name: self.tokens(GLOBALS.read(held), lambda key, module=name: _global(module, key))
                for name, held in script.modules()
            }
            self.logs = {name: self.token(file, f"the log {name}") for name, file in script.log_files()}
            self._follow()

    def finish(self, taker: Taker) -> dict[str, Any]:
        """Copy what it holds; the plain tree of it all. To be called at the same moment.

        ``taker`` is told what is left out.
        """
        with undisturbed():
            storages: dict[int, int] = {}
            for node, tensor, name in self.tensors:
                if "storage" in node:
                    node["storage"] = storages.setdefault(node["storage"], len(storages))
                self._content(node, tensor, name, taker)
        taker.left_out += self.left_out
        self._alive.clear()
        self._numbers.clear()
        self.tensors.clear()
        return {
            "format": FORMAT, "frames": self.frames, "modules": self.modules, "logs": self.logs, "nodes": self.nodes,
            "hooks": RemovableHandle.next_id,
        }  # fmt: skip

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
            self._pending.append((number, value, name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..."))
        return [number]

    def tokens(self, flat: Iterable[Any], name: Callable[[Any], str]) -> list[Any]:
        """Of keys and values in turn."""
        found: list[Any] = []
        key: Any = None
        for number, value in enumerate(flat):
            if number % 2:
                found.append(value if type(value) in _PLAIN else self.token(value, name(key)))
            else:
                key = value
                found.append(self.token(value, "a key"))
        return found

    def items(self, held: Iterable[Any], name: str) -> list[Any]:
        """Of values in their order."""
        return [one if type(one) in _PLAIN else self.token(one, f"{name}[{number}]") for number, one in enumerate(held)]

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

    def frame(self, frame: FrameType, *, waits: bool = False) -> dict[str, Any]:
        """What describes a frame; ``waits``: of a generator that is suspended."""
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
                given["managers"][str(at)] = self.frame(waiting, waits=True)
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
        if isinstance(value, (nn.Module, Optimizer)):
            return self._trained(value, name)
        return describing.describe(self, value, name) or self._object(value, name)

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
                self.tokens(held, lambda key: f"{name}[{key!r}]" if type(key) in _PLAIN else f"a value in {name}")
                if pairs
                else self.items(held, name)
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
                if type(key) is str
                and not values.is_ours(part)
                and not (key in empty and empty[key] is type(part) and not part)
            }
        if has_slots(value):
            node["slots"] = self.tokens(SLOTS.read(value), lambda key: f"{name}.{key}")
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
                self.waiting.append((name, tensor))
                node["lost"] = name in self._unused
                if not node["lost"]:
                    shape = tuple(tensor.shape)
                    self.obstacle = self.obstacle or f"{name}, a tensor of shape {shape}, waits for its backward here"
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
            node["print"] = values.fingerprint(tensor)
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


def _global(module: str, key: str) -> str:
    return key if module == "__main__" else f"{module}.{key}"
