"""Values that are described by what they are (a dtype, a path, a member of an enumeration), and names of types."""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import io
import logging
import os
import pathlib
import pickle
import threading
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset, Sampler

from onthefly.bundle import arrays
from onthefly.state.applying import FOREIGN
from onthefly.state.codes import MISSING, code_id, name_of, named
from onthefly.state.kept import ATOMS
from onthefly.state.random import generator_of
from onthefly.state.script import is_ours as is_ours_file
from onthefly.state.tensors import is_plain, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS_HOOKS = os.path.join("torch", "optim", "optimizer.py")
"""Its loop is the one over the step's hooks, which we are in; its variables have what the step will return."""

MAX_PICKLED = 4 << 20
"""Bytes of a pickle from which on an object of an unknown library is taken for data that does not change."""

MAX_SETTING = 4096
"""Entries of a container in a data set, or a sampler, up to which it is a setting and not the data."""

DTYPE = "numpy:dtype"

_UNNAMED = (
    "builtins",
    "contextlib",
    "functools",
    "weakref",
    "torch",
    "_thread",
    "re",
    "threading",
    "typing",
    "argparse",
)
"""Modules whose objects hold nothing that a script counts on."""

_TELLING = ("tensorboard", "tensorboardX", "wandb", "mlflow", "aim", "comet_ml", "neptune", "rich", "matplotlib")
"""Libraries that are only told something by a script."""

_SILENT = (
    BuiltinFunctionType, FunctionType, MethodType, BaseException, logging.Logger, logging.Handler, threading.Thread,
    threading.Event, io.IOBase, property,
)  # fmt: skip
_CONTAINERS = (list, tuple, dict, set, frozenset, collections.deque)


def type_name(kind: type) -> str:
    """The name under which a type is known in another process."""
    return f"{kind.__module__}:{kind.__qualname__}"


def is_ours(value: Any) -> bool:
    """Whether it is a thing of this package, but for its training loop: each process has its own."""
    kind: Any = value if isinstance(value, (FunctionType, type)) else type(value)
    module = getattr(kind, "__module__", "")
    if not isinstance(module, str) or not module.startswith("onthefly") or module.startswith("onthefly.trainer"):
        return isinstance(value, FunctionType) and is_ours_file(value.__code__.co_filename)
    return module == "onthefly" or module.startswith("onthefly.")


def is_unknown(value: Any) -> bool:
    """Whether it may hold something that the script counts on, which nobody here can read."""
    module = type(value).__module__
    return (
        module.split(".")[0] not in _UNNAMED
        and not isinstance(value, _SILENT)
        and not module.startswith(("onthefly", "_", "logging", "importlib", "types", "inspect"))
        and module.split(".")[0] not in _TELLING
        and not module.startswith("torch.utils.tensorboard")
    )


def is_setting(value: Any, depth: int = 2) -> bool:
    """Whether an attribute of a data set is one that a script turns, not the data."""
    if type(value) in ATOMS or isinstance(value, (Dataset, Sampler, enum.Enum)) or generator_of(value) is not None:
        return True
    if isinstance(value, torch.Tensor):
        return value.numel() <= MAX_SETTING
    if arrays.kind(value):
        return arrays.kind(value) == "scalar" or value.size <= MAX_SETTING
    if type(value) in _CONTAINERS and len(value) <= MAX_SETTING:
        parts: Any = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(is_setting(part, depth - 1) for part in parts)
    return False


def data_print(value: Any) -> str:
    """A digest of what is data in the attributes of a data set or a loader, by samples: its settings are kept instead.

    So one of two data sets of a class is not taken for the other, nor for one that has been read anew.
    """
    found = hashlib.blake2b(digest_size=16)
    held: dict[str, Any] = getattr(value, "__dict__", {})
    for key in sorted(held):
        if key != "_iterator" and not is_setting(held[key]):
            _add(found, key, held[key], 3)
    return found.hexdigest()


