"""Copies of state: trees of plain values with tensors in them, taken so that training waits for the copying only."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onthefly.bundle import arrays
from onthefly.bundle.tagged import MAX_DEPTH, describe
from onthefly.state.encoding import PAIRS, STORED, LeftOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)
_CODE = (FunctionType, MethodType, BuiltinFunctionType, type)


class HostCopies:
    """Copies a tensor into the host's memory. From an accelerator without waiting: into pinned memory, on its stream.

    What the stream does afterwards, such as the next step, comes after the copy, and so cannot change it.
    """

    def __init__(self) -> None:
        self._devices: set[torch.device] = set()
        self._events: list[Any] = []

    def __call__(self, tensor: Tensor) -> Tensor:
        """The copy, row-major; from an accelerator it is filled by the time that :meth:`wait` returns."""
        if tensor.is_cpu:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").copy_(tensor)
        host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
        self._devices.add(tensor.device)
        return host.copy_(tensor, non_blocking=True)

    def finish(self) -> None:
        """On the training thread, after the last copy: mark where in the streams the copies end."""
        for device in self._devices:
            module: Any = getattr(torch, device.type)
            event = module.Event()
            event.record(module.current_stream(device))
            self._events.append(event)

    def wait(self) -> None:
        """On any thread: until all copies are filled."""
        for event in self._events:
            event.synchronize()


class Taker:
    """Copies trees; one tensor in several places is copied once, and is one tensor in the copy too."""

    def __init__(self, copy: Callable[[Tensor], Tensor]) -> None:
        self.left_out: list[str] = []
        """What was not kept, each with its place."""
        self.nbytes = 0
        """Bytes of the tensors copied."""
        self._copy = copy
        self._copied: dict[Any, Tensor] = {}

    def take(self, value: Any, path: str, depth: int = 0) -> Any:
        """A copy that shares nothing mutable with ``value``; a :class:`LeftOut` stands for what has no plain form."""
        kind: Any = type(value)
        if kind in _PLAIN:
            return value
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if depth >= MAX_DEPTH:
            return self.leave(path, "nested too deep, or within itself")
        maker = _MAKERS.get(kind)
        if maker is not None:
            if isinstance(value, dict) and not all(map(_is_key, value)):
                return self.leave(path, "a dictionary with objects as its keys")
            return maker(self, value, path, depth + 1)
        found = arrays.kind(value)
        if found:
            return value.copy() if found == "array" else value
        if kind is bytearray:
            return bytearray(value)
        return self.leave(path, describe(value), code=isinstance(value, _CODE))

    def pairs(self, value: Any, path: str, depth: int) -> Iterable[tuple[Any, Any]]:
        """Keys (as they are) and copies of the values."""
        return [(key, self.take(item, _below(path, key), depth)) for key, item in value.items()]

    def items(self, value: Any, path: str, depth: int) -> list[Any]:
        """Copies of the elements."""
        return [self.take(item, f"{path}[{i}]", depth) for i, item in enumerate(value)]

    def _tensor(self, tensor: Tensor, path: str) -> Any:
        reason = unfit(tensor)
        if reason:
            return self.leave(path, reason)
        # Two objects may be one tensor: state_dict() makes new ones, also for weights that are tied.
        key = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in self._copied:
            self._copied[key] = self._copy(tensor.detach())
            self.nbytes += tensor.numel() * tensor.element_size()
        return self._copied[key]

    def leave(self, path: str, what: str, *, code: bool = False) -> LeftOut:
        """Note that something is not kept, and what stands for it."""
        self.left_out.append(f"{path}: {what}")
        return LeftOut(what, code)


def unfit(tensor: Tensor) -> str:
    """Why a tensor cannot be kept as plain elements; empty: it can."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"a tensor of layout {tensor.layout}" if tensor.layout != torch.strided else "a quantized tensor"
    if tensor.device.type == "meta":
        return "a tensor without elements (meta)"
    if tensor.dtype not in STORED and tensor.dtype not in PAIRS:
        return f"a tensor of {tensor.dtype}"
    kind: Any = type(tensor)
    plain = kind.__torch_dispatch__ is _BASE.__torch_dispatch__ and kind.__torch_function__ is _BASE.__torch_function__
    return "" if plain or kind is Tensor else describe(tensor)


_BASE: Any = nn.Parameter
"""Its subclasses are plain elements, unless they say what operators do with them (parts on several ranks, packed)."""


def tensors_in(value: Any) -> Iterable[Tensor]:
    """All tensors of a tree, each as often as it stands there."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple, deque)) and not isinstance(value, LeftOut):
        for item in value:
            yield from tensors_in(item)


def _below(path: str, key: Any) -> str:
    return f"{path}.{key}" if isinstance(key, str) else f"{path}[{key!r}]"


def _is_key(value: Any) -> bool:
    """Whether an element of a set, or a key, has a plain form."""
    if type(value) in (tuple, frozenset):
        return all(map(_is_key, value))
    return type(value) in _PLAIN or arrays.kind(value) == "scalar"


def _take_default(taker: Taker, value: Any, path: str, depth: int) -> Any:
    return defaultdict(value.default_factory, taker.pairs(value, path, depth))


_MAKERS: dict[Any, Callable[[Taker, Any, str, int], Any]] = {
    dict: lambda taker, *at: dict(taker.pairs(*at)),
    OrderedDict: lambda taker, *at: OrderedDict(taker.pairs(*at)),
    Counter: lambda taker, *at: Counter(dict(taker.pairs(*at))),
    defaultdict: _take_default,
    list: lambda taker, *at: taker.items(*at),
    tuple: lambda taker, *at: tuple(taker.items(*at)),
    deque: lambda taker, value, *at: deque(taker.items(value, *at), value.maxlen),
    set: lambda taker, value, path, _: (
        set(value) if all(map(_is_key, value)) else taker.leave(path, "a set of objects")
    ),
    frozenset: lambda taker, value, path, _: value if _is_key(value) else taker.leave(path, "a set of objects"),
}
