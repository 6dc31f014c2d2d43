"""Objects of this process for the nodes of an image: those that were matched, and new ones for the rest.

New ones are made without running code of theirs: ``__new__`` of the plain base, to be filled later. Nothing of the
script's is touched.
"""

from __future__ import annotations

import array
import collections
import functools
import gc
import io
import operator
import os
import sys
from collections import Counter
from types import CellType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data.dataloader import _BaseDataLoaderIter  # pyright: ignore[reportPrivateUsage]

from onthefly.bundle import arrays
from onthefly.state import remaking, script, values
from onthefly.state.codes import MISSING, code_id, codes, named
from onthefly.state.image import EMPTY_IN_MODULES
from onthefly.state.matching import found_by_name
from onthefly.state.tensors import fill
from onthefly.state.walk import is_followed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import CodeType

    from onthefly.state.matching import Match


class Unbuildable(Exception):
    """Something of the image has no counterpart here, and cannot be built."""


def _nothing() -> Generator[None, None, None]:
    yield None


ENDED = _nothing()
"""A generator that gives nothing any more: one is like the other."""
ENDED.close()


class LostGraph(torch.autograd.Function):
    """The graph of a tensor that no step has used so far, and that no other process can have."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """The values alone."""
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """A step wants it after all: better an error than another result."""
        raise RuntimeError("onthefly: a tensor that was computed before the resume is used in a backward after it")


def one_text(text: str) -> str:
    """That text as the one object that code has of it, where it is a name: pickle writes again what it has not met."""
    return sys.intern(text) if text.isidentifier() else text


class Builder:
    """What each token of an image stands for in this process."""

    def __init__(self, match: Match) -> None:
        self._match = match
        self._nodes = match.nodes
        self.made: dict[int, Any] = {}
        """By node."""
        self.late: list[int] = []
        """Nodes whose shell is built and is to be filled."""
        self._memory: dict[int, Tensor] = {}
        """New memory of several tensors, by the image's number of it."""
        self._theirs: dict[int, Tensor] = {}
        """A tensor of the script's in the memory of that number."""
        self._sharing: Optional[Counter[int]] = None
        self._codes: Optional[dict[tuple[Any, ...], CodeType]] = None

    def value(self, token: Any) -> Any:
        """What a token stands for in this process."""
        if type(token) is not list:
            return one_text(token) if type(token) is str else token
        number = token[0]
        if number in self.made:
            return self.made[number]
        node = self._nodes[number]
        live = self._match.live.get(number, MISSING)
        if node["kind"] == "sequence":
            made = self._sequence(node, live)
        elif live is not MISSING and self._usable(node, live):
            made = live
        else:
            made = _BUILDERS[node["kind"]](self, number, node)
        self.made[number] = made
        return made

    def values(self, tokens: list[Any]) -> list[Any]:
        """What each of them stands for."""
        return [self.value(token) for token in tokens]

    def _usable(self, node: dict[str, Any], live: Any) -> bool:
        """Whether what was matched can become what it is to be: some of it can never be changed."""
        kind = node["kind"]
        if kind == "iterator":
            return remaking.usable(node, live, self.value)
        if kind == "method":
            return live.__self__ is self.value(node["owner"]) and live.__func__ is self.value(node["function"])
        if kind == "calling":
            held = gc.get_referents(live)
            return len(held) == len(node["parts"]) and all(map(operator.is_, held, self.values(node["parts"])))
        if kind == "array" and "shares" not in node:
            return self._array_stands(node, live)
        if kind == "function":
            cells = live.__closure__ or ()
            return all(one is self.value(token) for one, token in zip(cells, node["cells"]))
        return True

    def _array_stands(self, node: dict[str, Any], live: Any) -> bool:
        base = arrays.base_of(live)
        if "base" not in node:
            return base is None
        return base is self.value(node["base"]) and [arrays.offset_of(live, base), list(live.strides)] == node["view"]

    # -- building

    def _shell(self, number: int, made: Any) -> Any:
        """Known before its content, which may lead back to it."""
        self.made[number] = made
        self.late.append(number)
        return made

    def _build_object(self, number: int, node: dict[str, Any]) -> Any:
        maker = _EMPTY.get(node["type"])
        if maker is not None:
            return self._shell(number, maker(node))
        kind = self.value(node["class"]) if "class" in node else named(node["type"])
        if not isinstance(kind, type) or (not is_followed(kind) and not issubclass(kind, (nn.Module, Optimizer))):
            raise Unbuildable(f"{node['name']}, a {node['type'].replace(':', '.')}, is not there, and cannot be built")
        base: Any = next((one for one in kind.__mro__ if one.__module__ == "builtins"), object)
        made = base.__new__(kind)
        if issubclass(kind, nn.Module):
            for name, empty in EMPTY_IN_MODULES.items():
                object.__getattribute__(made, "__dict__")[name] = empty()
        return self._shell(number, made)

    def _sequence(self, node: dict[str, Any], live: Any) -> Any:
        items = self.values(node["items"])
        if live is not MISSING and len(live) == len(items) and all(a is b for a, b in zip(live, items)):
            return live
        kind = named(node["type"])
        if kind is frozenset and any(
            token[0] in self.late and type(one).__hash__ is not object.__hash__
            for token, one in zip(node["items"], items)
            if type(token) is list
        ):
            raise Unbuildable(f"{node['name']}, a frozenset of objects that are known by what they hold, is not there")
        if kind in (tuple, frozenset):
            return kind(items)
        if live is not MISSING:
            kind = type(live)
        if node["type"].startswith("torch.return_types:") and isinstance(kind, type):
            return kind(items)
        if not isinstance(kind, type) or not issubclass(kind, tuple):
            raise Unbuildable(f"{node['name']}, a {node['type']}, cannot be built")
        return tuple.__new__(kind, items)

    def _build_tensor(self, number: int, node: dict[str, Any]) -> Any:
        if "data" not in node:
            base = self._memory_of(node)
            if base is None:
                raise Unbuildable(f"{node['name']}, a large tensor of which only a sample is kept, is not there")
            return base
        shared, new = self._memory_of(node), node["storage"] in self._memory
        if shared is None:
            new = True
            shared = torch.empty_strided(node["shape"], node["stride"], dtype=node["dtype"], device=node["device"])
        if new:  # what the script has is not touched yet
            fill(shared, node["data"])
        kind = named(node["type"])
        if kind is nn.Parameter:
            made: Any = nn.Parameter(shared, requires_grad=node["needs"])
        elif node.get("lost"):
            with torch.enable_grad():
                made = LostGraph.apply(shared.detach().requires_grad_())
        elif kind is Tensor:
            made = shared.requires_grad_(node["needs"])
        else:
            raise Unbuildable(f"{node['name']}, a tensor of the class {node['type']}, is not there")
        return self._shell(number, made)

    def _memory_of(self, node: dict[str, Any]) -> Optional[Tensor]:
        """The tensor at that place of memory, where others lie there too; None where it has its memory alone."""
        if "storage" not in node:
            return None
        if self._sharing is None:
            self._sharing = Counter(other["storage"] for other in self._nodes if "storage" in other)
            for number, live in self._match.live.items():
                if "storage" in self._nodes[number]:
                    self._theirs[self._nodes[number]["storage"]] = live
        base = self._theirs.get(node["storage"], self._memory.get(node["storage"]))
        if base is None and self._sharing[node["storage"]] > 1:
            base = self._memory[node["storage"]] = torch.empty(node["whole"], dtype=torch.uint8, device=node["device"])
        if base is None:
            return None
        made = torch.empty(0, dtype=node["dtype"], device=base.device)
        return made.set_(base.untyped_storage(), node["offset"], node["shape"], node["stride"])

    def _build_function(self, number: int, node: dict[str, Any]) -> Any:
        found = found_by_name(node)
        if found is not MISSING and not node["cells"]:
            return self._shell(number, found)
        if self._codes is None:
            self._codes = {tuple(code_id(code)): code for code in codes(self._match.frames)}
        code = self._codes.get(tuple(node["code"]))
        variables_there = next((held for name, held in script.modules() if name == node["module"]), None)
        if code is None or variables_there is None:
            raise Unbuildable(f"{node['name']}, a function of line {node['code'][2]}, is not there")
        cells = tuple(self.values(node["cells"]))
        return self._shell(number, FunctionType(code, variables_there, closure=cells))

    def _build_named(self, number: int, node: dict[str, Any]) -> Any:
        found = found_by_name(node)
        if found is MISSING:
            raise Unbuildable(f"{node['name']} ({node.get('full') or node.get('qualified')}) is not there")
        if node["kind"] == "class":
            return self._shell(number, found)
        return found

    def _build_method(self, number: int, node: dict[str, Any]) -> Any:
        return MethodType(self.value(node["function"]), self.value(node["owner"]))

    def _build_builtin(self, number: int, node: dict[str, Any]) -> Any:
        return getattr(self.value(node["owner"]), node["called"])

    def _build_partial(self, number: int, node: dict[str, Any]) -> Any:
        return self._shell(number, functools.partial(self.value(node["parts"][0])))  # its keywords are not filled yet

    def _build_calling(self, number: int, node: dict[str, Any]) -> Any:
        return iter(*self.values(node["parts"])) if node["parts"] else iter(())

    def _build_exception(self, number: int, node: dict[str, Any]) -> Any:
        kind: Any = self.value(node["class"])
        base = next(one for one in kind.__mro__ if one.__module__ == "builtins")
        return self._shell(number, base.__new__(kind, *self.value(node["args"])))

    def _build_member(self, number: int, node: dict[str, Any]) -> Any:
        kind: Any = self.value(node["class"])
        if "flags" in node:
            return kind(node["flags"])
        members = getattr(kind, "__members__", {})
        if node["member"] not in members:
            raise Unbuildable(f"{node['name']} ({node['member']}) is not there")
        return members[node["member"]]

    def _build_value(self, number: int, node: dict[str, Any]) -> Any:
        made = values.decode(node, self.values(node["parts"]))
        if made is MISSING:
            raise Unbuildable(f"{node['name']}, a {node['type']}, cannot be built")
        return made

    def _build_array(self, number: int, node: dict[str, Any]) -> Any:
        if "shares" in node:
            raise Unbuildable(f"{node['name']}, an array in the memory of a {node['shares']}, is not there")
        if "base" in node:
            return arrays.view_of(self.value(node["base"]), node["shape"], node["dtype"], *node["view"])
        if "items" in node:
            return self._shell(number, arrays.of_objects(node["shape"]))
        if "data" not in node:
            raise Unbuildable(f"{node['name']}, a large array that is not kept, is not there")
        return node["data"]

    def _build_random(self, number: int, node: dict[str, Any]) -> Any:
        kind = named(node["type"])
        if kind is torch.Generator:
            return self._shell(number, torch.Generator(device=node["device"]))
        if node["type"] in ("random:Random", "numpy.random.mtrand:RandomState", "numpy.random:RandomState"):
            return self._shell(number, kind())
        if node["type"] == "numpy.random._generator:Generator":
            bits: Any = getattr(sys.modules["numpy"].random, node["state"]["bit_generator"])
            return self._shell(number, kind(bits()))
        raise Unbuildable(f"{node['name']}, a {node['type']}, cannot be built")

    def _build_iterator(self, number: int, node: dict[str, Any]) -> Any:
        made = remaking.remade(node, self.value)
        if made is None:
            raise Unbuildable(f"{node['name']}, a {node['type']}, cannot be set to its place")
        return made

    def _build_generator(self, number: int, node: dict[str, Any]) -> Any:
        return ENDED if node.get("ended") else self._refuse(number, node)

    def _build_file(self, number: int, node: dict[str, Any]) -> Any:
        if node["file"]["kind"] == "memory":
            return self._shell(number, io.StringIO() if node["type"].endswith("StringIO") else io.BytesIO())
        if node["file"]["kind"] == "closed" and type(node["file"]["name"]) is str:
            return _closed(node["file"]["name"], node["file"]["mode"])
        return self._refuse(number, node)

    def _build_loading(self, number: int, node: dict[str, Any]) -> Any:
        if node.get("ended"):
            return iter(())
        kind = named(node["type"])
        if not isinstance(kind, type) or not issubclass(kind, _BaseDataLoaderIter):
            raise Unbuildable(f"{node['name']}, a {node['type']}, is not there")
        made: Any = object.__new__(kind)
        vars(made)["_shutdown"] = True  # it has no workers to end, whatever becomes of it
        self.made[number] = made
        return made

    def _refuse(self, number: int, node: dict[str, Any]) -> Any:
        what = node.get("type", node["kind"]).replace(":", ".")
        raise Unbuildable(f"{node['name']}, a {what}, is not there")


