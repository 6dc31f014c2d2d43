"""Whether a merged model may take the place of its parents: its losses beside theirs, sample by sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from onthefly.protocol.runs import MOST_DRAWN, RESAMPLES, Z95

if TYPE_CHECKING:
    from collections.abc import Mapping


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.4g} ({self.low:+.4g} to {self.high:+.4g})"


def interval(differences: Tensor, seed: int = 0) -> Interval:
    """Of the mean of paired differences [n]: percentile bootstrap over the samples (Efron 1979)."""
    found = differences.double()
    count, mean = len(found), float(found.mean())
    if count < 2:
        return Interval(mean, -torch.inf, torch.inf)
    if count > MOST_DRAWN:
        half = Z95 * float(found.std()) / count**0.5
        return Interval(mean, mean - half, mean + half)
    own = torch.Generator().manual_seed(seed)
    at_once = max(1, 4_000_000 // count)
    means: list[Tensor] = []
    for first in range(0, RESAMPLES, at_once):
        drawn = torch.randint(count, (min(at_once, RESAMPLES - first), count), generator=own)
        means.append(found[drawn].mean(1))
    low, high = torch.quantile(torch.cat(means), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(mean, low, high)


class Verdict(NamedTuple):
    """What the test before a merge is taken says."""

    good: bool
    """It is not worse than the best of its parents, beyond the interval."""
    text: str


def judge(merged: Tensor, parents: Mapping[str, Tensor], loader: str) -> Verdict:
    """Losses of the same samples in the same order [n]; where they cannot be compared, nothing speaks for it."""
    for name, losses in {"the merged model": merged, **parents}.items():
        if not len(losses) or len(losses) != len(merged):
            return Verdict(good=False, text=f"the samples of {loader} could not be told apart under {name}: nothing "
                           "says whether it is worse")  # fmt: skip
        if not bool(torch.isfinite(losses).all()):
            return Verdict(good=False, text=f"on {loader} some losses of {name} are not finite")
    best = min(parents, key=lambda name: float(parents[name].double().mean()))
    found = interval(merged.double() - parents[best].double())
    rest = ", ".join(f"{name} {float(losses.double().mean()):.4g}" for name, losses in parents.items())
    told = f"loss on {loader} {float(merged.double().mean()):.4g}, its parents' {rest}; against {best} {found}"
    if found.low > 0:
        return Verdict(good=False, text=f"worse than {best}: {told}")
    word = f"better than {best}" if found.high < 0 else f"no clear difference to {best}, the best of them"
    return Verdict(good=True, text=f"{word}: {told}")
