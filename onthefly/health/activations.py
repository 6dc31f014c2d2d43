"""What modules give in one step: units that never fire, outputs at the end of their range, the share of zeros.

By forward hooks that read and change nothing and are out again when the step is over. ReLUs that are called as
functions (``F.relu``) are no modules: their share of zeros is read out of the graph, all of them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onthefly.alarms.activations import WATCHED, DeadActivations
from onthefly.alarms.place import is_compiled
from onthefly.health.scene import MAX_ROWS, Answer, undisturbed
from onthefly.health.steps import Look
from onthefly.health.zeros import relus, zeros

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.utils.hooks import RemovableHandle

    from onthefly.health.scene import Scene

DEAD_SHARE, DEAD_UNITS, SATURATED_SHARE = 0.99, 0.5, 0.5
"""Share of zeros and of units without any output from which a module is dead; of outputs at the end of the range."""

NEAR = 0.01
"""Of the range: how near to its end an output is saturated."""

BOUNDED: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0), nn.Tanh: (-1.0, 1.0), nn.Hardsigmoid: (0.0, 1.0), nn.Hardtanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
}  # fmt: skip
"""Modules with a range, and what it is by default."""


class Activations(Look):
    """Of the forward passes of one step."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._watches: list[tuple[str, DeadActivations]] = []
        self._handles: list[RemovableHandle] = []
        self._fired: dict[str, Tensor] = {}
        """Whether each unit of a ReLU-like module gave anything."""
        self._ends: dict[str, tuple[Tensor, int]] = {}
        """Saturated outputs, and all."""
        self._functions: tuple[Tensor, int] | None = None

    def begin(self) -> None:
        """Put the hooks in place."""
        for prefix, model in self.scene.models:
            watch = DeadActivations(dead=DEAD_SHARE)
            watch.install(model)
            self._watches.append((prefix, watch))
            compiled = {id(inner) for module in model.modules() if is_compiled(module) for inner in module.modules()}
            for name, module in model.named_modules():
                if id(module) not in compiled:
                    self._hook(prefix + name, module)

    def _hook(self, name: str, module: nn.Module) -> None:
        if isinstance(module, WATCHED):
            self._handles.append(module.register_forward_hook(_reading(lambda output: self._fire(name, output))))
        elif type(module) in BOUNDED:
            low, high = BOUNDED[type(module)]
            low, high = getattr(module, "min_val", low), getattr(module, "max_val", high)
            self._handles.append(module.register_forward_hook(
                _reading(lambda output: self._saturate(name, output, low, high))))  # fmt: skip

    def _fire(self, name: str, output: Tensor) -> None:
        unit = output.dim() - 1 if output.dim() <= 3 else 1
        others = [axis for axis in range(output.dim()) if axis != unit]
        fired = (output != 0).flatten() if not others else (output != 0).any(dim=others[0]) if len(others) == 1 else (
            output.movedim(unit, 0).flatten(1) != 0).any(dim=1)  # fmt: skip
        before = self._fired.get(name)
        self._fired[name] = fired if before is None or before.shape != fired.shape else before | fired

    def _saturate(self, name: str, output: Tensor, low: float, high: float) -> None:
        near = NEAR * (high - low) / 2
        count = ((output <= low + near) | (output >= high - near)).sum()
        before, outputs = self._ends.get(name, (None, 0))
        self._ends[name] = (count if before is None else before + count, outputs + output.numel())

    def backward(self, roots: tuple[Any, ...]) -> None:
        """Functions are seen in the graph only."""
        if self._functions is None:
            with undisturbed():
                self._functions = zeros(relus(roots))

    def end(self) -> Answer:
        """Take the hooks out, and judge."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        rows: list[dict[str, Any]] = []
        for prefix, watch in self._watches:
            watch.remove(self.scene.step)
            rows += [{"name": prefix + name or "the model", "zeros": share, "dead_units": self._dead(prefix + name),
                      "saturated": None} for name, share in watch.measured.items()]  # fmt: skip
        rows += [{"name": name or "the model", "zeros": None, "dead_units": None, "saturated": float(ends) / count}
                 for name, (ends, count) in self._ends.items()]  # fmt: skip
        functions = None if self._functions is None else float(self._functions[0]) / self._functions[1]
        skipped = sum(len(watch.skipped) for _, watch in self._watches)
        self._watches, self._fired, self._ends, self._functions = [], {}, {}, None
        return _judged(rows, functions, skipped)

    def _dead(self, name: str) -> float | None:
        fired = self._fired.get(name)
        return None if fired is None else 1.0 - float(fired.float().mean())


def _reading(read: Callable[[Tensor], None]) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.numel() and not torch.compiler.is_compiling():
            with undisturbed():
                read(output.detach())

    return hook


def _judged(rows: list[dict[str, Any]], functions: float | None, skipped: int) -> Answer:
    dead = [row for row in rows if (row["zeros"] or 0) >= DEAD_SHARE or (row["dead_units"] or 0) >= DEAD_UNITS]
    saturated = [row for row in rows if (row["saturated"] or 0) >= SATURATED_SHARE]
    rows.sort(key=lambda row: -max(row["zeros"] or 0, row["dead_units"] or 0, row["saturated"] or 0))
    known = [row["zeros"] for row in rows if row["zeros"] is not None]
    numbers: dict[str, Any] = {
        "modules": len(rows), "dead": len(dead), "saturated": len(saturated), "zeros_of_functions": functions,
        "zeros": sum(known) / len(known) if known else functions, "compiled": skipped,
    }  # fmt: skip
    rows = rows[:MAX_ROWS]
    if dead:
        row = dead[0]
        return Answer(
            "bad" if row["zeros"] >= DEAD_SHARE else "warning",
            f"{row['name']} gives {row['zeros']:.1%} zeros, {row['dead_units'] or 0:.0%} of its units nothing else"
            + (f"; {len(dead) - 1} more are like it" if len(dead) > 1 else ""),
            "lower the learning rate, use LeakyReLU or GELU, normalize before it, or initialize anew",
            numbers, rows,
        )  # fmt: skip
    if functions is not None and functions >= DEAD_SHARE:
        return Answer("bad", f"ReLUs called as functions give {functions:.1%} zeros",
                      "lower the learning rate, use leaky_relu or gelu, normalize before it",
                      numbers, rows)  # fmt: skip
    if saturated:
        row = saturated[0]
        return Answer("warning", f"{row['saturated']:.0%} of what {row['name']} gives is at the end of its range",
                      "scale what goes into it: normalize, initialize smaller, or use ReLU-like functions",
                      numbers, rows)  # fmt: skip
    if not rows and functions is None:
        why = " (those of compiled parts are not looked at)" if skipped else ""
        return Answer("unknown", f"no activation module and no ReLU was seen in this step{why}", numbers=numbers)
    modules = f"no unit of {len(rows)} activation module{'s' if len(rows) > 1 else ''} is dead or saturated"
    return Answer("good", modules if rows else f"functions give {functions:.0%} zeros", "", numbers, rows)
