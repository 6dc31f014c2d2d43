"""What is known of a traced step: its operations, what of a tensor was told to Python, and what calls are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from onthefly.state.random import RandomStates

SIZES = {"shape", "size", "__len__", "numel", "nelement", "stride", "storage_offset", "nbytes"}
"""Calls that tell how many values there are, and none of them."""

HARMLESS = {
    "dim", "ndim", "ndimension", "dtype", "device", "layout", "requires_grad", "is_leaf", "grad_fn", "grad", "_version",
    "is_cuda", "is_cpu", "is_sparse", "is_quantized", "is_floating_point", "is_complex", "is_contiguous", "names",
    "element_size", "get_device", "output_nr", "_backward_hooks", "is_mps", "is_meta", "is_nested", "type", "_base",
    "requires_grad_", "register_hook", "backward", "retain_grad", "is_same_size", "is_signed", "is_inference", "_grad",
    "is_pinned", "is_shared", "data_ptr", "untyped_storage", "name", "is_mkldnn", "is_xla", "is_xpu", "is_mtia",
    "__hash__", "retains_grad", "__dir__", "_is_view", "itemsize", "result_type", "can_cast", "is_tensor",
}  # fmt: skip


class Autocast(NamedTuple):
    """As it was for an operation."""

    enabled: dict[str, Any]
    """The dtype by kind of device, where it was on."""
    cached: bool

    @classmethod
    def now(cls) -> Autocast:
        """As it is; torch before 2.4 cannot be asked by the kind of device."""
        found: dict[str, Any] = {}
        if hasattr(torch, "get_autocast_dtype"):
            found = {
                kind: torch.get_autocast_dtype(kind) for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)
            }
        return cls(found, torch.is_autocast_cache_enabled())


class Operation(NamedTuple):
    """One call."""

    function: Any
    args: Any
    """A template, as the next."""
    named: Any
    grad: bool
    autocast: Autocast
    random: RandomStates
    module: nn.Module | None
    """Where it was the call of a module."""
    buffers: list[tuple[nn.Module, str, Tensor]]
    """Of a module: what its buffers held before."""
    modes: list[tuple[nn.Module, bool]]
    """And which of its modules were training."""
    trains: bool
    """It is the call of a module that has parameters."""


class Escape(NamedTuple):
    """Something of a tensor was told to the script's own Python."""

    before: int
    """The number of the next operation."""
    what: str
    size: bool
    """Not values, only how many there are."""


class Step(NamedTuple):
    """A traced step."""

    operations: list[Operation]
    loss: Any
    """Where it comes from."""
    value: Tensor
    """The script's own, detached."""
    batch: Any
    """As it came."""
    escapes: list[Escape]


def is_small(value: Any) -> bool:
    """Whether it may be one object in several places: numbers and texts are."""
    return isinstance(value, (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device))


def name_of(function: Any) -> str:
    """What a call is called; of an attribute, that attribute's name."""
    name = getattr(function, "__name__", "")
    return getattr(getattr(function, "__self__", None), "__name__", name) if name in ("__get__", "__set__") else name


def is_writing(function: Any) -> bool:
    """Whether it writes into its first argument."""
    return not isinstance(function, nn.Module) and writes(name_of(function))


def writes(name: str) -> bool:
    """The same, by its name."""
    return name in ("__setitem__",) or (name.endswith("_") and not name.endswith("__")) or _is_augmented(name)


def _is_augmented(name: str) -> bool:
    return name.startswith("__i") and name.endswith("__") and name not in ("__invert__", "__init__", "__index__",
                                                                          "__int__", "__iter__")  # fmt: skip
