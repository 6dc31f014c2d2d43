"""What it takes for a function of ours to stand in the place of one of torch's and not be told from it.

Torch's own are C functions, and ours are Python functions, which differ in what is done with them from outside: the
compiler would look into a frame of ours, TorchScript knows operators by identity, modes and classes of tensors are
told the function's name by C++, a tracer notes the line of the innermost frame, ``pickle`` wants a place where the
function is found, and a function that is an attribute of a class becomes a method of it.

A method of ``Tensor`` needs little of that: C++ looks it up on ``Tensor`` when it tells modes and classes of it, and
finds ours, which is what the script compares it with.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any

import torch
import torch.jit._builtins
from torch import Tensor
from torch.nn.parameter import UninitializedParameter
from torch.overrides import handle_torch_function, has_torch_function

from onthefly.errors import leave_frame_out
from onthefly.instruments.dynamo import skip
from onthefly.patching.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]

function_modes: Callable[[], int] = _c._len_torch_function_stack
"""How many of the script's modes would see a call."""

compiling: Callable[[], bool] = torch.compiler.is_dynamo_compiling
"""True where the compiler reads a frame of ours. That is where ours is an attribute of a class, and became a method, or
has a name that is not in the compiler's table of operators: it takes ours from there where it meets it by name.
(45 ns; ``is_compiling`` costs 120, and is true of tracers too, which see our results as they are.)"""

_HIDDEN = (__file__, handle_torch_function.__code__.co_filename)
"""Files whose frames stand between the script's call and what it raised."""


TRACERS = [
    *[(_c, f"_create_{what}") for what in ("function_from_trace", "function_from_trace_with_dict", "graph_by_tracing")],
    *[(_c.ScriptModule, f"_create_method_from_trace{how}") for how in ("", "_with_dict")],
]
"""All that records a ``torch.jit`` trace."""


class Standing:
    """Functions of ours in the places of torch's: made known there, and taken out while a trace is recorded."""

    def __init__(self, known: bool) -> None:
        """``known``: ours stood there before the script began, so that this is what it compares a function with."""
        self._known = known
        builtins: Any = torch.jit._builtins  # pyright: ignore[reportPrivateUsage]
        self._operators: dict[int, str] = getattr(builtins, "_builtin_table", None) or {}
        """Which function is which operator to ``torch.jit.script``, by ``id``; private to torch, empty if absent."""
        self._scripted: list[int] = []
        """Ours among them."""
        self._lazy: list[Any] = getattr(UninitializedParameter, "_allowed_methods", [])
        """What may be called of the parameters of a lazy module, by identity; filled at the import of torch."""
        self._allowed: list[Any] = []
        """Ours among them."""
        self.slots: list[Slot] = []
        """With ours in them."""
        _forget()
        self._tracers = [Slot(owner, name, self._wrap_tracer) for owner, name in TRACERS if hasattr(owner, name)]

    def disarm(self) -> None:
        """Put back what was there."""
        for slot in (*reversed(self.slots), *self._tracers):
            slot.restore()
        for function in self._scripted:
            self._operators.pop(function, None)
        for function in self._allowed:
            self._lazy.remove(function)
        self._allowed.clear()
        _forget()

    def present(self, original: Callable[..., Any], ours: Any, slot: Slot) -> Callable[..., Any]:
        """Make ours known under the original's name: to the compiler, to TorchScript and to ``pickle``."""
        skip(ours, callees=False)
        if slot.owner in (torch, Tensor):
            ours.__module__ = "torch"
            ours.__qualname__ = slot.name if slot.owner is torch else f"Tensor.{slot.name}"
        operator = self._operators.get(id(original))
        if operator is not None:
            self._operators[id(ours)] = operator
            self._scripted.append(id(ours))
        if original in self._lazy:  # which stays there: whoever holds it may call it as well
            self._lazy.append(ours)
            self._allowed.append(ours)
        return ours

    def otherwise(self, original: Callable[..., Any], ours: Any, args: Any, named: dict[str, Any]) -> tuple[Any, Any]:
        """A call that is not plainly of a tensor: by a mode, of a class of tensors, or as an attribute of a class.

        Its result, and the arguments; None where the call came by here again on its way.
        """
        if args and not isinstance(args[0], Tensor) and _is_attribute(ours, type(args[0])):
            args = args[1:]  # a builtin there is no method, and gets no instance
        overloaded: Sequence[Any] = ()
        if has_torch_function((*args, *named.values())):
            # As C++ does, which does not name a plain tensor among the types.
            overloaded = [value for value in (*args, *named.values()) if type(value) is not Tensor]
        try:
            if self._known and (overloaded or function_modes()):
                return handle_torch_function(ours, overloaded, *args, **named), None
            return original(*args, **named), args
        except BaseException as error:
            while error.__traceback__ is not None and error.__traceback__.tb_frame.f_code.co_filename in _HIDDEN:
                leave_frame_out(error)  # torch's as well, where C++ has none
            raise

    def _wrap_tracer(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        """A tracer names values after the variables of the innermost frame, and notes its line."""

        @functools.wraps(original)
        def trace(*args: Any, **named: Any) -> Any:
            try:
                with contextlib.ExitStack() as aside:
                    for ours in self.slots:
                        aside.enter_context(ours.aside())
                    return original(*args, **named)
            except BaseException as error:
                leave_frame_out(error)
                raise

        return trace


def _forget() -> None:
    """Have torch make its tables of functions anew when it needs them: what stands where has changed."""
    rules = sys.modules.get("torch._dynamo.trace_rules")
    for owner, name in (
        (torch.overrides, "get_ignored_functions"), (torch.overrides, "get_testing_overrides"),
        (torch.overrides, "_get_overridable_functions"), (torch.overrides, "_get_tensor_methods"),
        (rules, "get_torch_obj_rule_map"), (rules, "get_tensor_method"),
    ):  # fmt: skip
        clear: Any = getattr(getattr(owner, name, None), "cache_clear", None)
        if clear is not None:
            clear()


def _is_attribute(ours: Any, owner: type) -> bool:
    return any(value is ours for one in owner.__mro__ for value in vars(one).values())
