"""What of this run can be replayed: the flags, the operations that are known not to be, and one step taken twice.

The step is taken by the script's own loop, from a checkpoint of the pause point; then the script goes back there and
takes it again. Compared are the bits of parameters, buffers, gradients, optimizer state and losses. A step that comes
out the same need not always; one that does not proves that something is left to chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from onthefly.health.fingerprint import fingerprint
from onthefly.health.scene import Answer, undisturbed

if TYPE_CHECKING:
    from onthefly.health.scene import Scene

UNSURE = (
    nn.EmbeddingBag, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d, nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d, nn.MaxPool3d, nn.MaxUnpool2d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d,
    nn.ReplicationPad2d, nn.ReplicationPad3d, nn.Upsample, nn.CTCLoss,
)  # fmt: skip
"""Modules whose backward has no fixed order of additions on CUDA (torch.use_deterministic_algorithms lists them)."""


class Bits(NamedTuple):
    """A step's outcome."""

    tensors: dict[str, int]
    losses: list[float | None]
    """Of its backward calls, as far as recorded."""


def bits(scene: Scene, losses: list[float | None]) -> Bits:
    """As they are now."""
    found: dict[str, int] = {}
    with undisturbed():
        for name, tensor in scene.parameters():
            _note(found, f"parameter {name}", tensor)
            _note(found, f"gradient {name}", tensor.grad)
        for name, tensor in scene.buffers():
            _note(found, f"buffer {name}", tensor)
        for number, optimizer in enumerate(scene.optimizers):
            for place, state in enumerate(optimizer.state.values()):
                for key, value in state.items() if isinstance(state, dict) else ():  # pyright: ignore[reportUnnecessaryIsInstance]
                    _note(found, f"{key} {place} of optimizer {number}", value)
    return Bits(found, losses)


def _note(found: dict[str, int], name: str, tensor: Any) -> None:
    number = fingerprint(tensor) if isinstance(tensor, torch.Tensor) else None
    if number is not None:
        found[name] = number


def flags(scene: Scene) -> tuple[dict[str, Any], list[str]]:
    """What is set, and what of it, or of the model, leaves something to chance."""
    cuda = any(parameter.device.type == "cuda" for _, parameter in scene.parameters())
    numbers: dict[str, Any] = {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark, "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "tf32": torch.backends.cuda.matmul.allow_tf32, "on_cuda": cuda, "threads": torch.get_num_threads(),
    }  # fmt: skip
    doubts: list[str] = []
    if cuda and not numbers["deterministic_algorithms"]:
        if numbers["cudnn_benchmark"]:
            doubts.append("cudnn.benchmark chooses algorithms by their time")
        unsure = sorted({type(module).__name__ for _, model in scene.models for module in model.modules()
                         if isinstance(module, UNSURE)})  # fmt: skip
        if unsure:
            doubts.append(f"{', '.join(unsure)} adds in no fixed order on CUDA")
    return numbers, doubts


def compared(scene: Scene, first: Bits, again: Bits) -> Answer:
    """Two outcomes of one step."""
    numbers, doubts = flags(scene)
    names = [*first.tensors, *(name for name in again.tensors if name not in first.tensors)]
    other = [name for name in names if first.tensors.get(name) != again.tensors.get(name)]
    losses = first.losses == again.losses
    numbers.update(replayed=True, tensors=len(names), different=len(other), losses_equal=losses)
    rows: list[dict[str, Any]] = [{"name": name} for name in other[:20]]
    if other or not losses:
        what = f"{other[0]} and {len(other) - 1} more of {len(names)} tensors" if len(other) > 1 else (
            other[0] if other else "the loss")  # fmt: skip
        return Answer("bad", f"the same step, taken twice, differs in {what}", (
            "draw random numbers from torch, NumPy or random alone, and seed them; call "
            "torch.use_deterministic_algorithms(True); cudnn.benchmark = False"), numbers, rows)  # fmt: skip
    says = f"the same step, taken twice, is bit-identical in all {len(names)} tensors"
    if doubts:
        return Answer("warning", f"{says}; but {'; '.join(doubts)}",
                      "torch.use_deterministic_algorithms(True); cudnn.benchmark = False", numbers)  # fmt: skip
    return Answer("good", says, "", numbers)


def not_replayed(scene: Scene, reason: str) -> Answer:
    """The step could not be taken twice."""
    numbers, doubts = flags(scene)
    numbers.update(replayed=False)
    says = f"a step could not be replayed: {reason}"
    return Answer("warning" if doubts else "unknown", "; ".join([says, *doubts]),
                  "see docs/rewind.md for what can be gone back to", numbers)  # fmt: skip
