"""Putting an image into this process: what was matched is written in place, what was not is built, loops are set.

First everything that has no counterpart is built, beside the script and without running code of its (``__new__`` of the
plain base, then its attributes); what cannot be built is named, and nothing has been touched. Then all is written.
"""

from __future__ import annotations

import array
import collections
import functools
import io
import itertools
from types import CellType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data.dataloader import _BaseDataLoaderIter  # pyright: ignore[reportPrivateUsage]

from onthefly.state import script, stack, values
from onthefly.state.codes import MISSING, code_id, codes, named
from onthefly.state.contents import CLASS, GLOBALS, SLOTS, form_of
from onthefly.state.frames import has_own_variables, managed, set_variables, variables
from onthefly.state.image import EMPTY_IN_MODULES, OURS
from onthefly.state.iterators import kind_of, length_left
from onthefly.state.matching import found_by_name
from onthefly.state.random import generator_of
from onthefly.state.tensors import grad_of, sample_of, undisturbed
from onthefly.state.walk import is_followed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from onthefly.state.matching import Match

_Base: Any = torch._C.TensorBase  # pyright: ignore[reportPrivateUsage]

_EMPTY: dict[str, Callable[[dict[str, Any]], Any]] = {
    values.type_name(list): lambda node: [],
    values.type_name(dict): lambda node: {},
    values.type_name(set): lambda node: set(),
    values.type_name(bytearray): lambda node: bytearray(),
    values.type_name(collections.OrderedDict): lambda node: collections.OrderedDict(),
    values.type_name(collections.Counter): lambda node: collections.Counter(),
    values.type_name(collections.deque): lambda node: collections.deque(maxlen=node["maxlen"]),
    values.type_name(collections.defaultdict): lambda node: collections.defaultdict(),
    values.type_name(array.array): lambda node: array.array(node["typecode"]),
    values.type_name(CellType): lambda node: CellType(),
}


class Unbuildable(Exception):
    """Something of the image has no counterpart here, and cannot be built."""


class Loading(NamedTuple):
    """A loader's iterator that has to be wound to its place."""

    node: dict[str, Any]
    loader: Any
    live: Any
    """The iterator that is to stand there: the script's, or one that is empty yet."""
    value: Callable[[Any], Any]
    """What a token stands for."""


