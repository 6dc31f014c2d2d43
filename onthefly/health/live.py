"""Live metrics: the norm of the gradients, of the weights, and the share of zeros that ReLUs give, every n steps.

``n`` is such that they take at most :data:`SHARE` of the time: what a look takes is measured, and the next one is that
much later; where it would be more than :data:`MOST_STEPS` later, they are off. Nothing of ours stands in the steps
between: blocks of recorded steps come by five times a second, and only then is a look ordered, for the next step.

The zeros are read out of that step's graph (no hook is in the model: a model that is copied or saved would take it
along). On an accelerator nothing is waited for; how long a look took there is known when its numbers have arrived.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.alarms.nonfinite import total
from onthefly.capture.quiet import DisableTorchFunction, capturing, intercepted, profiling
from onthefly.capture.transfer import Transfer
from onthefly.health.scene import undisturbed
from onthefly.health.zeros import relus, zeros
from onthefly.protocol import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from onthefly.core.gate import Place
    from onthefly.core.meter import Meter

SHARE = 0.005
"""Of the time of all steps."""

MOST_STEPS = 2000
"""Between two looks."""

COSTS = 5
"""Newest looks, whose median says what one takes. The first takes far longer than those after it."""

MARGIN = 2.0
"""What a look takes beside what it measures of itself: entering it, ordering it, and the caches that it has emptied."""


class Value(NamedTuple):
    """One look, on its way to the host."""

    step: int
    epoch: int
    time: float
    numbers: Transfer
    host_ns: int
    timer: Any
    """Two events around it on an accelerator; None on the host."""


class Live:
    """All methods run on the training thread."""

    def __init__(
        self, meter: Meter, place: Callable[[], Place], emit: Callable[[Metrics], None], run: Callable[[], str],
        notice: Callable[[str, str], None], changed: Callable[[], None],
    ) -> None:  # fmt: skip
        """``changed()`` is told when :attr:`wanted` is another."""
        self._meter, self._place, self._emit, self._run = meter, place, emit, run
        self._notice, self._changed = notice, changed
        self.wanted = False
        """The next step is looked at."""
        self.off = False
        """A look takes too long for steps as short as these."""
        self.every = 1
        """Steps from one look to the next, at least."""
        self._next = 0
        self._costs: deque[float] = deque(maxlen=COSTS)
        """Nanoseconds."""
        self._spent = 0
        self._zeros: tuple[Tensor, int] | None = None
        self._seen = False
        """A backward call of this step was looked at."""
        self._under_way: deque[Value] = deque(maxlen=8)

    def take(self, metrics: Metrics) -> None:
        """A block of steps was recorded: send what has arrived, and order a look if it is time."""
        if self.off or "step_ms" not in metrics.values:
            return
        self._send()
        last, took = array("q", metrics.step)[-1], median(array("d", metrics.values["step_ms"]))
        if self._costs and took > 0:
            self.every = math.ceil(MARGIN * median(self._costs) / 1e6 / (SHARE * took))
            if self.every > MOST_STEPS and len(self._costs) == COSTS:
                self.off = True
                self._notice(f"grad_norm, weight_norm and activation_zeros are off: one look takes "
                             f"{median(self._costs) / 1e6:.3g} ms, a step {took:.3g} ms", "")  # fmt: skip
                return
        if last + 1 < self._next:
            # A rewind goes back, and the steps after it are looked at like any others.
            self._next = min(self._next, last + 1 + self.every)
        if not self.wanted and last + 1 >= self._next:
            self.wanted, self._seen, self._zeros, self._spent = True, False, None, 0
            self._changed()

    def stop(self) -> None:
        """No look is made any more."""
        self.off, self.wanted = True, False
        self._under_way.clear()
        self._changed()

    def backward(self, roots: tuple[Any, ...]) -> None:
        """Before a backward call of a step that is looked at: what its ReLUs gave."""
        if self._seen or not _quiet(roots[0] if roots else None):
            return
        started = perf_counter_ns()
        self._seen = True
        with undisturbed():
            self._zeros = zeros(relus(roots))
        self._spent += perf_counter_ns() - started

    def look_before(self, optimizer: Any) -> None:
        """The optimizer whose steps count is about to step."""
        if self.wanted:  # else a closure is evaluated again
            with DisableTorchFunction():  # a mode of the script's would see which device a tensor is asked for
                self._look(optimizer)

    def _look(self, optimizer: Any) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if not _quiet(parameters[0] if parameters else None):
            return
        started = perf_counter_ns()
        self.wanted = False
        with undisturbed():
            timer = _timer(parameters)
            numbers = self._measured(optimizer, parameters)
            if timer is not None:
                timer[1].record()
            if numbers:
                place = self._place()
                host = self._spent + perf_counter_ns() - started
                self._under_way.append(Value(place.step, place.epoch, time.time(), Transfer(numbers), host, timer))
        self._zeros = None
        self._next = self._place().step + self.every
        self._send()
        self._changed()
        spent = self._spent + perf_counter_ns() - started
        if len(self._under_way) == 0 and numbers:
            self._costs[-1] = float(spent)  # with the sending, where that is done already
        self._meter.ours_ns += spent

    def _measured(self, optimizer: Any, parameters: list[Any]) -> dict[str, Tensor]:
        norm, weight = total(parameter.grad for parameter in parameters), total(parameters)
        scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer divides by the scaler's factor itself
        if norm is not None and scale is not None:
            norm = norm / scale.to(norm.device)
        found = {"grad_norm": norm, "weight_norm": weight}
        if self._zeros is not None:
            found["activation_zeros"] = self._zeros[0] / self._zeros[1]
        return {name: value for name, value in found.items() if value is not None}

    def _send(self) -> None:
        """What has arrived."""
        while self._under_way and self._under_way[0].numbers.ready():
            value = self._under_way.popleft()
            numbers = {name: float(number) for name, number in value.numbers.take().items()}
            self._emit(Metrics(
                run=self._run(), step=array("q", [value.step]).tobytes(), epoch=array("i", [value.epoch]).tobytes(),
                time=array("d", [value.time]).tobytes(),
                values={name: array("d", [number]).tobytes() for name, number in numbers.items()}, complete=True,
            ))  # fmt: skip
            device = 1e6 * value.timer[0].elapsed_time(value.timer[1]) if value.timer is not None else 0.0
            self._costs.append(max(float(value.host_ns), device))


def _quiet(tensor: Any) -> bool:
    """No mode, profiler or graph capture of the script's would see operators of ours."""
    with DisableTorchFunction():
        return tensor is None or not (intercepted() or profiling() or capturing(tensor))


def _timer(parameters: list[Any]) -> Any:
    kind = parameters[0].device.type if parameters else "cpu"
    if kind != "cuda":
        return None
    import torch

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    return begin, end
