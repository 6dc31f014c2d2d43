"""From the device of the loss to the host, without making the script wait.

On an accelerator nothing is read where it is computed (``.item()`` would stall the pipeline): results go into pinned
memory by non-blocking copies, an event marks their end, and they are read steps later. On the CPU there is nothing to
move.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

_contiguous = Tensor.contiguous
"""As it is before it is watched."""


class Transfer:
    """Some named tensors on their way to the host."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._host = tensors
        self._events: list[Any] = []
        devices = {tensor.device for tensor in tensors.values() if not tensor.is_cpu}
        if devices:
            self._host = {name: _pinned_copy(tensor) for name, tensor in tensors.items()}
            self._events = [_event(device) for device in devices]

    def ready(self) -> bool:
        """Whether everything has arrived; never waits."""
        return all(event.query() for event in self._events)

    def take(self) -> dict[str, Tensor]:
        """The tensors on the host; waits for what is still under way."""
        for event in self._events:
            event.synchronize()
        return self._host


def raw(tensor: Tensor) -> bytes:
    """The elements of a CPU tensor as little-endian bytes (without NumPy, which torch can do without)."""
    tensor = _contiguous(tensor)
    return ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())


def _pinned_copy(tensor: Tensor) -> Tensor:
    if tensor.device.type == "cpu":
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def _event(device: torch.device) -> Any:
    """An event on the current stream of the device, recorded now; works on whatever kind of accelerator it is."""
    module: Any = getattr(torch, device.type)
    event = module.Event()
    event.record(module.current_stream(device))
    return event
