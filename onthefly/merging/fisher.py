"""Fisher-weighted merging (Matena and Raffel 2022): each number weighs as much as its parent's data pin it down.

``theta = sum_i w_i F_i theta_i / sum_i w_i F_i``, with the diagonal of the Fisher information ``F_i``: the mean over
samples of the squared gradient of the log-likelihood. On quadratic losses whose curvature is that diagonal it is the
minimum of their sum. The information is taken under the model's own predictions, exactly over all classes where these
are few, as in the paper; for a loss without classes it is the empirical one, of the given targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from onthefly.errors import Refused
from onthefly.merging.parents import mean, weights
from onthefly.merging.statistics import evaluating

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from onthefly.merging.parents import Parents, State

FLOOR = 1e-6
"""Of the largest of an entry, added to all: where nothing is known of a number, all count alike (paper: 1e-6)."""

MOST_CLASSES = 16
"""Of so many classes at most, the mean over the model's predictions is taken exactly; else one class is drawn."""


def fisher(
    parents: Parents, information: Sequence[Mapping[str, Tensor]], share: Sequence[float] | None = None
) -> State:
    """``information``: of each parent, by the names of its parameters; entries without any are averaged.

    Refused where that of a parent is missing or is not a non-negative number.
    """
    if len(information) != len(parents.states):
        raise Refused("the Fisher information of a parent is missing", "estimate it on that parent's data first")
    found = weights(share, len(parents.states))

    def combine(name: str, stacked: Tensor) -> Tensor:
        known = [one[name] for one in information if name in one]
        if len(known) != len(information):
            if known:
                raise Refused(f"the Fisher information of {name} is known of some parents only")
            return mean(stacked, found)
        pinned = torch.stack([one.detach().to(torch.float64) for one in known])
        if pinned.shape != stacked.shape or not bool(torch.isfinite(pinned).all()) or bool((pinned < 0).any()):
            raise Refused(f"the Fisher information of {name} is no non-negative number for each of its values")
        by = found.reshape(-1, *[1] * (stacked.ndim - 1)) * (pinned + FLOOR * pinned.amax().clamp_min(1e-30))
        return (by * stacked).sum(0) / by.sum(0)

    return parents.combined(combine)


def of_classifier(model: nn.Module, batches: Iterable[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of a classifier: ``model(x)`` gives logits ``(batch, classes)``.

    In evaluation mode, one gradient a sample (``torch.func``); the model's state is not changed.
    """
    parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}

    def likelihood(held: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, held, (x[None],))[0]
        return torch.log_softmax(logits, -1).gather(-1, label[None])[0]

    gradients: Callable[..., dict[str, Tensor]] = vmap(grad(likelihood), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in parameters.items()}
    count = 0
    with evaluating(model):
        for x in batches:
            chances = torch.softmax(functional_call(model, parameters, (x,)), -1).detach()
            for label, share in _labels(chances, generator):
                for name, found in gradients(parameters, x, label).items():
                    by = share.reshape(-1, *[1] * (found.ndim - 1)).to(torch.float64)
                    total[name] += (by * found.to(torch.float64).square()).sum(0)
            count += len(x)
    return _means(total, count)


def empirical(
    parameters: Mapping[str, Tensor], samples: Iterable[Any], loss: Callable[[Any], Tensor]
) -> dict[str, Tensor]:
    """The empirical one: squared gradients of ``loss(sample)``, a scalar, for each of the samples."""
    trained = {name: value for name, value in parameters.items() if value.requires_grad}
    total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in trained.items()}
    count = 0
    for sample in samples:
        gradients = torch.autograd.grad(loss(sample), list(trained.values()), allow_unused=True)
        for name, found in zip(trained, list[Any](gradients)):
            if found is not None:
                total[name] += found.detach().to(torch.float64).square()
        count += 1
    return _means(total, count)


def _labels(chances: Tensor, generator: torch.Generator) -> Iterable[tuple[Tensor, Tensor]]:
    if chances.shape[-1] <= MOST_CLASSES:
        for label in range(chances.shape[-1]):
            yield torch.full((len(chances),), label, device=chances.device), chances[:, label]
    else:
        drawn = torch.multinomial(chances, 1, generator=generator)[:, 0]
        yield drawn, torch.ones(len(chances), device=chances.device)


def _means(total: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    if not count:
        raise Refused("the Fisher information wants data, and there was none")
    return {name: value / count for name, value in total.items()}
