"""Training at a pause: the script's own step, on the samples that were chosen, for as long as was asked.

The loop is ours, everything within it is the script's: the operations of its step as they were traced, its optimizer,
its collate function and its random generators. The instruments see it as they see the script, so that its losses are
recorded. What the script does between backward and step (clips, accumulates, schedules) is in no recipe, and not done;
a scaler of our own stands for that of a script that has one.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from onthefly.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch.optim import Optimizer

    from onthefly.insight.evaluation import Watch, Way
    from onthefly.insight.split import Split

LOOK_SECONDS = 0.25
"""How often the losses are looked at, and progress is told: on an accelerator a look waits for it."""

_amp: Any = torch.amp if hasattr(torch.amp, "GradScaler") else torch.cuda.amp


class Budget(NamedTuple):
    """How long; the first that is over ends it."""

    steps: int | None = None
    epochs: float | None = None
    """Passes through the samples."""
    minutes: float | None = None

    def __str__(self) -> str:
        given = [
            (self.steps, "step", "steps"), (self.epochs, "epoch", "epochs"), (self.minutes, "minute", "minutes"),
        ]  # fmt: skip
        return " or ".join(
            f"{value:g} {one if value == 1 else many}" for value, one, many in given if value is not None
        )

    def limit(self, batches: int) -> int | None:
        """Steps at most; None where only the clock ends it."""
        limits = [] if self.steps is None else [self.steps]
        limits += [] if self.epochs is None else [max(1, math.ceil(self.epochs * batches))]
        return min(limits, default=None)


class Trained(NamedTuple):
    """What came of it."""

    steps: int
    loss: float
    """Mean of the last pass, or of what there was of it."""
    end: str
    """How it ended, where not by its budget; empty: by that."""


def train(
    split: Split, way: Way, optimizer: Optimizer, budget: Budget, *, seed: int, record: Any, watch: Watch, scaled: bool
) -> Trained:
    """Train in place. ``record``: where batches are delivered to. Modes and gradients are put back after it."""
    batches = rounds(split, way, seed, record)
    per_round = -(-split.count // split.size)
    most = budget.limit(per_round)
    until = time.monotonic() + 60.0 * (budget.minutes or math.inf)
    steps, told, end = 0, time.monotonic(), ""
    losses: deque[Tensor] = deque(maxlen=per_round)
    update = _update(way, optimizer, scaled=scaled)
    with _as_in_step(way, optimizer):
        for drawn, data in batches:
            record.deliver(drawn, data)
            losses.append(update(data))
            steps += 1
            now = time.monotonic()
            over = steps == most or now >= until
            if over or watch.cancelled() or now - told > LOOK_SECONDS or steps == 1:
                told = now
                watch.progress(steps, most or 0)
                if not bool(torch.isfinite(torch.stack(list(losses))).all()):
                    end = f"its loss is not finite any more, by step {steps}"
                elif watch.cancelled():
                    end = f"cancelled after {steps} steps"
                if end or over:
                    break
    mean = float(torch.stack(list(losses)).double().mean()) if losses else math.nan
    return Trained(steps, mean, end)


def rounds(split: Split, way: Way, seed: int, record: Any = None) -> Iterator[tuple[list[int], Any]]:
    """Batches without end: each round all samples in an order of its own, in batches as alike in size as can be.

    (A last one of one sample would be none to BatchNorm.) Where the step takes batches of one size only, they have
    that, and the last is filled up with the first ones of the order.
    """
    own = torch.Generator().manual_seed(seed)
    indices = split.indices
    parts = _alike
    while True:
        order = [indices[place] for place in torch.randperm(len(indices), generator=own).tolist()]
        if parts is _alike and not way.serves(split.fetch(next(_alike(order, split.size)))):
            parts = _filled
        for drawn in parts(order, split.size if parts is _alike else way.rows):
            data = split.fetch(drawn)
            if not way.serves(data):
                raise Refused("the step that was traced takes batches of one size, which these samples do not give",
                              "register a function: onthefly.session().register(step=fn)")  # fmt: skip
            yield drawn, data
        if record is not None:
            record.epoch += 1


def _alike(order: Sequence[int], size: int) -> Iterator[list[int]]:
    count = -(-len(order) // size)
    for number in range(count):
        yield list(order[number * len(order) // count : (number + 1) * len(order) // count])


def _filled(order: Sequence[int], size: int) -> Iterator[list[int]]:
    size = size or len(order)
    for first in range(0, len(order), size):
        drawn = list(order[first : first + size])
        yield [*drawn, *itertools.islice(itertools.cycle(order), size - len(drawn))]


def _update(way: Way, optimizer: Optimizer, *, scaled: bool) -> Any:
    """One step: from a batch to its loss, detached."""
    loss_of, step = way.loss, cast("Any", optimizer.step)
    kept: list[Tensor] = []

    def loss(data: Any) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        found = loss_of(data)
        found = found.mean() if found.dim() else found
        torch._C._set_grad_enabled(True)  # pyright: ignore[reportPrivateUsage]
        kept[:] = [found.detach()]
        return found

    def closed(data: Any) -> Tensor:
        def closure() -> Tensor:
            found = loss(data)
            found.backward()
            return found

        step(closure)
        return kept[0]

    def plain(data: Any) -> Tensor:
        loss(data).backward()
        step()
        return kept[0]

    if isinstance(optimizer, torch.optim.LBFGS):
        return closed
    if not scaled:
        return plain
    device = optimizer.param_groups[0]["params"][0].device.type
    scaler = _amp.GradScaler(device) if _amp is torch.amp else _amp.GradScaler()

    def scaling(data: Any) -> Tensor:
        scaler.scale(loss(data)).backward()
        scaler.step(optimizer)
        scaler.update()
        return kept[0]

    return scaling


@contextlib.contextmanager
def _as_in_step(way: Way, optimizer: Optimizer) -> Generator[None, None, None]:
    """Modules in the modes that they had in the step; then modes, gradients and grad mode are as they were."""
    modes = [(one, one.training) for module in way.modules for one in module.modules()]
    parameters = {id(one): one for module in way.modules for one in module.parameters()}
    parameters.update((id(one), one) for group in optimizer.param_groups for one in group["params"])
    gradients = [(one, one.grad) for one in parameters.values()]
    enabled = torch.is_grad_enabled()
    try:
        for one, training in way.modes:
            one.training = training
        for one, _ in gradients:
            one.grad = None
        yield
    finally:
        for one, training in modes:
            one.training = training
        for one, gradient in gradients:
            one.grad = gradient
        torch._C._set_grad_enabled(enabled)  # pyright: ignore[reportPrivateUsage]