class Rebuild:
    """One image on its way into this process."""

    def __init__(self, match: Match, winder: Callable[[Loading], None], *, last: bool = False) -> None:
        """``winder(loading)`` lets an iterator of a loader go on from its place.

        ``last``: the script has been run again up to the very step, so that what nobody can read is as it was.
        """
        self._match = match
        self._nodes = match.nodes
        self._winder = winder
        self._last = last
        self._made: dict[int, Any] = {}
        self._late: list[int] = []
        """Nodes whose shell is built and is to be filled."""
        self._memory: dict[int, Tensor] = {}
        self._codes: Optional[dict[tuple[Any, ...], CodeType]] = None

    def check(self) -> None:
        """Build what is missing. Raises :class:`Unbuildable`; nothing of the script's is touched."""
        with undisturbed():
            for number, node in enumerate(self._nodes):
                if node["kind"] == "tensor" and number in self._match.live:
                    self._check_tensor(node, self._match.live[number])
                elif "print" in node and number in self._match.live:
                    self._check_unread(node, self._match.live[number])
            for number in range(len(self._nodes)):
                self.value([number])
            for given in self._match.image["frames"]:
                if given.get("managers"):
                    self._check_managers(given, self._match.frames[self._match.image["frames"].index(given)])

    def write(self) -> None:
        """Put everything there."""
        with undisturbed():
            for number, live in list(self._match.live.items()):
                self._write(self._nodes[number], live)
            for number in self._late:
                self._write(self._nodes[number], self._made[number])
            for number, node in enumerate(self._nodes):
                if node["kind"] == "iterator" and "place" in node:
                    self._set_iterator(node, self._made[number])
            held = dict(script.modules())
            for name, tokens in self._match.image["modules"].items():
                if name in held:
                    GLOBALS.write(held[name], self._values(tokens))
        for number, node in enumerate(self._nodes):
            if node["kind"] == "loading" and not node.get("ended"):
                self._winder(Loading(node, self.value(node["loader"]), self._made[number], self.value))
        with undisturbed():
            self._write_again()
            for frame, given in zip(self._match.frames, self._match.image["frames"]):
                self._write_frame(frame, given)

    def value(self, token: Any) -> Any:
        """What a token stands for in this process."""
        if type(token) is not list:
            return token
        number = token[0]
        if number in self._made:
            return self._made[number]
        node = self._nodes[number]
        live = self._match.live.get(number, MISSING)
        if node["kind"] == "sequence":
            made = self._sequence(node, live)
        elif live is not MISSING and (node["kind"] != "iterator" or self._usable(node, live)):
            made = live
        else:
            made = _BUILDERS[node["kind"]](self, number, node)
        self._made[number] = made
        return made

    def _values(self, tokens: list[Any]) -> list[Any]:
        return [self.value(token) for token in tokens]

    # -- building

    def _shell(self, number: int, made: Any) -> Any:
        """Known before its content, which may lead back to it."""
        self._made[number] = made
        self._late.append(number)
        return made

    def _build_object(self, number: int, node: dict[str, Any]) -> Any:
        maker = _EMPTY.get(node["type"])
        if maker is not None:
            return self._shell(number, maker(node))
        kind = self.value(node["class"]) if "class" in node else named(node["type"])
        if not isinstance(kind, type) or not is_followed(kind) and not issubclass(kind, (nn.Module, Optimizer)):
            raise Unbuildable(f"{node['name']}, a {node['type'].replace(':', '.')}, is not there, and cannot be built")
        base = next((one for one in kind.__mro__ if one.__module__ == "builtins"), object)
        made = base.__new__(kind)
        if issubclass(kind, nn.Module):
            for name, empty in EMPTY_IN_MODULES.items():
                object.__getattribute__(made, "__dict__")[name] = empty()
        return self._shell(number, made)

    def _sequence(self, node: dict[str, Any], live: Any) -> Any:
        items = self._values(node["items"])
        if live is not MISSING and len(live) == len(items) and all(a is b for a, b in zip(live, items)):
            return live
        kind = named(node["type"])
        if kind in (tuple, frozenset):
            return kind(items)
        if live is not MISSING:
            kind = type(live)
        if not isinstance(kind, type) or not issubclass(kind, tuple):
            raise Unbuildable(f"{node['name']}, a {node['type']}, cannot be built")
        return tuple.__new__(kind, items)

    def _build_tensor(self, number: int, node: dict[str, Any]) -> Any:
        if "data" not in node:
            base = self._memory_of(node)
            if base is None:
                raise Unbuildable(f"{node['name']}, a large tensor of which only a sample is kept, is not there")
            return base
        shared = self._memory_of(node)
        data: Tensor = node["data"]
        if shared is None or not torch.equal(shared, data.to(shared.device)):
            shared = torch.empty_strided(node["shape"], node["stride"], dtype=node["dtype"], device=node["device"])
            shared.copy_(data)
            if node["whole"] == shared.untyped_storage().nbytes():
                self._memory.setdefault(node["storage"], shared)
        kind = named(node["type"])
        if kind is nn.Parameter:
            made: Any = nn.Parameter(shared, requires_grad=node["needs"])
        elif kind is Tensor:
            made = shared.requires_grad_(node["needs"])
        else:
            raise Unbuildable(f"{node['name']}, a tensor of the class {node['type']}, is not there")
        return self._shell(number, made)

    def _memory_of(self, node: dict[str, Any]) -> Optional[Tensor]:
        """The tensor at that place of memory that is here already: another one has it."""
        if "storage" not in node:
            return None
        base = self._memory.get(node["storage"])
        if base is None:
            for number, other in enumerate(self._nodes):
                if other.get("storage") == node["storage"] and number in self._match.live:
                    base = self._match.live[number]
                    break
        if base is None:
            return None
        whole = torch.empty(0, dtype=node["dtype"], device=base.device).set_(base.untyped_storage())
        return torch.as_strided(whole, node["shape"], node["stride"], node["offset"])

    def _check_tensor(self, node: dict[str, Any], live: Tensor) -> None:
        if "sample" in node and not torch.equal(sample_of(live.detach()), node["sample"]):
            raise Unbuildable(f"{node['name']}, a large tensor of which only a sample is kept, has other values")

    def _check_unread(self, node: dict[str, Any], live: Any) -> None:
        if not self._last and (not node["print"] or values.fingerprint(live) != node["print"]):
            kind = node["type"].replace(":", ".")
            raise Unbuildable(f"{node['name']}, a {kind}, was changed by the run, and only the script can do that again")

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
        cells = tuple(self._values(node["cells"]))
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
        function, args, keywords = self._values(node["parts"])
        return functools.partial(function, *args, **keywords)

    def _build_member(self, number: int, node: dict[str, Any]) -> Any:
        members = getattr(self.value(node["class"]), "__members__", {})
        if node["member"] not in members:
            raise Unbuildable(f"{node['name']} ({node['member']}) is not there")
        return members[node["member"]]

    def _build_value(self, number: int, node: dict[str, Any]) -> Any:
        made = values.decode(node, self._values(node["parts"]))
        if made is MISSING:
            raise Unbuildable(f"{node['name']}, a {node['type']}, cannot be built")
        return made

    def _build_array(self, number: int, node: dict[str, Any]) -> Any:
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
            import numpy

            bits: Any = getattr(numpy.random, node["state"]["bit_generator"])
            return self._shell(number, numpy.random.Generator(bits()))
        raise Unbuildable(f"{node['name']}, a {node['type']}, cannot be built")

    def _build_iterator(self, number: int, node: dict[str, Any]) -> Any:
        made = self._remade(node) if node["type"] not in _ADVANCED else iter(())
        if made is None:
            raise Unbuildable(f"{node['name']}, a {node['type']}, cannot be set to its place")
        return made

    def _build_buffer(self, number: int, node: dict[str, Any]) -> Any:
        return self._shell(number, io.StringIO() if node["type"].endswith("StringIO") else io.BytesIO())

    def _build_loading(self, number: int, node: dict[str, Any]) -> Any:
        if node.get("ended"):
            return iter(())
        kind = named(node["type"])
        if not isinstance(kind, type) or not issubclass(kind, _BaseDataLoaderIter):
            raise Unbuildable(f"{node['name']}, a {node['type']}, is not there")
        made: Any = object.__new__(kind)
        vars(made)["_shutdown"] = True  # it has no workers to end, whatever becomes of it
        self._made[number] = made
        return made

    def _refuse(self, number: int, node: dict[str, Any]) -> Any:
        what = node.get("type", node["kind"]).replace(":", ".")
        raise Unbuildable(f"{node['name']}, a {what}, is not there")

    # -- writing

    def _write(self, node: dict[str, Any], live: Any) -> None:
        kind = node["kind"]
        if "attributes" in node:
            self._write_attributes(node, live)
        if "slots" in node:
            SLOTS.write(live, self._values(node["slots"]))
        writer = _WRITERS.get(kind)
        if writer is not None:
            writer(self, node, live)

    def _write_attributes(self, node: dict[str, Any], live: Any) -> None:
        held: Any = getattr(live, "__dict__", None)
        if held is None:
            return
        wanted = {key: self.value(token) for key, token in node["attributes"].items()}
        for key, value in wanted.items():
            if key not in held or held[key] is not value:
                held[key] = value
        if node["kind"] != "object":
            return  # of a data set, a loader, a function only settings are known
        for key in [key for key in held if key not in wanted]:
            if isinstance(live, nn.Module) and key in EMPTY_IN_MODULES:
                held[key].clear()
            elif not values.is_ours(held[key]):
                del held[key]

    def _write_object(self, node: dict[str, Any], live: Any) -> None:
        form = form_of(live)
        if form is not None and "content" in node:
            wanted, now = self._values(node["content"]), form.read(live)
            if len(now) != len(wanted) or any(not _same(one, other) for one, other in zip(now, wanted)):
                form.write(live, wanted)
        if "factory" in node:
            live.default_factory = self.value(node["factory"])

    def _write_class(self, node: dict[str, Any], live: Any) -> None:
        if "content" in node:
            CLASS.write(live, self._values(node["content"]))

    def _write_tensor(self, node: dict[str, Any], live: Tensor) -> None:
        if "data" in node and live.is_leaf:
            plain = _Base.detach(live)
            if not torch.equal(plain, node["data"].to(plain.device)) or plain.dtype.is_floating_point:
                plain.copy_(node["data"])
        if live.is_leaf:
            if node.get("needs", live.requires_grad) != live.requires_grad:
                live.requires_grad_(node["needs"])
            grad = self.value(node.get("grad"))
            if grad_of(live) is not grad:
                live.grad = grad

    def _write_array(self, node: dict[str, Any], live: Any) -> None:
        if "data" not in node or live is node["data"]:
            return
        if live.shape == node["data"].shape and live.dtype == node["data"].dtype and live.flags.writeable:
            live[...] = node["data"]
        elif live.tobytes() != node["data"].tobytes():
            raise Unbuildable(f"{node['name']}, an array of another shape")

    def _write_random(self, node: dict[str, Any], live: Any) -> None:
        kind: Any = generator_of(live)
        kind.write(live, node["state"])

    def _write_function(self, node: dict[str, Any], live: FunctionType) -> None:
        live.__defaults__ = self.value(node["defaults"])
        live.__kwdefaults__ = self.value(node["keywords"])
        for cell, token in zip(live.__closure__ or (), node["cells"]):
            other = self.value(token)
            if cell is not other:  # of another call: it holds the same
                form: Any = form_of(cell)
                form.write(cell, self._values(self._nodes[token[0]]["content"]))

    def _write_buffer(self, node: dict[str, Any], live: Any) -> None:
        live.seek(0)
        live.truncate()
        live.write(node["text"])
        live.seek(node["at"])

    def _write_again(self) -> None:
        """What winding the loaders has moved, and iterators that can be made only over what is written."""
        for number, node in enumerate(self._nodes):
            if node["kind"] in ("random", "data"):
                self._write(node, self._made[number])
            elif node["kind"] == "iterator" and node["type"] in _ADVANCED:
                if not self._stands(node, self._made[number]):
                    self._made[number] = _advanced(node, self.value(node["over"]))

    def _set_iterator(self, node: dict[str, Any], live: Any) -> None:
        kind: Any = kind_of(live)
        if kind is not None:
            kind.write(live, _place(node, live))

    def _usable(self, node: dict[str, Any], live: Any) -> bool:
        """Whether that iterator can be set to its place, stands there, or is made anew at the end."""
        return self._settable(node, live) or self._stands(node, live) or node["type"] in _ADVANCED

    def _settable(self, node: dict[str, Any], live: Any) -> bool:
        kind = kind_of(live)
        if kind is None or "place" not in node:
            return False
        if "over" in node and self.value(node["over"]) is not live.__reduce__()[1][0]:
            return False
        inner = kind.inner(live)
        same = len(inner) == len(node["inner"]) and all(
            self.value(token) is one for token, one in zip(node["inner"], inner)
        )
        return same and kind.agree(_place(node, live), kind.read(live))

    def _stands(self, node: dict[str, Any], live: Any) -> bool:
        return "place" not in node and node.get("left") is not None and length_left(live) == node["left"]

    def _remade(self, node: dict[str, Any]) -> Any:
        maker = _REMAKERS.get(node["type"])
        if maker is None or "place" not in node:
            return None
        held = self.value(node["over"]) if "over" in node else None
        return maker(node, held, self._values(node["inner"]), self.value(node.get("function")))

    # -- frames

    def _write_frame(self, frame: FrameType, given: dict[str, Any], *, waits: bool = False) -> None:
        if given.get("stack") or given.get("managers"):
            held = stack.read(frame, waits=waits)[0]
            for at, inner in given["managers"].items():
                waiting = managed(held[int(at)])
                if waiting is not None:
                    self._write_frame(waiting, inner, waits=True)
            for at, token in given["stack"].items():
                value = self.value(token)
                if not _same(held[int(at)], value):
                    stack.write(frame, int(at), value)
        if "variables" in given and has_own_variables(frame):
            foreign = not script.is_own(frame.f_code.co_filename)
            kept = {
                name: value
                for name, value in variables(frame).items()
                if values.is_ours(value) or (foreign and name in OURS)
            }
            set_variables(frame, {**{n: self.value(token) for n, token in given["variables"].items()}, **kept})

    def _check_managers(self, given: dict[str, Any], frame: FrameType) -> None:
        held = stack.read(frame)[0]
        for at in given["managers"]:
            if managed(held[int(at)]) is None:
                raise Unbuildable("what is managed by a with block is not there")


