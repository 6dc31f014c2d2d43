"""The state of torch in which our own operators run, untouched by the script's modes."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from torch import Tensor

_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]

DisableTorchFunction: Any = _c.DisableTorchFunction
"""No mode and no tensor subclass of the script's is told of what is done inside."""

dispatch_modes, function_modes, autocasting = (
    _c._len_torch_dispatch_stack, _c._len_torch_function_stack, _c._is_any_autocast_enabled,
)  # fmt: skip
"""Where all three say no (0, 0, False), the script has no mode on but, perhaps, gradients."""

tracing: Callable[[], Any] = _c._get_tracing_state
"""Not None while ``torch.jit.trace`` records, to which sizes are tensors, and our operators part of the program."""

profiling: Callable[[], bool] = _c._autograd._profiler_enabled
"""Whether a profiler of torch's is on, in which operators of ours would be counted."""


REDISPATCHES = "has_torch_function" in torch.autograd.backward.__code__.co_names
"""``backward`` hands itself to modes and tensor subclasses of the script, and comes by again from there."""

CAPTURED = "it is captured into a CUDA graph, which our operators would become part of"


@contextmanager
def undisturbed() -> Generator[None, None, None]:
    """Gradients off, autocast off, and no torch-function mode or tensor subclass of the script's sees our operators."""
    with DisableTorchFunction():  # around the rest: a mode is told of gradients being turned off as well
        enabled = torch.is_grad_enabled()
        _c._set_grad_enabled(False)
        try:
            if autocasting():
                with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
                    yield
            else:
                yield
        finally:
            _c._set_grad_enabled(enabled)


def autocast_as_now(device: str) -> Callable[[], AbstractContextManager[Any]]:
    """What makes autocast as it is now on that kind of device; torch before 2.4 cannot be asked, and has none."""
    if not autocasting() or not hasattr(torch, "get_autocast_dtype") or not torch.is_autocast_enabled(device):
        return nullcontext
    dtype = torch.get_autocast_dtype(device)
    return lambda: torch.autocast(device, dtype, cache_enabled=False)


class Overridden(Exception):
    """Something of the script's would see our operators here: to be done again, undisturbed."""


_PLAIN = {torch.Tensor, torch.nn.Parameter, type(None)}


def intercepted() -> bool:
    """A dispatch mode is active (fake tensors, a counter of operations): operators of ours would show up in it."""
    return dispatch_modes() > 0


def capturing(tensor: Tensor) -> bool:
    """A CUDA graph is being captured: operators of ours would become part of it, and give nothing yet."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def check_plain(*tensors: Tensor | None) -> None:
    """:class:`Overridden` if a tensor's class would see our operators (a data set's own kind of tensor, say)."""
    for tensor in tensors:
        if type(tensor) not in _PLAIN and _c._is_torch_function_enabled():
            raise Overridden
