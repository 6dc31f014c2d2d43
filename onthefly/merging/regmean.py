"""RegMean (Jin et al. 2023): each linear layer is the one that comes closest to all parents' outputs on their data.

``W = (sum_i G_i)^-1 sum_i G_i W_i`` with the Gram matrix ``G_i = X_i^T X_i`` of a parent's inputs, whose other entries
than the diagonal are scaled by ``alpha``. Everything that is not the weight of a linear layer is averaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onthefly.errors import Refused
from onthefly.merging.parents import mean, weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from onthefly.merging.parents import Parents, State

ALPHA = 0.9
"""The paper's value for most models."""


def regmean(parents: Parents, grams: Sequence[Mapping[str, Tensor]], alpha: float = ALPHA) -> State:
    """``grams``: of each parent, by the name of the weight, ``(inputs, inputs)``: see :func:`gram_matrices`."""
    if not 0.0 <= alpha <= 1.0:
        raise Refused(f"alpha is from 0 to 1, not {alpha:g}")
    if len(grams) != len(parents.states):
        raise Refused("the inputs of a parent's layers are missing", "gather them on that parent's data first")
    share = weights(None, len(parents.states))

    def combine(name: str, stacked: Tensor) -> Tensor:
        known = [one[name] for one in grams if name in one]
        if not known:
            return mean(stacked, share)
        if len(known) != len(grams):
            raise Refused(f"the inputs of {name} are known of some parents only")
        scaled = [_scaled(gram.to(torch.float64), alpha) for gram in known]
        right = sum((gram @ weight.T for gram, weight in zip(scaled, stacked)), torch.zeros(()))
        left = sum(scaled, torch.zeros(()))
        # Directions that no input has are left as the mean has them: lstsq gives the smallest change.
        middle = mean(stacked, share)
        change = torch.linalg.lstsq(left, right - left @ middle.T, driver="gelsd").solution
        return middle + change.T

    return parents.combined(combine)


def gram_matrices(model: nn.Module, run: Callable[[Any], object], batches: Iterable[Any]) -> dict[str, Tensor]:
    """``X^T X`` over all that goes into each linear layer while ``run(batch)`` is called, by its weight's name."""
    found: dict[str, Tensor] = {}
    handles: list[Any] = []

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).to(torch.float64)
            found[name] = found.get(name, torch.zeros((), dtype=torch.float64)) + x.T @ x

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            handles.append(module.register_forward_pre_hook(note(f"{name}.weight" if name else "weight")))
    try:
        with torch.no_grad():
            for batch in batches:
                run(batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _scaled(gram: Tensor, alpha: float) -> Tensor:
    return alpha * gram + (1.0 - alpha) * torch.diag(gram.diagonal())