def _closed(name: str, mode: str) -> Any:
    """A file of that name that was open once; the one on the disk is not touched."""
    file = open(name, mode, opener=lambda path, flags: os.open(os.devnull, flags & ~os.O_EXCL))  # noqa: SIM115
    file.close()
    return file


_EMPTY: dict[str, Callable[[dict[str, Any]], Any]] = {
    values.type_name(list): lambda node: [],
    values.type_name(dict): lambda node: {},
    values.type_name(set): lambda node: set(),
    values.type_name(bytearray): lambda node: bytearray(),
    values.type_name(collections.OrderedDict): lambda node: collections.OrderedDict(),
    values.type_name(collections.Counter): lambda node: collections.Counter(),
    values.type_name(collections.deque): lambda node: collections.deque(maxlen=node["maxlen"]),
    values.type_name(collections.defaultdict): lambda node: collections.defaultdict(),
    values.type_name(array.array): lambda node: array.array(node["typecode"]),  # pyright: ignore[reportDeprecated]
    values.type_name(CellType): lambda node: CellType(),
}

_BUILDERS: dict[str, Callable[[Builder, int, dict[str, Any]], Any]] = {
    "object": Builder._build_object,
    "tensor": Builder._build_tensor,
    "function": Builder._build_function,
    "class": Builder._build_named,
    "named": Builder._build_named,
    "method": Builder._build_method,
    "builtin": Builder._build_builtin,
    "partial": Builder._build_partial,
    "member": Builder._build_member,
    "value": Builder._build_value,
    "plain": lambda builder, number, node: node["value"],
    "array": Builder._build_array,
    "random": Builder._build_random,
    "iterator": Builder._build_iterator,
    "loading": Builder._build_loading,
    "data": Builder._refuse,
    "generator": Builder._build_generator,
    "calling": Builder._build_calling,
    "exception": Builder._build_exception,
    "running": Builder._refuse,
    "opaque": Builder._refuse,
    "csv": Builder._refuse,
    "file": Builder._build_file,
    "ours": Builder._refuse,
}
