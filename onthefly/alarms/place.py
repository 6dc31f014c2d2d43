"""Where in the script an operation runs, read from the Python frames at that moment: in which module, at which line.

Frames, and no module hooks: global hooks would be traced into whatever ``torch.compile`` compiles while they stand,
stay in that code after they are taken out, and print a warning of torch's; and of frames nothing has to be undone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from types import FrameType

_PACKAGES = (os.path.dirname(torch.__file__) + os.sep, os.path.dirname(os.path.dirname(__file__)) + os.sep)
_PARTS = ("_inductor", "_functorch" + os.sep + "_aot_autograd")
_RUNTIME = tuple(_PACKAGES[0] + part + os.sep for part in _PARTS)
_module: Any = nn.Module
_CALLS = frozenset(
    [function.__code__ for name in ("_wrapped_call_impl", "_call_impl") if (function := getattr(_module, name, None))]
)


class Place(NamedTuple):
    """Where an operation runs."""

    inner: nn.Module | None
    """The module whose forward runs; None outside of any."""
    outer: nn.Module | None
    """The one that the script called, in which that one lies."""
    line: str
    """``file:number in function`` of the nearest line that is neither torch's nor ours."""
    compiled: bool
    optimizer: Optimizer | None
    """The one whose step runs."""

    @property
    def name(self) -> str:
        """The inner module's qualified name within the outer one; empty for the outer one itself."""
        if self.outer is None or self.inner is self.outer:
            return ""
        for name, module in self.outer.named_modules(remove_duplicate=False):
            if module is self.inner:
                return name.replace("_orig_mod.", "")
        return ""


NOWHERE = Place(None, None, "", False, None)


def place_of(frame: FrameType | None) -> Place:
    """Where this frame is; some 10 us in a deep model."""
    inner: nn.Module | None = None
    outer: nn.Module | None = None
    optimizer: Optimizer | None = None
    line, compiled = "", False
    while frame is not None:
        code = frame.f_code
        if code in _CALLS:
            outer = frame.f_locals["self"]
            inner = inner if inner is not None else outer
            compiled = compiled or is_compiled(outer)
        elif code.co_filename.startswith(_PACKAGES):
            compiled = compiled or code.co_filename.startswith(_RUNTIME)
            if code.co_name == "step" and isinstance(own := frame.f_locals.get("self"), Optimizer):
                optimizer = own
        elif not line and not code.co_filename.startswith("<"):
            line = f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"
        frame = frame.f_back
    return Place(inner, outer, line, compiled, optimizer)


def is_compiled(module: nn.Module | None) -> bool:
    """By ``torch.compile(module)`` or ``module.compile()``, or to TorchScript."""
    return (
        type(module).__name__ == "OptimizedModule"
        or getattr(module, "_compiled_call_impl", None) is not None
        or isinstance(module, torch.jit.ScriptModule)
    )