def _same(now: Any, wanted: Any) -> bool:
    """Whether nothing is to be written: the very object, or a method of it that is made anew at each look."""
    if now is wanted:
        return True
    if isinstance(now, MethodType) and isinstance(wanted, MethodType):
        return now.__self__ is wanted.__self__ and now.__func__ is wanted.__func__
    return False


def _place(node: dict[str, Any], live: Any) -> Any:
    place = node["place"]
    if "over" in node:
        return id(live.__reduce__()[1][0]), place
    return tuple(place) if isinstance(place, list) else place


def _make_range(node: dict[str, Any], held: Any, inner: list[Any], function: Any) -> Any:
    made: Any = iter(range(1))
    kind: Any = kind_of(made)
    kind.write(made, tuple(node["place"]))
    return made


def _make_sequential(node: dict[str, Any], held: Any, inner: list[Any], function: Any) -> Any:
    made: Any = reversed(held) if node["type"].endswith("reverseiterator") else iter(held)
    made.__setstate__(node["place"])
    return made


def _make_islice(node: dict[str, Any], held: Any, inner: list[Any], function: Any) -> Any:
    if len(inner) != 1:
        return None
    made = itertools.islice(inner[0], node["place"][0], None if node["place"][1] < 0 else node["place"][1])
    kind: Any = kind_of(made)
    now = kind.read(made)
    kind.write(made, tuple(node["place"]))
    return made if now[1] == node["place"][1] else None


