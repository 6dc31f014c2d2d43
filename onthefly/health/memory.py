"""What the memory is taken by: parameters, gradients, optimizer state, graphs that are kept, and our checkpoints."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import torch

from onthefly.alarms.memory import resident
from onthefly.health.scene import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from onthefly.health.scene import Scene

FULL, TIGHT = 0.95, 0.85
"""Share of the memory that is taken."""

FRAGMENTED, LEAST_BYTES = 0.5, 1 << 30
"""Share of the allocator's memory that holds nothing, and how much that is at least."""

KEPT_GRAPHS = 50
"""Tensors with a graph that live at a pause point: of one step there are a few."""

MB = 1e6


def look(scene: Scene) -> Answer:
    """At what is there now."""
    parameters = [parameter for _, parameter in scene.parameters()]
    states = [
        value for optimizer in scene.optimizers for state in optimizer.state.values()
        for value in (state.values() if isinstance(state, dict) else ()) if isinstance(value, torch.Tensor)  # pyright: ignore[reportUnnecessaryIsInstance]
    ]  # fmt: skip
    graphs = kept_graphs()
    total, left = host()
    rows: list[dict[str, Any]] = [
        {"name": name, "bytes": size} for name, size in (
            ("parameters", _bytes(parameters)),
            ("gradients", _bytes(parameter.grad for parameter in parameters)),
            ("buffers", _bytes(buffer for _, buffer in scene.buffers())),
            ("optimizer state", _bytes(states)),
            ("results with a graph", _bytes(graphs)),
            ("OnTheFly's checkpoints", scene.checkpoints),
        )
    ]  # fmt: skip
    numbers: dict[str, Any] = {
        "resident": resident(), "host_total": total, "host_available": left, "kept_graphs": len(graphs),
    }  # fmt: skip
    device = _accelerator(numbers, rows)
    if len(graphs) > KEPT_GRAPHS:
        return Answer("bad", f"{len(graphs)} results keep the graph of their step alive: memory grows with each",
                      "append loss.item() or loss.detach() instead of loss to lists and sums", numbers,
                      rows)  # fmt: skip
    if device is not None:
        return Answer(*device, numbers, rows)
    if total and left is not None and (total - left) / total > TIGHT:
        share = (total - left) / total
        return Answer("bad" if share > FULL else "warning", f"{share:.0%} of this machine's memory is taken",
                      "fewer or smaller workers, batches, caches; keep --memory for our checkpoints",
                      numbers, rows)  # fmt: skip
    size = f"{(numbers['resident'] or 0) / MB:,.0f} MB of the host" if numbers["resident"] else "an unknown part"
    if "allocated" in numbers:
        size += f" and {numbers['allocated'] / MB:,.0f} MB of the accelerator"
    return Answer("good", f"the process takes {size}", "", numbers, rows)


def kept_graphs() -> list[Tensor]:
    """Tensors that are results of operations and would be back-propagated through."""
    return [
        one for one in gc.get_objects()
        if type(one) is torch.Tensor and one.grad_fn is not None and one.layout is torch.strided
    ]  # fmt: skip


def host() -> tuple[int | None, int | None]:
    """Bytes of the machine's memory, and those that are available; None where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in file)}
        return found["MemTotal"], found["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):
        return None, None


def _accelerator(numbers: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[Any, str, str] | None:
    """What there is to say of CUDA devices that are in use; asking starts none."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    found: tuple[Any, str, str] | None = None
    for device in range(torch.cuda.device_count()):
        allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        if not reserved:
            continue
        total = torch.cuda.get_device_properties(device).total_memory
        peak = torch.cuda.max_memory_allocated(device)
        rows.append({"name": f"cuda:{device}", "bytes": allocated, "reserved": reserved, "peak": peak, "total": total})
        for name, value in (("allocated", allocated), ("reserved", reserved), ("peak", peak), ("total", total)):
            numbers[name] = numbers.get(name, 0) + value
        if peak > FULL * total:
            found = ("warning", f"cuda:{device} was {peak / total:.0%} full at its peak", (
                "smaller batches with accumulated gradients, mixed precision, or checkpointing"))  # fmt: skip
        elif reserved - allocated > max(FRAGMENTED * reserved, LEAST_BYTES) and peak < FRAGMENTED * reserved:
            found = ("warning", f"{(reserved - peak) / MB:,.0f} MB of cuda:{device} are reserved and were never "
                     "needed at once", "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True")  # fmt: skip
    return found


def _bytes(tensors: Iterable[Any]) -> int:
    """What their storages take, each once."""
    sizes: dict[int, int] = {}
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided and tensor.device.type != "meta":
            storage = tensor.untyped_storage()
            sizes[storage._cdata] = storage.nbytes()  # pyright: ignore[reportPrivateUsage]
    return sum(sizes.values())
