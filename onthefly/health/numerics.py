"""Numbers that are lost or about to be: not finite, subnormal, at the end of a half precision's range; AMP's skips.

Each tensor is read in chunks of :data:`CHUNK` numbers, so that what the check itself takes does not grow with the
model. A subnormal number (not zero, and smaller than the smallest normal one of its type) has fewer digits, and on
many CPUs costs a hundred times a normal one; a few are harmless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from onthefly.alarms.nonfinite import plain
from onthefly.health.scene import MAX_ROWS, Answer, undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from onthefly.health.scene import Scene

CHUNK = 1 << 22
SUBNORMAL_SHARE = 0.01
"""Of a tensor's numbers, from which it is reported."""

NEAR_END = 0.5
"""Share of a half precision's largest number from which a tensor is about to overflow."""

SKIPPED_SHARE, FEWEST_STEPS = 0.05, 20
"""Of a scaler's steps, from which it is reported; how many there have to be. (The first few find the factor.)"""


class Count(NamedTuple):
    """Of one tensor."""

    kind: str
    """``parameter``, ``gradient``, ``buffer``, ``state``."""
    name: str
    numbers: int
    nans: int
    infinities: int
    subnormal: int
    largest: float
    """Share of its type's range; 0 for float32 and wider."""

    @property
    def lost(self) -> int:
        """Numbers that are not finite."""
        return self.nans + self.infinities


def look(scene: Scene) -> Answer:
    """At everything that is there at the pause."""
    tensors = list(_tensors(scene))
    counts: list[Count] = []
    with undisturbed():
        for number, (kind, name, tensor) in enumerate(tensors):
            scene.progress(number, len(tensors), f"numerics: {name}")
            count = _count(kind, name, tensor)
            if count is not None:
                counts.append(count)
    lost = sorted((count for count in counts if count.lost), key=lambda count: -count.lost / count.numbers)
    small = [count for count in counts if count.subnormal > SUBNORMAL_SHARE * count.numbers]
    near = [count for count in counts if count.largest > NEAR_END and not count.lost]
    scaling = scene.scaling
    skipped = scaling.skipped / scaling.steps if scaling.steps else 0.0
    numbers: dict[str, Any] = {
        "tensors": len(counts), "numbers": sum(count.numbers for count in counts),
        "nonfinite": sum(count.lost for count in counts), "subnormal": sum(count.subnormal for count in counts),
        "near_overflow": len(near), "scaler_steps": scaling.steps, "scaler_skipped": scaling.skipped,
    }  # fmt: skip
    rows: list[dict[str, Any]] = [
        {"kind": count.kind, "name": count.name, "numbers": count.numbers, "nan": count.nans,
         "inf": count.infinities, "subnormal": count.subnormal}
        for count in dict.fromkeys([*lost, *near, *small])
    ]  # fmt: skip
    if not counts:
        return Answer("unknown", "no parameter, gradient or buffer is there to be looked at", numbers=numbers)
    verdict, says, do = _judged(lost, near, small, numbers, skipped)
    return Answer(verdict, says, do, numbers, rows[:MAX_ROWS])


def _judged(lost: list[Count], near: list[Count], small: list[Count], numbers: dict[str, Any],
            skipped: float) -> tuple[Any, str, str]:  # fmt: skip
    persistent = [count for count in lost if count.kind != "gradient"]
    often = numbers["scaler_steps"] >= FEWEST_STEPS and skipped > SKIPPED_SHARE
    if persistent:
        return "bad", f"{_several(persistent)} not finite", (
            "go back to a checkpoint from before it (rewind), and find what made it (diagnose)")  # fmt: skip
    if lost and not numbers["scaler_steps"]:
        return "bad", f"{_several(lost)} not finite", (
            "find the operation (diagnose); hold before such a step: watch nonfinite-grad pause")  # fmt: skip
    if often:
        text = f"the gradient scaler skipped {numbers['scaler_skipped']} of {numbers['scaler_steps']} steps"
        return "warning", f"{text} ({skipped:.0%})", (
            "gradients overflow in half precision: use bfloat16, clip them, or a smaller growth_factor")  # fmt: skip
    if near:
        return "warning", f"{_several(near)} near the largest number of half precision", (
            "keep it in float32 or bfloat16, or normalize before it")  # fmt: skip
    if small:
        return "warning", f"{_several(small)} subnormal for more than {SUBNORMAL_SHARE:.0%}", (
            "torch.set_flush_denormal(True), or weight decay that ends above zero")  # fmt: skip
    text = f"all {numbers['numbers']:,} numbers of {numbers['tensors']} tensors are finite"
    if lost:  # which a scaler is there for: the step is left out
        text = f"{_several(lost)} not finite, and the scaler skips such a step"
    return "good", text, ""


def _several(counts: list[Count]) -> str:
    """``parameter 0.weight is``, ``gradient 0.weight and 3 more are``."""
    first = f"{counts[0].kind} {counts[0].name}"
    return f"{first} is" if len(counts) == 1 else f"{first} and {len(counts) - 1} more are"


def _tensors(scene: Scene) -> Iterator[tuple[str, str, Tensor]]:
    names: dict[int, str] = {}
    for name, parameter in scene.parameters():
        names[id(parameter)] = name
        yield "parameter", name, parameter
        if parameter.grad is not None:
            yield "gradient", name, parameter.grad
    for name, buffer in scene.buffers():
        yield "buffer", name, buffer
    for optimizer in scene.optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items() if isinstance(state, dict) else ():  # pyright: ignore[reportUnnecessaryIsInstance]
                if isinstance(value, torch.Tensor):
                    yield "state", f"{key} of {names.get(id(parameter), 'a parameter')}", value


def _count(kind: str, name: str, tensor: Tensor) -> Count | None:
    flat = plain(tensor)
    if flat is None or not flat.numel():
        return None
    if flat.dtype.itemsize == 1:  # eight bits have no operators of their own
        flat = flat.float()
    nans = infinities = subnormal = 0
    largest, about = 0.0, torch.finfo(flat.dtype)
    for chunk in flat.reshape(-1).split(CHUNK):
        size = chunk.abs()
        finite = int(size.isfinite().sum())
        if finite < chunk.numel():
            nans += (found := int(chunk.isnan().sum()))
            infinities += chunk.numel() - finite - found
        subnormal += int(((size < about.tiny) & (size > 0)).sum())
        if flat.dtype.itemsize == 2 and about.max < 1e6 and finite == chunk.numel():
            largest = max(largest, float(size.max()) / about.max)
    return Count(kind, name, flat.numel(), nans, infinities, subnormal, largest)