_REMAKERS: dict[str, Callable[[dict[str, Any], Any, list[Any], Any], Any]] = {
    values.type_name(type(iter(range(0)))): _make_range,
    values.type_name(enumerate): lambda node, held, inner, function: enumerate(inner[0], node["place"]),
    values.type_name(zip): lambda node, held, inner, function: zip(*inner),
    values.type_name(map): lambda node, held, inner, function: map(function, *inner),
    values.type_name(filter): lambda node, held, inner, function: filter(function, *inner),
    values.type_name(itertools.count): lambda node, held, inner, function: itertools.count(node["place"][1]),
    values.type_name(itertools.islice): _make_islice,
    **{
        values.type_name(type(one)): _make_sequential
        for one in (iter([]), iter(()), iter(""), iter("é"), iter(b""), reversed([]))
    },
}

_ADVANCED: dict[str, Callable[[Any], Any]] = {
    values.type_name(type(iter({}))): iter,
    values.type_name(type(iter({}.values()))): lambda held: iter(held.values()),
    values.type_name(type(iter({}.items()))): lambda held: iter(held.items()),
    values.type_name(type(iter(collections.deque()))): iter,
}
"""Iterators that cannot be set, only taken forward; over a set they have no order that another process knows."""


def _advanced(node: dict[str, Any], held: Any) -> Any:
    made = _ADVANCED[node["type"]](held)
    for _ in range(len(held) - node["left"]):
        next(made)
    return made


