"""Which objects of this process are those of an image: matched from the roots down, by the way that leads to them.

A variable of a frame is the variable of that name in the frame at that place; below it an attribute, an entry, an item
is the one of the same name, key or number. An object stands for one node only, the first one that leads to it, and only
if it is of the node's kind; who has no counterpart is built anew later (:mod:`onthefly.state.rebuilding`). Optimizers
and what they train come first: much outside of the graph refers to these.
"""

from __future__ import annotations

import functools
import gc
from collections import deque
from types import FunctionType, GeneratorType, MethodType
from typing import TYPE_CHECKING, Any, Callable

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from onthefly.bundle import arrays
from onthefly.state import openfiles, script, stack
from onthefly.state.codes import MISSING, code_id, named
from onthefly.state.contents import CLASS, GLOBALS, SLOTS, form_of
from onthefly.state.frames import has_own_variables, managed, variables
from onthefly.state.iterators import kind_of, native, over
from onthefly.state.kept import ATOMS
from onthefly.state.tensors import grad_of, is_plain
from onthefly.state.values import data_print, is_ours, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

_PLAIN = frozenset(ATOMS)


class Match:
    """The live objects of an image's nodes."""

    def __init__(self, image: dict[str, Any]) -> None:
        self.image = image
        self.nodes: list[dict[str, Any]] = image["nodes"]
        self.live: dict[int, Any] = {}
        """By node."""
        self.frames: list[FrameType] = []
        self.stacks: list[list[Any]] = []
        self._taken: dict[int, int] = {}
        self._memory: dict[int, int] = {}
        """Storages of this process by those of the image, and the other way round."""
        self._its: dict[int, int] = {}
        self._queue: deque[tuple[int, Any]] = deque()

    def arrived(self, frames: list[FrameType]) -> bool:
        """Whether the script stands where it stood: the same calls at the same instructions."""
        described = self.image["frames"]
        return len(frames) == len(described) and all(stands_at(frame, given) for frame, given in zip(frames, described))

    def go(self, frames: list[FrameType], *, one_by_one: bool = False) -> None:
        """Match everything; :meth:`arrived` is true of these frames.

        All variables before what is below them; or ``one_by_one``, each with all that is below it, which is right
        where a variable was one item of a list that another variable is.
        """
        self.frames = frames
        held = dict(script.modules())
        roots: list[tuple[Any, Any]] = []
        for name, tokens in self.image["modules"].items():
            variables_now = dict(_pairs(GLOBALS.read(held[name]))) if name in held else {}
            roots += [(token, variables_now.get(key, MISSING)) for key, token in _pairs(tokens)]
        for frame, given in zip(reversed(frames), reversed(self.image["frames"])):
            roots += self._frame(frame, given)
        logs = dict(script.log_files())
        roots += [(token, logs.get(name, MISSING)) for name, token in self.image["logs"].items()]
        roots.sort(key=lambda root: not isinstance(root[1], torch.optim.Optimizer))
        for token, value in roots:
            self.bind(token, value)
            if one_by_one or isinstance(value, torch.optim.Optimizer):
                self._drain()
        self._drain()

    def bind(self, token: Any, value: Any) -> None:
        """This value stands where that token stood."""
        if type(token) is not list or value is MISSING or type(value) in _PLAIN:
            return
        number = token[0]
        if number not in self.live and id(value) not in self._taken and self._fits(self.nodes[number], value):
            self.live[number] = value
            if not isinstance(value, MethodType):  # which is made anew each time that it is looked at
                self._taken[id(value)] = number
            self._queue.append((number, value))

    def _drain(self) -> None:
        while self._queue:
            number, value = self._queue.popleft()
            for token, part in self._below(self.nodes[number], value):
                self.bind(token, part)

    def _frame(self, frame: FrameType, given: dict[str, Any], *, waits: bool = False) -> list[tuple[Any, Any]]:
        found: list[tuple[Any, Any]] = []
        if "variables" in given and has_own_variables(frame):
            held = variables(frame)
            found += [(token, held.get(name, MISSING)) for name, token in given["variables"].items()]
        if given.get("stack") or given.get("managers"):
            on_stack = stack.read(frame, waits=waits)[0]
            found += [(token, on_stack[int(at)]) for at, token in given["stack"].items() if int(at) < len(on_stack)]
            for at, inner in given["managers"].items():
                waiting = managed(on_stack[int(at)])
                if waiting is not None and stands_at(waiting, inner):
                    found += self._frame(waiting, inner, waits=True)
        return found

    # -- whether an object can stand for a node

    def _fits(self, node: dict[str, Any], value: Any) -> bool:
        kind = node["kind"]
        if kind in _OF_ONE_TYPE:
            return type_name(type(value)) == node["type"] and (kind not in _FIT or _FIT[kind](node, value))
        if kind == "tensor":
            return self._tensor_fits(node, value)
        if kind in ("generator", "running"):
            return isinstance(value, GeneratorType) and self._generator_fits(node, value)
        return kind in _FIT and _FIT[kind](node, value)  # else immutable: built from its parts

    def _generator_fits(self, node: dict[str, Any], value: GeneratorType[Any, Any, Any]) -> bool:
        frame: Any = value.gi_frame
        if frame is None or node.get("ended"):
            return frame is None and bool(node.get("ended"))
        if node["kind"] == "running":
            return 0 <= node["frame"] < len(self.frames) and frame is self.frames[node["frame"]]
        return not value.gi_running and "frame" in node and stands_at(frame, node["frame"])

    def _tensor_fits(self, node: dict[str, Any], value: Any) -> bool:
        """In the same way in its memory, and this memory for no other: views of one stay views of one."""
        if not isinstance(value, Tensor) or type_name(type(value)) != node["type"]:
            return False
        if "storage" not in node or not is_plain(value):
            return "storage" not in node and not is_plain(value)
        where = value.untyped_storage()
        same = (
            list(value.shape) == node["shape"] and list(value.stride()) == node["stride"]
            and value.dtype == node["dtype"] and str(value.device) == node["device"]
            and value.is_leaf and node["leaf"] and value.storage_offset() == node["offset"]
            and where.nbytes() == node["whole"]
        )  # fmt: skip
        its, ours = node["storage"], where._cdata
        if not same or self._memory.get(its, ours) != ours or self._its.get(ours, its) != its:
            return False
        self._memory[its], self._its[ours] = ours, its
        return True

    # -- what hangs below

    def _below(self, node: dict[str, Any], value: Any) -> Iterator[tuple[Any, Any]]:
        if "attributes" in node:
            held: Any = getattr(value, "__dict__", {})
            for key, token in node["attributes"].items():
                yield token, held.get(key, MISSING)
        if "slots" in node:
            yield from self._entries(node["slots"], dict(_pairs(SLOTS.read(value))))
        yield from self._parts(node["kind"], node, value)

    def _parts(self, kind: str, node: dict[str, Any], live: Any) -> Iterator[tuple[Any, Any]]:
        value: Any = live
        if kind == "object":
            if "class" in node:
                yield node["class"], type(value)
            yield from self._contents(node, value)
        elif kind == "class" and "content" in node:
            yield from self._entries(node["content"], dict(_pairs(CLASS.read(value))))
        elif kind == "tensor":
            yield node.get("grad"), grad_of(value)
        elif kind == "sequence" and "frozenset" not in node["type"]:
            yield from zip(node["items"], value)
        elif kind in _HELD:
            yield from _HELD[kind](node, value)
        elif kind == "generator" and "frame" in node:
            yield from self._frame(value.gi_frame, node["frame"], waits=True)
        elif kind == "iterator" and native(value):
            yield from self._of_iterator(node, value)
        elif kind == "loading" and "loader" in node:
            yield from self._of_loading(node, value)

    def _of_iterator(self, node: dict[str, Any], value: Any) -> Iterator[tuple[Any, Any]]:
        kind = kind_of(value)
        if kind is not None and "inner" in node:
            yield from zip(node["inner"], kind.inner(value))
            yield node.get("over"), over(value)

    def _of_loading(self, node: dict[str, Any], value: Any) -> Iterator[tuple[Any, Any]]:
        """The loader of an iterator that nothing else leads to (``for x in DataLoader(...)``)."""
        source: Any = getattr(value, "_onthefly_began", None)
        loader = source.loader if source is not None else None
        if isinstance(loader, DataLoader):
            yield node["loader"], loader

    def _contents(self, node: dict[str, Any], value: Any) -> Iterator[tuple[Any, Any]]:
        form = form_of(value)
        if form is None or "content" not in node:
            return
        if isinstance(value, dict):
            yield from self._entries(node["content"], value)
        elif not isinstance(value, (set, bytearray)):
            yield from zip(node["content"], form.read(value))
        yield node.get("factory"), getattr(value, "default_factory", MISSING)

    def _entries(self, tokens: list[Any], held: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
        """Values under equal keys; a key that is an object is the live one of its node."""
        unknown: list[tuple[Any, Any]] = []
        for key, token in _pairs(tokens):
            if type(key) is not list:
                yield token, dict.get(held, key, MISSING)
            elif key[0] in self.live and not isinstance(self.live[key[0]], (list, dict, set)):
                yield token, dict.get(held, self.live[key[0]], MISSING)
            else:
                unknown.append((key, token))
        if unknown and len(unknown) == len(held) and len(tokens) == 2 * len(held):
            for (key, token), (live_key, part) in zip(unknown, list(dict.items(held))):
                yield key, live_key
                yield token, part


def _array_fits(node: dict[str, Any], value: Any) -> bool:
    return list(value.shape) == node["shape"] and str(value.dtype) == node["dtype"] and value.flags.writeable


_OF_ONE_TYPE = (
    "object", "iterator", "loading", "random", "opaque", "sequence", "file", "array", "data", "exception", "calling",
    "csv",
)  # fmt: skip
"""Kinds of which an object must have the node's type."""

_FIT: dict[str, Callable[[dict[str, Any], Any], bool]] = {
    "array": _array_fits,
    "data": lambda node, value: data_print(value) == node["data"],
    "file": lambda node, value: node["file"]["kind"] != "closed",
    "ours": lambda node, value: is_ours(value),
    "function": lambda node, value: isinstance(value, FunctionType) and code_id(value.__code__) == node["code"],
    "class": lambda node, value: isinstance(value, type) and type_name(value) == node["qualified"],
    "method": lambda node, value: isinstance(value, MethodType) and value.__func__.__name__ == node["called"],
    "partial": lambda node, value: isinstance(value, functools.partial),
}


def stands_at(frame: FrameType, given: dict[str, Any]) -> bool:
    """Whether that frame is in the same code at the same instruction."""
    return frame.f_lasti == given["at"] and code_id(frame.f_code) == given["code"]


def found_by_name(node: dict[str, Any]) -> Any:
    """What a node with a name stands for here, :data:`~onthefly.state.codes.MISSING` if there is no such thing."""
    full = node.get("full", "")
    if full.endswith(":"):
        return named(full[:-1] + ":")
    value = named(full) if full else MISSING
    if node["kind"] == "function" and value is not MISSING:
        same = isinstance(value, FunctionType) and code_id(value.__code__) == node["code"]
        return value if same else MISSING
    return value


def _pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2]))


def _of_function(node: dict[str, Any], value: FunctionType) -> Iterator[tuple[Any, Any]]:
    yield from zip(node["cells"], value.__closure__ or ())
    yield node["defaults"], value.__defaults__
    yield node["keywords"], value.__kwdefaults__


def _of_array(node: dict[str, Any], value: Any) -> Iterator[tuple[Any, Any]]:
    if "base" in node:
        yield node["base"], arrays.base_of(value)
    elif "items" in node:
        yield from zip(node["items"], value.ravel().tolist())


_HELD: dict[str, Callable[[dict[str, Any], Any], Iterable[tuple[Any, Any]]]] = {
    "function": _of_function,
    "method": lambda node, value: ((node["owner"], value.__self__), (node["function"], value.__func__)),
    "partial": lambda node, value: zip(node["parts"], (value.func, value.args, value.keywords)),
    "csv": lambda node, value: zip(node["files"], openfiles.behind(value)),
    "calling": lambda node, value: zip(node["parts"], gc.get_referents(value)),
    "exception": lambda node, value: ((node["args"], value.args), (node["class"], type(value))),
    "array": _of_array,
}
"""Tokens of what objects of a kind hold, with what one holds now."""
