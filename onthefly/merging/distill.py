"""Distillation of several parents into one (Hinton et al. 2015): a student learns what they say together.

The student begins as the parents' mean. Of classifiers it learns the mean of their probabilities at a temperature
(Kullback-Leibler divergence, times its square), of everything else the mean of their outputs (squared error).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onthefly.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

TEMPERATURE = 2.0


def distill(
    student: Callable[[Any], Tensor], teachers: Sequence[Callable[[Any], Tensor]], batches: Iterable[Any], steps: int,
    optimizer: torch.optim.Optimizer, *, temperature: float | None = TEMPERATURE,
) -> list[float]:  # fmt: skip
    """Train what ``student`` gives its outputs with, in place; the loss of each step.

    ``temperature`` None: its outputs are no logits.

    ``teachers`` give their outputs for a batch; nothing of theirs is trained. Refused where the batches end before the
    budget does, where that is none, and where a loss is not finite.
    """
    if steps < 1:
        raise Refused("a budget is one step at least")
    losses: list[float] = []
    trained = [one for group in optimizer.param_groups for one in group["params"] if one.requires_grad]
    step: Any = getattr(type(optimizer).step, "__wrapped__", type(optimizer).step)
    for batch in batches:
        with torch.no_grad():
            said = [teacher(batch).float() for teacher in teachers]
        loss = _loss(student(batch).float(), said, temperature)
        # By ``grad``, and the step without its hooks: what watches the script would take both for the script's.
        gradients: Any = torch.autograd.grad(loss, trained, allow_unused=True)
        for one, gradient in zip(trained, gradients):
            one.grad = gradient
        step(optimizer)
        losses.append(float(loss.detach()))
        if not torch.isfinite(loss.detach()):
            raise Refused(f"the loss of step {len(losses)} is not finite", "take a smaller learning rate")
        if len(losses) == steps:
            return losses
    raise Refused(f"the data ended after {len(losses)} of {steps} steps", "give a smaller budget")


def _loss(student: Tensor, said: Sequence[Tensor], temperature: float | None) -> Tensor:
    if temperature is None:
        return F.mse_loss(student, torch.stack(list(said)).mean(0))
    target = torch.stack([torch.softmax(one / temperature, -1) for one in said]).mean(0)
    return F.kl_div(torch.log_softmax(student / temperature, -1), target, reduction="batchmean") * temperature**2
