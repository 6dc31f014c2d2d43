"""Random losses of random batches: each sample's value against the same loss computed without reduction, by itself.

Brute force is the definition: ``mean`` terms give a sample the mean of its own elements that count, ``sum`` terms
their sum; where a loss mixes them, each sample's share of the total times their number. Sizes coincide often: as many
classes, tokens or features as samples in a batch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.watching import Row

EXAMPLES = 3000 if os.environ.get("ONTHEFLY_FULL") else 60

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning"),
]

MANY = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)


class Part(NamedTuple):
    """One term: of a batch, its number, and what it gives each sample."""

    number: torch.Tensor
    elements: torch.Tensor
    """[samples, elements]"""
    counts: torch.Tensor
    """Elements that count [samples]."""
    summed: bool
    total: Any
    """What a mean divides by."""


Make = Any
"""``(output [B, T, C], words [B, T] or inputs [B, T, C], reduction)`` gives the loss; ``none``: [B, T, ...]."""


def token_wise(function: Callable[..., torch.Tensor], ignored: int | None, layout: str, weight: Any = None) -> Make:
    """A loss of classes, of [B, T] targets, flattened batch first or time first or not at all."""

    def make(out: torch.Tensor, words: torch.Tensor, reduction: str) -> torch.Tensor:
        named: dict[str, Any] = {} if ignored is None else {"ignore_index": ignored}
        if weight is not None:
            named["weight"] = weight.to(out.dtype)
        if layout == "flat":
            return function(out.flatten(0, 1), words.flatten(), reduction=reduction, **named)
        if layout == "time":
            each = function(out.transpose(0, 1).flatten(0, 1), words.t().flatten(), reduction=reduction, **named)
            return each.view(words.shape[1], -1).t() if reduction == "none" else each
        return function(out.transpose(1, 2), words, reduction=reduction, **named)

    known: Any = make
    known.ignored, known.weight = ignored, weight
    return known


class Pick:
    """Draws."""

    plain = False
    """Whether the softmax is a step of its own."""

    def __init__(self, draw: st.DataObject) -> None:
        self._draw = draw

    def __call__(self, strategy: Any, label: str) -> Any:
        return self._draw.draw(strategy, label)


def class_losses(pick: Any, classes: int) -> Make:
    ignored = pick(st.sampled_from([None, 0, classes - 1]), "ignored")
    weight = torch.linspace(0.5, 2, classes) if pick(st.booleans(), "class weights") else None
    smoothing = pick(st.sampled_from([0.0, 0.1]), "smoothing")
    layout = pick(st.sampled_from(["flat", "time", "dense"]), "layout")

    def function(out: torch.Tensor, target: torch.Tensor, **named: Any) -> torch.Tensor:
        if smoothing and layout != "dense":
            return F.cross_entropy(out, target, label_smoothing=smoothing, **named)
        if pick.plain:
            return F.nll_loss(out.log_softmax(1), target, **named)
        return F.cross_entropy(out, target, **named)

    return token_wise(function, ignored, layout, weight)


def value_losses(pick: Any, classes: int) -> Make:
    """Losses of every element against the input."""
    kinds: dict[str, Callable[..., torch.Tensor]] = {
        "mse": F.mse_loss, "l1": F.l1_loss, "smooth": F.smooth_l1_loss, "huber": F.huber_loss,
        "soft margin": F.soft_margin_loss,
        "bce": lambda x, y, reduction: F.binary_cross_entropy_with_logits(x, y.sigmoid(), reduction=reduction),
        "poisson": lambda x, y, reduction: F.poisson_nll_loss(x, y.exp(), reduction=reduction),
        "kl": lambda x, y, reduction: F.kl_div(x.log_softmax(2), y.softmax(2), reduction=reduction),
        "hand": lambda x, y, reduction: getattr((x - y) ** 2, reduction)() if reduction != "none" else (x - y) ** 2,
        "abs": lambda x, y, reduction: getattr((x * 2 - y).abs(), reduction)() if reduction != "none" else (
            x * 2 - y).abs(),
        "features": lambda x, y, reduction: _by_hand(((x - y) ** 2).sum(-1), reduction),
        "norm": lambda x, y, reduction: _by_hand((x - y).norm(dim=2), reduction),
        "logsumexp": lambda x, y, reduction: _by_hand((x + y).logsumexp(-1), reduction),
        "masked": lambda x, y, reduction: _by_hand(((x - y) ** 2) * (y > 0), reduction),
        "time first": lambda x, y, reduction: _by_hand(((x - y) ** 2).transpose(0, 1), reduction, turned=True),
    }  # fmt: skip
    name = pick(st.sampled_from(sorted(kinds)), "values")
    function = kinds[name]

    def make(out: torch.Tensor, x: torch.Tensor, reduction: str) -> torch.Tensor:
        return function(out, x, reduction=reduction)

    return make


def _by_hand(each: torch.Tensor, reduction: str, *, turned: bool = False) -> torch.Tensor:
    if reduction == "none":
        return each.transpose(0, 1) if turned else each
    return each.mean() if reduction == "mean" else each.sum()


class Network(nn.Module):
    """Of [B, T, D] in, [B, T, C] out, in one of several ways."""

    def __init__(self, width: int, classes: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.one = nn.Linear(width, classes)
        self.cells = nn.GRU(width, classes, batch_first=kind == "gru") if kind in ("gru", "gru time") else None
        self.scale = nn.Parameter(torch.tensor(1.3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "gru time":
            return self.cells(x.transpose(0, 1))[0].transpose(0, 1)  # type: ignore[misc]
        if self.kind == "gru":
            return self.cells(x)[0]  # type: ignore[misc]
        if self.kind == "flat":
            return self.one(x.flatten(0, 1)).view(len(x), -1, self.one.out_features)
        if self.kind == "time":
            return self.one(x.transpose(0, 1)).transpose(0, 1)
        return self.one(x)


def nested(pick: Any, data: TensorDataset) -> Any:
    """The data set in others; twice in one that is a root itself."""
    if pick(st.booleans(), "joined"):
        return ConcatDataset([Subset(data, range(len(data))), data])
    inner: Any = data
    for _ in range(pick(st.integers(0, 2), "subsets")):
        inner = Subset(inner, pick(st.lists(st.integers(0, len(inner) - 1), min_size=2, max_size=9), "subset"))
    return inner


class Script:
    """A drawn loss, as a script would compute it, and beside it what it is made of."""

    def __init__(self, pick: Any, net: Network, width: int) -> None:
        pick.plain = pick(st.booleans(), "nll")
        self.net = net
        self.losses: list[tuple[Make, bool, str]] = []
        for _ in range(pick(st.integers(1, 3), "terms")):
            classes = pick(st.booleans(), "of classes")
            how = pick(st.sampled_from(["mean", "sum", "by hand"]), "reduction")
            self.losses.append(((class_losses if classes else value_losses)(pick, width), classes, how))
        self.tails = [pick(st.sampled_from([1.0, 0.5, -2.0, 3.0]), "factor") for _ in self.losses]
        self.whole = pick(st.sampled_from(["sum", "stack", "list", "roots"]), "together")
        self.penalty, self.divided, self.constant = (pick(st.booleans(), what) for what in ("penalty", "by 4", "more"))
        self.learned = pick(st.booleans(), "learned") and self.whole != "roots"
        share = 1.0 / len(self.losses) if self.whole in ("stack", "list") else 1.0
        scale = float(net.scale.detach()) if self.learned else 1.0
        self.factor = share * scale / (4 if self.divided else 1)
        """What all terms are multiplied by."""
        weights = 0.01 * float(net.scale.detach()) ** 2 + 0.1 * float(net.one.weight.detach().abs().sum())
        self.shared = weights / (4 if self.divided else 1) if self.penalty else 0.0

    def parts(self, x: torch.Tensor, y: torch.Tensor) -> list[Part]:
        """The terms of a batch."""
        out, parts = self.net(x), list[Part]()
        for make, classes, how in self.losses:
            target = y if classes else x
            if how == "by hand":
                number = make(out, target, "none").mean()
            else:
                number = make(out, target, how)
            with torch.no_grad():
                each = make(out, target, "none").reshape(len(x), -1)
            valid = torch.ones_like(each, dtype=torch.bool)
            if classes and how != "by hand" and make.ignored is not None:
                valid = y != make.ignored
            weights = make.weight[y] if classes and how == "mean" and make.weight is not None else 1
            parts.append(Part(number, each, valid.sum(1), how == "sum", (weights * valid).sum()))
        return parts

    def roots(self, parts: list[Part]) -> list[torch.Tensor]:
        """What is back-propagated."""
        terms = [part.number * tail for part, tail in zip(parts, self.tails)]
        first, *others = terms
        if self.whole == "stack":
            roots = [torch.stack(terms).mean()]
        elif self.whole == "roots":
            roots = terms
        else:
            for other in others:
                first = first + other
            roots = [first / len(terms) if self.whole == "list" else first]
        if self.learned:
            roots[0] = roots[0] * self.net.scale
        if self.penalty:
            roots[0] = roots[0] + 0.01 * self.net.scale.pow(2) + 0.1 * self.net.one.weight.abs().sum()
        if self.divided:
            roots = [root / 4 for root in roots]
        if self.constant:
            roots[0] = roots[0] + 0.5
        return roots


@MANY
@given(st.data())
def test_any_expression(draw: st.DataObject) -> None:
    pick = Pick(draw)
    count, size = pick(st.integers(2, 9), "samples"), pick(st.integers(1, 5), "batch")
    time, width = pick(st.integers(1, 5), "time"), pick(st.integers(2, 5), "width")
    torch.manual_seed(pick(st.integers(0, 99), "seed"))
    data = TensorDataset(torch.randn(count, time, width), torch.randint(0, width, (count, time)))
    outer = nested(pick, data)
    net = Network(width, width, pick(st.sampled_from(["plain", "flat", "time", "gru", "gru time"]), "network"))
    script = Script(pick, net, width)
    workers = 2 if pick(st.integers(0, 60), "workers") == 60 else 0
    expected: list[tuple[list[int], list[Part], float]] = []
    with watched() as kept:
        for _ in range(2):
            for x, y in DataLoader(outer, size, shuffle=True, num_workers=workers):
                samples = [next(i for i in range(count) if torch.equal(data.tensors[0][i], row)) for row in x]
                parts = script.parts(x, y)
                roots = script.roots(parts)
                total = sum(float(root.detach()) for root in roots)
                if len(roots) == 1:
                    roots[0].backward()
                else:
                    torch.autograd.backward(roots)
                expected.append((samples, parts, total))
    rows = kept.rows()
    assert len(rows) == len(expected)
    for row, (samples, parts, total) in zip(rows, expected):
        if total != total:  # of no target that counts
            continue
        assert row.loss == pytest.approx(total, rel=1e-5, abs=1e-5)
        if row.certificate == "none":
            assert row.reason
            continue
        if row.identity == "index":
            assert [sample % count for sample in row.samples] == samples
        _check(row, parts, script)


def _check(row: Row, parts: list[Part], script: Script) -> None:
    """By the definition, in float64."""
    means, count = any(not part.summed for part in parts), len(parts[0].elements)
    values, single = torch.zeros(count, dtype=torch.float64), len(parts) == 1
    for part, tail in zip(parts, script.tails):
        sums = part.elements.double().sum(1)
        if part.summed:
            value = sums * (count if means else 1)
        elif single:
            value = sums / part.counts.clamp(min=1)
        else:
            value = sums / part.total * count
        values += value * tail * script.factor
    torch.testing.assert_close(torch.tensor(row.losses).double(), values, rtol=1e-4, atol=1e-4)
    assert row.valid == parts[0].counts.tolist()
    assert row.shared == pytest.approx(script.shared, rel=1e-4, abs=1e-5)
    if row.components:
        given = torch.stack([torch.tensor(part) for part in row.components.values()]).double()
        torch.testing.assert_close(given.sum(0), values, rtol=1e-4, atol=1e-4)
        assert len(row.components) == len(parts)
    if script.constant:
        assert row.certificate == "approximate"