_BUILDERS: dict[str, Callable[[Rebuild, int, dict[str, Any]], Any]] = {
    "object": Rebuild._build_object,
    "tensor": Rebuild._build_tensor,
    "function": Rebuild._build_function,
    "class": Rebuild._build_named,
    "named": Rebuild._build_named,
    "method": Rebuild._build_method,
    "builtin": Rebuild._build_builtin,
    "partial": Rebuild._build_partial,
    "member": Rebuild._build_member,
    "value": Rebuild._build_value,
    "plain": lambda rebuild, number, node: node["value"],
    "array": Rebuild._build_array,
    "random": Rebuild._build_random,
    "iterator": Rebuild._build_iterator,
    "buffer": Rebuild._build_buffer,
    "loading": Rebuild._build_loading,
    "data": Rebuild._refuse,
    "generator": Rebuild._refuse,
    "running": Rebuild._refuse,
    "opaque": Rebuild._refuse,
    "file": Rebuild._refuse,
    "ours": Rebuild._refuse,
}

_WRITERS: dict[str, Callable[[Rebuild, dict[str, Any], Any], None]] = {
    "object": Rebuild._write_object,
    "class": Rebuild._write_class,
    "tensor": Rebuild._write_tensor,
    "array": Rebuild._write_array,
    "random": Rebuild._write_random,
    "function": Rebuild._write_function,
    "buffer": Rebuild._write_buffer,
    "generator": lambda rebuild, node, live: rebuild._write_frame(live.gi_frame, node["frame"], waits=True),
}
