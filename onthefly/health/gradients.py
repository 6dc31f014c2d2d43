"""How large gradients are in each module, and how far a step moves the weights.

Norms are compared per number (root mean square), so that a large module and a small one can be. Updates are measured on
at most :data:`SAMPLED` numbers of each parameter, evenly spread, that are copied before the step: what the check takes
does not grow with the model, and of smaller parameters it is exact. A healthy update is about a thousandth of the
weight; the bounds here are two decades and more away from that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from onthefly.alarms.nonfinite import plain
from onthefly.health.scene import MAX_ROWS, Answer, undisturbed
from onthefly.health.steps import Look

if TYPE_CHECKING:
    from torch import Tensor

    from onthefly.health.scene import Scene

SAMPLED = 1 << 16
VANISHING = 1e-5
"""Of the largest root mean square of all modules."""

EXPLODING = 1e3
"""Norm of all gradients together."""

TOO_FAR, STANDS_STILL = 0.1, 1e-7
"""Ratio of a step to the weights, root mean squares of a module."""


class Gradients(Look):
    """Of one step of all optimizers that take one."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        """The parameter and its sampled numbers, by ``id``."""
        self._squares: dict[int, tuple[Tensor, int]] = {}
        """Sum of the gradient's squares, and how many numbers it has."""
        self._missing: set[int] = set()
        self._rates: list[float] = []

    def before(self, optimizer: Any) -> None:
        """Read the gradients, copy some of the weights."""
        scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer divides by the scaler's factor itself
        with undisturbed():
            for group in optimizer.param_groups:
                self._rates.append(float(group.get("lr", 0.0)))
                for parameter in group["params"]:
                    gradient = plain(parameter.grad)
                    if gradient is None:
                        self._missing.add(id(parameter))
                        continue
                    norm = torch.linalg.vector_norm(gradient, dtype=torch.float64 if _on_host(gradient) else None)
                    if scale is not None:
                        norm = norm / scale
                    self._squares[id(parameter)] = (norm.double() ** 2, gradient.numel())
                    weights = plain(parameter)
                    if weights is not None:
                        self._before[id(parameter)] = (parameter, _some(weights))

    def end(self) -> Answer:
        """Put it together by module."""
        with undisturbed():
            moved = {
                key: (float(((_some(now) - before).double() ** 2).mean()), float((before.double() ** 2).mean()))
                for key, (parameter, before) in self._before.items() if (now := plain(parameter)) is not None
            }  # fmt: skip
            squares = {key: (float(square), count) for key, (square, count) in self._squares.items()}
        self._before.clear()
        rows: dict[str, dict[str, Any]] = {}
        for name, parameter in self.scene.parameters():
            key, module = id(parameter), name.rpartition(".")[0] or name
            row = rows.setdefault(module, {"name": module, "square": 0.0, "count": 0, "step": 0.0, "weight": 0.0,
                                           "missing": 0})  # fmt: skip
            if key in self._missing and key not in squares:
                row["missing"] += 1
            if key in squares:
                row["square"] += squares[key][0]
                row["count"] += squares[key][1]
            if key in moved and key in squares:
                row["step"] += moved[key][0] * squares[key][1]
                row["weight"] += moved[key][1] * squares[key][1]
        return _judged([_told(row) for row in rows.values() if row["count"] or row["missing"]], max(self._rates or [0]))


def _on_host(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _some(flat: Tensor) -> Tensor:
    flat = flat.reshape(-1)
    return flat[:: max(1, flat.numel() // SAMPLED)].clone()


def _told(row: dict[str, Any]) -> dict[str, Any]:
    ratio = math.sqrt(row["step"] / row["weight"]) if row["weight"] > 0 else 0.0
    rms = math.sqrt(row["square"] / row["count"]) if row["count"] else 0.0
    return {
        "name": row["name"], "norm": math.sqrt(row["square"]), "rms": rms, "ratio": ratio, "missing": row["missing"],
        "weightless": row["weight"] == 0,
    }  # fmt: skip


def _judged(rows: list[dict[str, Any]], rate: float) -> Answer:
    with_gradient = [row for row in rows if not row["missing"] or row["norm"]]
    if not with_gradient:
        return Answer("unknown", "no optimizer has stepped with gradients", "look at a step of training")
    norm = math.sqrt(sum(row["norm"] ** 2 for row in with_gradient))
    finite = math.isfinite(norm)
    largest = max((row["rms"] for row in with_gradient if math.isfinite(row["rms"])), default=0.0)
    vanishing = [row for row in with_gradient if row["rms"] <= VANISHING * largest and finite]
    far = [row for row in with_gradient if row["ratio"] > TOO_FAR and not row["weightless"]]
    still = [row for row in with_gradient if row["ratio"] < STANDS_STILL and not row["weightless"]]
    missing = [row for row in rows if row["missing"]]
    numbers: dict[str, Any] = {
        "norm": norm, "modules": len(rows), "largest_rms": largest, "vanishing": len(vanishing),
        "too_far": len(far), "standing_still": len(still), "without_gradient": len(missing), "lr": rate,
        "ratio": _median([row["ratio"] for row in with_gradient]),
    }  # fmt: skip
    told = [{key: value for key, value in row.items() if key != "weightless"} for row in rows][:MAX_ROWS]
    verdict, says, do = "good", f"the norm of all gradients is {norm:.3g}, and each module has its part", ""
    if not finite:
        verdict, says, do = "bad", "gradients are not finite", "see the check numerics; find the operation: diagnose"
    elif largest == 0.0:
        verdict, says = "bad", "all gradients are zero: nothing is learned"
        do = "the loss depends on no parameter here, or is flat: look at activations (dead units) and at the loss"
    elif norm > EXPLODING:
        verdict, says = "bad", f"gradients explode: their norm is {norm:.3g}"
        do = "clip them (clip --norm 1), lower the learning rate, or normalize inputs and layers"
    elif far:
        verdict, says = "warning", f"{_names(far)} moved by {far[0]['ratio']:.0%} of its weights in one step"
        do = "lower the learning rate, or warm it up"
    elif vanishing:
        verdict, says = "warning", f"gradients vanish in {_names(vanishing)}: {vanishing[0]['rms'] / largest:.1g} of " \
                                   "those of the largest"  # fmt: skip
        do = "use normalization, residual connections, ReLU-like activations or another initialization"
    elif missing:
        verdict, says = "warning", f"{_names(missing)} got no gradient, and is in the optimizer"
        do = "it does not take part in the loss of this step; freeze it or leave it out if that is meant"
    elif still and rate > 0:
        verdict, says = "warning", f"{_names(still)} hardly moves: {still[0]['ratio']:.1g} of its weights in a step"
        do = "raise the learning rate"
    return Answer(verdict, says, do, numbers, told)  # pyright: ignore[reportArgumentType]


def _names(rows: list[dict[str, Any]]) -> str:
    more = f" and {len(rows) - 2} more" if len(rows) > 2 else ""
    return ", ".join(row["name"] for row in rows[:2]) + more


def _median(values: list[float]) -> float:
    found = sorted(value for value in values if math.isfinite(value))
    return found[len(found) // 2] if found else 0.0
