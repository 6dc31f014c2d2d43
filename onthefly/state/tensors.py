"""What one tensor holds at the pause point, and putting it back into the same tensor.

What training writes is copied: parameters, buffers, optimizer state, gradients, and everything small. Other large
tensors are the script's data; they are not copied but known again by their version counter and a sample of their
values, and a rewind is refused if they have changed. Copies go around every replacement of ours in ``torch.Tensor``
and every mode of the script's.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Optional

import torch

if TYPE_CHECKING:
    from collections.abc import Generator

_c: Any = torch._C
_Base: Any = _c.TensorBase

LARGE = 1 << 20
"""Bytes from which a tensor that nobody trains is not copied."""

SAMPLED = 1 << 16
"""Values of a large tensor that are compared, evenly spread: writes through ``.data`` leave no other trace."""


@contextlib.contextmanager
def undisturbed() -> Generator[None, None, None]:
    """Gradients and autocast off; no mode and no tensor subclass of the script's sees our operators."""
    enabled = torch.is_grad_enabled()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_c.DisableTorchFunction())
        if _c._len_torch_dispatch_stack():
            from torch.utils._python_dispatch import _disable_current_modes

            stack.enter_context(_disable_current_modes())
        _c._set_grad_enabled(False)
        try:
            yield
        finally:
            _c._set_grad_enabled(enabled)


class TensorState:
    """One tensor: where its values lie, what they are, whether it wants a gradient, and which it has."""

    __slots__ = ("_alias", "_content", "_grad", "_leaf", "_needs", "_sample", "_version", "essential", "tensor")

    def __init__(self, tensor: torch.Tensor, *, essential: bool, copied: bool) -> None:
        """``essential``: training writes it, and its shape is part of the model's structure."""
        self.tensor = tensor
        self.essential = essential
        self._leaf = tensor.is_leaf
        self._needs = tensor.requires_grad
        self._grad: Any = grad_of(tensor)
        self._version = version_of(tensor)
        self._alias: Any = None
        self._content: Any = None
        self._sample: Any = None
        if not is_plain(tensor):
            return  # sparse and the like: known by the version alone
        self._alias = _Base.data.__get__(tensor)
        if copied or essential or nbytes(tensor) <= LARGE:
            self._content = _Base.clone(_written(self._alias))
        else:
            self._sample = sample_of(self._alias)

    @property
    def nbytes(self) -> int:
        """Memory that the copy takes."""
        return nbytes(self._content) if self._content is not None else 0

    @property
    def content(self) -> Optional[torch.Tensor]:
        """The copy; None where there is none."""
        return self._content

    @property
    def moved(self) -> bool:
        """Whether it was written since."""
        return version_of(self.tensor) != self._version

    def differs(self, name: str) -> str:
        """Why it cannot be put back; empty: it can."""
        now = self.tensor
        if self._alias is None:
            return f"{name}, a tensor that cannot be copied, has changed since the checkpoint" if self.moved else ""
        data = _Base.data.__get__(now)
        if self.essential and (data.shape != self._alias.shape or data.dtype != self._alias.dtype):
            return f"{name} had the shape {tuple(self._alias.shape)}, and has {tuple(data.shape)} now"
        if self._content is None and (
            self.moved or not _same_memory(data, self._alias) or not torch.equal(sample_of(data), self._sample)
        ):
            return f"{name}, a large tensor that was not copied, has changed since the checkpoint"
        return ""

    def put_back(self) -> None:
        """Write the values into the memory that they were in, let the tensor lie there, and give its gradient back."""
        tensor: Any = self.tensor
        if self._alias is not None:
            if not _same_memory(_Base.data.__get__(tensor), self._alias):
                tensor.data = self._alias
            if self._content is not None:
                with torch.inference_mode(tensor.is_inference()):
                    _Base.copy_(_written(self._alias), self._content)
        if self._leaf and tensor.is_leaf:
            if tensor.requires_grad != self._needs:
                tensor.requires_grad_(self._needs)
            if grad_of(tensor) is not self._grad:
                tensor.grad = self._grad


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether its values lie in memory as its strides say, and can be copied there."""
    kind: Any = type(tensor)
    plain: Any = torch.Tensor
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        return False
    return not (tensor.is_quantized or tensor.is_nested or kind.__torch_dispatch__ is not plain.__torch_dispatch__)


def version_of(tensor: torch.Tensor) -> int:
    """Its version counter; tensors of inference mode have none."""
    return -1 if tensor.is_inference() else tensor._version


def grad_of(tensor: torch.Tensor) -> Optional[torch.Tensor]:
    """The gradient of a leaf; torch warns where others are asked."""
    return _Base.grad.__get__(tensor) if tensor.is_leaf else None


def nbytes(tensor: torch.Tensor) -> int:
    """Bytes of its values."""
    return tensor.numel() * tensor.element_size()


def detached_copy(tensor: torch.Tensor) -> torch.Tensor:
    """The values alone, without the graph."""
    return _Base.clone(_Base.detach(tensor))


def sample_of(tensor: torch.Tensor) -> torch.Tensor:
    """Some of its values as bytes, evenly spread."""
    every = max(tensor.shape[0] // 256, 1) if tensor.dim() else 1
    flat = tensor[::every].reshape(-1) if tensor.dim() else tensor.reshape(-1)
    step = max(flat.numel() // SAMPLED, 1)
    return _Base.clone(flat[::step]).view(torch.uint8)


def _written(tensor: torch.Tensor) -> torch.Tensor:
    """The part of an expanded tensor that is really there."""
    for dimension, (size, stride) in enumerate(zip(tensor.shape, tensor.stride())):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(dimension, 0, 1)
    return tensor


def fill(tensor: torch.Tensor, data: torch.Tensor) -> None:
    """Write these values; of an expanded tensor, into the part that is there."""
    for dimension, (size, stride) in enumerate(zip(tensor.shape, tensor.stride())):
        if stride == 0 and size > 1:
            tensor, data = tensor.narrow(dimension, 0, 1), data.narrow(dimension, 0, 1)
    _Base.copy_(_Base.detach(tensor), data)


def _same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    storage, same = one.untyped_storage(), other.untyped_storage()
    return (
        storage._cdata == same._cdata and one.storage_offset() == other.storage_offset()
        and one.shape == other.shape and one.stride() == other.stride() and one.dtype == other.dtype
    )  # fmt: skip