def _add(found: Any, key: Any, value: Any, depth: int) -> None:
    kind = type(value)
    found.update(f"{key} {type_name(kind)} ".encode("utf-8", "backslashreplace"))
    if isinstance(value, torch.Tensor):
        found.update(f"{tuple(value.shape)}".encode())
        if is_plain(value) and not value.requires_grad:
            found.update(sample_of(torch.Tensor.detach(value)).cpu().numpy().tobytes())
    elif arrays.kind(value) == "array":
        found.update(f"{value.shape}".encode() + value.reshape(-1)[:: max(value.size // 4096, 1)].tobytes())
    elif isinstance(value, FunctionType):
        found.update(repr(code_id(value.__code__)).encode())
    elif kind in _CONTAINERS:
        found.update(f"{len(value)}".encode())
        parts = list(value.items() if isinstance(value, dict) else () if isinstance(value, (set, frozenset)) else value)
        for part in parts[:: max(len(parts) // 16, 1)] if depth else ():
            _add(found, "", part, depth - 1)
    elif kind in ATOMS:
        found.update(repr(value).encode("utf-8", "backslashreplace"))


def opaque(value: Any) -> dict[str, Any]:
    """What stands for a thing that cannot be described: its type, and its name if it has one."""
    full = name_of(value)
    if full:
        return {"kind": "named", "full": full}
    node = {"kind": "opaque", "type": type_name(type(value))}
    if not isinstance(value, _SILENT) and (hasattr(type(value), "__next__") or hasattr(type(value), "__await__")):
        return {**node, "print": ""}  # it stands somewhere, nobody knows where
    return {**node, "print": fingerprint(value)} if is_unknown(value) else node


def fingerprint(value: Any) -> str:
    """A digest of what pickle would write of it, so that one that has changed is told from one that has not.

    Nothing is ever read back from that. Empty: it cannot be pickled; ``large``: it is data, which does not change.
    """
    sink = _Digest()
    try:
        pickle.Pickler(sink, protocol=4).dump(value)
    except _Large:
        return "large"
    except FOREIGN:
        return ""
    return sink.digest.hexdigest()


class _Large(Exception):
    """More than :data:`MAX_PICKLED`."""


class _Digest:
    """A file that keeps a digest of what is written."""

    def __init__(self) -> None:
        self.digest = hashlib.blake2b(digest_size=16)
        self._size = 0

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self._size += len(data)
        if self._size > MAX_PICKLED:
            raise _Large
        return len(data)


def settings_of(value: Any, token: Callable[[Any], Any]) -> dict[str, Any]:
    """What a container is made with, beside its content."""
    if isinstance(value, collections.deque):
        return {"maxlen": value.maxlen}
    if isinstance(value, collections.defaultdict):
        return {"factory": token(value.default_factory)}
    return {"typecode": value.typecode} if type(value).__module__ == "array" else {}


def encode(value: Any, token: Callable[[Any], Any]) -> dict[str, Any]:
    """An immutable value of a kind that is known, by what it is; empty for others."""
    kind: Any = type(value)
    if kind in (torch.dtype, torch.device, torch.Size):
        return {"kind": "plain", "value": value}
    if value is Ellipsis or value is NotImplemented:
        return {"kind": "named", "full": f"builtins:{'Ellipsis' if value is Ellipsis else 'NotImplemented'}"}
    if kind in (torch.layout, torch.memory_format):
        return {"kind": "named", "full": f"torch:{str(value).partition('.')[2]}"}
    if isinstance(value, enum.Flag) and value.name not in kind.__members__:
        return {"kind": "member", "class": token(kind), "member": "", "flags": value.value}
    if isinstance(value, enum.Enum):
        return {"kind": "member", "class": token(kind), "member": value.name}
    writer = _WRITERS.get(kind)
    parts: Any = writer(value) if writer is not None else None
    if parts is None and isinstance(value, pathlib.PurePath):
        parts = [str(value)]
    if parts is None and kind.__module__ == "zoneinfo" and kind.__name__ == "ZoneInfo":
        parts = [str(value)] if getattr(value, "key", None) else None
    if parts is None and arrays.is_dtype(value):
        return {"kind": "value", "type": DTYPE, "parts": [getattr(value, "str")]}  # noqa: B009 - NumPy's, not imported
    if parts is not None:
        return {"kind": "value", "type": type_name(kind), "parts": [token(part) for part in parts]}
    if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, (type(builtins), type(None))):
        return {"kind": "builtin", "owner": token(value.__self__), "called": value.__name__}
    return {}


def decode(node: dict[str, Any], parts: list[Any]) -> Any:
    """The value of a node of kind ``value``, from its parts; :data:`MISSING` if its type is not known here."""
    name = node["type"]
    reader = _READERS.get(name)
    if reader is not None:
        return reader(*parts)
    kind = named(name)
    known = isinstance(kind, type) and (issubclass(kind, pathlib.PurePath) or name in (DTYPE, "zoneinfo:ZoneInfo"))
    return kind(*parts) if known else MISSING


def _of_moment(value: Any) -> list[Any]:
    return [value.replace(tzinfo=None).isoformat(), value.tzinfo, value.fold]


def _moment(kind: Any, text: str, zone: Any, fold: int) -> Any:
    return kind.fromisoformat(text).replace(tzinfo=zone, fold=fold)


_WRITERS: dict[type, Callable[[Any], Any]] = {
    range: lambda value: [value.start, value.stop, value.step],
    slice: lambda value: [value.start, value.stop, value.step],
    datetime.date: lambda value: [value.isoformat()],
    datetime.datetime: _of_moment,
    datetime.time: _of_moment,
    datetime.timezone: lambda value: value.__getinitargs__(),
    datetime.timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    fractions.Fraction: lambda value: [str(value)],
    decimal.Decimal: lambda value: [str(value)],
}
_READERS: dict[str, Callable[..., Any]] = {
    type_name(range): range,
    type_name(slice): slice,
    type_name(datetime.date): datetime.date.fromisoformat,
    type_name(datetime.datetime): functools.partial(_moment, datetime.datetime),
    type_name(datetime.time): functools.partial(_moment, datetime.time),
    type_name(datetime.timezone): datetime.timezone,
    type_name(datetime.timedelta): datetime.timedelta,
    type_name(fractions.Fraction): fractions.Fraction,
    type_name(decimal.Decimal): decimal.Decimal,
}
