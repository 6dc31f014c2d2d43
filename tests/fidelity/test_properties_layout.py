"""Which sample an element of a tensor belongs to: what is proven of chains of torch's operators, against what they do.

Brute force knows no rule: the chain is run again with the numbers of one sample changed, for each of them, and whatever
changes in the result depends on that sample. Sizes are small and often equal, so that axes are easily mistaken.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from onthefly.capture.batches import CROOKED, RecentBatches
from onthefly.capture.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.capture.batches import Tied

    Step = Callable[[torch.Tensor], torch.Tensor]

EXAMPLES = 20000 if os.environ.get("ONTHEFLY_FULL") else 120

pytestmark = pytest.mark.timeout(1800)

MANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    database=None,
)


def positive(*shape: int) -> torch.Tensor:
    """Weights without a zero, so that whatever can have an influence has one; double, so that it is seen."""
    return torch.rand(shape, dtype=torch.float64) + 0.5


class Chain:
    """Random steps, each drawn to fit what the ones before made."""

    def __init__(self, pick: Callable[..., Any], start: torch.Tensor) -> None:
        self._pick = pick
        self.steps: list[tuple[str, Step]] = []
        self.now = start

    def number(self, least: int, most: int) -> int:
        return self._pick(st.integers(least, most))

    def axis(self) -> int:
        axis = self.number(0, self.now.dim() - 1)
        return axis - self.now.dim() if self._pick(st.booleans()) else axis

    def grow(self, kinds: dict[str, Callable[[Chain], Step | None]], most: int) -> None:
        """Add up to so many steps of these kinds."""
        for _ in range(self.number(1, most)):
            name = self._pick(st.sampled_from(sorted(kinds)))
            step = kinds[name](self)
            if step is not None:
                try:
                    made = step(self.now)
                except (RuntimeError, ValueError):  # not for this shape
                    continue
                if 0 < made.numel() <= 600 and made.dim() <= 6:
                    self.steps.append((name, step))
                    self.now = made

    def run(self, x: torch.Tensor) -> torch.Tensor:
        for _, step in self.steps:
            x = step(x)
        return x


def factors(number: int) -> list[int]:
    return [part for part in range(1, number + 1) if number % part == 0]


def reshaped(chain: Chain, how: str = "reshape") -> Step | None:
    left, shape = chain.now.numel(), list[int]()
    while left > 1 and len(shape) < 4:
        shape.append(chain._pick(st.sampled_from(factors(left))))
        left //= shape[-1]
    shape.append(left)
    if how == "view":
        try:
            chain.now.view(shape)
        except RuntimeError:
            return None
    return lambda x: getattr(x, how)(shape)


def permuted(chain: Chain) -> Step:
    order = chain._pick(st.permutations(range(chain.now.dim())))
    return lambda x: x.permute(tuple(order))


def transposed(chain: Chain) -> Step | None:
    if not chain.now.dim():
        return None
    one, other = chain.axis(), chain.axis()
    return lambda x: x.transpose(one, other)


def unsqueezed(chain: Chain) -> Step:
    axis = chain.number(0, chain.now.dim())
    return lambda x: x.unsqueeze(axis)


def squeezed(chain: Chain) -> Step | None:
    if not chain.now.dim():
        return None
    axis = chain.axis()
    return lambda x: x.squeeze(axis)


def selected(chain: Chain) -> Step | None:
    if not chain.now.dim():
        return None
    axis = chain.axis()
    place = chain.number(0, chain.now.shape[axis] - 1)
    return lambda x: x.select(axis, place)


def narrowed(chain: Chain) -> Step | None:
    if not chain.now.dim():
        return None
    axis = chain.axis()
    start = chain.number(0, chain.now.shape[axis] - 1)
    size = chain.number(1, chain.now.shape[axis] - start)
    return lambda x: x.narrow(axis, start, size)


def strided(chain: Chain) -> Step | None:
    if not chain.now.dim():
        return None
    start, step = chain.number(0, chain.now.shape[0] - 1), chain.number(1, 3)
    return lambda x: x[start::step]


def expanded(chain: Chain) -> Step:
    shape = [chain.number(1, 4) if size == 1 else size for size in chain.now.shape]
    if chain._pick(st.booleans()):
        shape.insert(0, chain.number(1, 4))
    return lambda x: x.expand(shape)


def split(chain: Chain) -> Step | None:
    if not chain.now.dim():
        return None
    axis, size = chain.axis(), chain.number(1, 3)
    place = chain.number(0, -(-chain.now.shape[axis] // size) - 1)
    return lambda x: x.split(size, axis)[place]


def unbound(chain: Chain) -> Step | None:
    if not chain.now.dim():
        return None
    axis = chain.axis()
    place = chain.number(0, chain.now.shape[axis] - 1)
    return lambda x: x.unbind(axis)[place]


VIEWS: dict[str, Callable[[Chain], Step | None]] = {
    "view": lambda chain: reshaped(chain, "view"),
    "permute": permuted,
    "transpose": transposed,
    "unsqueeze": unsqueezed,
    "squeeze": squeezed,
    "select": selected,
    "narrow": narrowed,
    "strided": strided,
    "expand": expanded,
    "split": split,
    "unbind": unbound,
    "t": lambda chain: (lambda x: x.t()) if chain.now.dim() == 2 else None,
    "swapped": lambda chain: (lambda x: x.mT) if chain.now.dim() > 1 else None,
    "flatten": lambda chain: lambda x: x.flatten(),
}


def reduced(chain: Chain) -> Step | None:
    if not chain.now.dim():
        return None
    how = chain._pick(st.sampled_from(["sum", "mean", "amax", "logsumexp", "prod", "norm", "max", "median", "var"]))
    axis, keep = chain.axis(), chain._pick(st.booleans())
    if how == "norm":
        return lambda x: torch.linalg.vector_norm(x, dim=axis, keepdim=keep)
    if how == "var":
        return lambda x: x.var(axis, unbiased=False, keepdim=keep)
    if how in ("max", "median"):  # torch's median of an expanded tensor reads memory that nobody wrote (2.13, CPU)
        return lambda x: getattr(x.contiguous(), how)(axis, keepdim=keep)[0]
    if chain.now.dim() > 1 and how in ("sum", "mean") and chain._pick(st.booleans()):
        other = chain.axis()
        if other % chain.now.dim() != axis % chain.now.dim():
            return lambda x: getattr(x, how)((axis, other), keepdim=keep)
    return lambda x: getattr(x, how)(axis, keepdim=keep)


def multiplied(chain: Chain) -> Step | None:
    """By a matrix, from the right or the left, or by itself."""
    if not chain.now.dim():
        return None
    inner, outer = chain.now.shape[-1], chain.number(1, 4)
    how = chain._pick(st.sampled_from(["linear", "right", "left", "bias", "batch", "batch left", "vector", "einsum"]))
    right = positive(inner, outer)
    if how == "linear":
        return lambda x: F.linear(x, right.T, right[0] * 0)
    if how == "right":
        return lambda x: x @ right
    if how == "vector":
        return lambda x: x @ right[:, 0]
    if chain.now.dim() < 2:
        return None
    left = positive(outer, chain.now.shape[-2])
    if how == "left":
        return lambda x: left @ x
    if how == "einsum":
        return lambda x: torch.einsum("...ij,jk->...ik", x, right)
    if chain.now.dim() == 3 and how == "batch":
        several = positive(len(chain.now), inner, outer)
        return lambda x: torch.bmm(x, several)
    if chain.now.dim() == 3 and how == "batch left":
        before = positive(len(chain.now), outer, chain.now.shape[1])
        return lambda x: torch.bmm(before, x)
    if chain.now.dim() == 2 and how == "bias":
        return lambda x: torch.addmm(right[0] * 0, x, right)
    return None


def convolved(chain: Chain) -> Step | None:
    if chain.now.dim() not in (3, 4):
        return None
    channels, out, flat = chain.now.shape[1], chain.number(1, 3), chain.now.dim() == 3
    groups = channels if chain._pick(st.booleans()) else 1
    out *= groups
    if flat:
        weight = positive(out, channels // groups, 1)
        return lambda x: F.conv1d(x, weight, groups=groups, padding=1)
    weight = positive(out, channels // groups, 2, 2)
    if groups == 1 and chain._pick(st.booleans()):
        turned = positive(channels, out, 2, 2)
        return lambda x: F.conv_transpose2d(x, turned)
    return lambda x: F.conv2d(x, weight, groups=groups, padding=1)


def pooled(chain: Chain) -> Step | None:
    if chain.now.dim() not in (3, 4):
        return None
    ways: list[Step] = [
        lambda x: F.max_pool2d(x, 1), lambda x: F.avg_pool2d(x, 1), lambda x: F.adaptive_avg_pool2d(x, 2),
        lambda x: F.adaptive_max_pool2d(x, 1), lambda x: F.max_pool1d(x, 1) if x.dim() == 3 else x,
        lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
        lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear" if x.dim() == 4 else "linear"),
        lambda x: F.pad(x, (1, 1), mode="replicate"),
        lambda x: F.pixel_shuffle(x, 2) if x.shape[-3] % 4 == 0 else F.pixel_unshuffle(x, 1),
        lambda x: F.unfold(x, 1) if x.dim() == 4 else x,
        lambda x: F.group_norm(x, x.shape[1]) if x[0, 0].numel() > 1 else x,
    ]  # fmt: skip
    return chain._pick(st.sampled_from(ways))


def padded(chain: Chain) -> Step | None:
    if not chain.now.dim():
        return None
    sides = [chain.number(-1, 2) for _ in range(2 * chain.number(1, min(3, chain.now.dim())))]
    if any(chain.now.shape[-1 - place // 2] + side < 1 for place, side in enumerate(sides)):
        return None
    try:
        F.pad(chain.now, sides)
    except RuntimeError:
        return None
    return lambda x: F.pad(x, sides)


def arithmetic(chain: Chain) -> Step:
    """With a tensor that is stretched to the same shape, or stretches this one."""
    shape = [chain._pick(st.sampled_from([1, size])) if size > 1 else chain.number(1, 4) for size in chain.now.shape]
    if chain._pick(st.booleans()):
        shape = shape[chain.number(0, len(shape)) :]
    elif chain._pick(st.booleans()):
        shape.insert(0, chain.number(1, 4))
    other = positive(*shape)
    ways: list[Step] = [
        lambda x: x * other, lambda x: other * x, lambda x: x + other, lambda x: other - x, lambda x: x / other,
        lambda x: torch.maximum(x, other * 1e-9), lambda x: torch.where(other > 0, x, other),
        lambda x: torch.lerp(x, other, 0.5), lambda x: torch.addcmul(other, x, other), lambda x: x**2,
    ]  # fmt: skip
    return chain._pick(st.sampled_from(ways))


def joined(chain: Chain) -> Step | None:
    """With itself, or with parameters, along any axis, or a new one."""
    axis, other = chain.number(0, max(chain.now.dim() - 1, 0)), positive(*chain.now.shape)
    ways: list[Step] = [
        lambda x: torch.stack([x, x * 2], axis), lambda x: torch.stack([other, x], axis),
        lambda x: torch.stack([x], axis),
    ]  # fmt: skip
    if chain.now.dim():
        ways += [
            lambda x: torch.cat([x, x * 2], axis), lambda x: torch.cat([other, x], axis),
            lambda x: torch.cat([x], axis), lambda x: torch.roll(x, 1, axis), lambda x: torch.flip(x, [axis]),
            lambda x: x.repeat_interleave(2, axis), lambda x: x.index_select(axis, torch.tensor([0, 0])),
            lambda x: x.sort(axis)[0] if x.shape[axis] == 1 else x,
            lambda x: x.take_along_dim(torch.zeros([1] * x.dim(), dtype=torch.long), axis),
            lambda x: x.gather(axis, torch.zeros(x.shape, dtype=torch.long)),
            lambda x: x.repeat(2, *[1] * (x.dim() - 1)), lambda x: x.unfold(axis, 1, 1),
            lambda x: x[[0] * len(x)], lambda x: x[torch.arange(len(x)).flip(0)],
        ]  # fmt: skip
    return chain._pick(st.sampled_from(ways))


STEPS: dict[str, Callable[[Chain], Step | None]] = {
    **VIEWS,
    "reshape": reshaped,
    "reduced": reduced,
    "multiplied": multiplied,
    "convolved": convolved,
    "pooled": pooled,
    "padded": padded,
    "arithmetic": arithmetic,
    "joined": joined,
    "relu": lambda chain: torch.relu,
    "contiguous": lambda chain: lambda x: x.contiguous().clone(),
}


def batch_of(pick: Callable[..., Any]) -> torch.Tensor:
    shape = [pick(st.integers(1, 4), "samples"), *pick(st.lists(st.integers(1, 4), max_size=3), "of each")]
    return positive(*shape)


def deliver(x: torch.Tensor) -> RecentBatches:
    """``x`` is the newest batch."""
    recent = RecentBatches()
    recent.newest = (None, -1, list(range(len(x))), (x,), {id(x): x.untyped_storage()})
    return recent


def check(tied: Tied, start: torch.Tensor, result: torch.Tensor, run: Step) -> None:
    """No element depends on another sample than the one that it is said to be of."""
    layout = tied.layout
    places = torch.arange(result.numel()).reshape(result.shape)
    said = tied.start + places // layout.chunk % layout.rows
    assert int(said.max()) < len(start)
    for sample in range(len(start)):
        changed = start.clone()
        changed[sample] += positive(*start[sample].shape)
        influenced = run(changed) != result
        assert not bool((influenced & (said != sample)).any()), f"sample {sample} in {said[influenced]}"


@MANY
@given(st.data())
def test_views_of_a_batch(draw: st.DataObject) -> None:
    x = batch_of(draw.draw)
    chain = Chain(draw.draw, x)
    chain.grow(VIEWS, 5)
    result = chain.now
    if not torch.is_tensor(result) or result._base is not x:
        return
    tied = deliver(x).find(result)
    assert tied is not None
    if tied.doubt != CROOKED:
        check(tied, x, result, chain.run)


@MANY
@given(st.data())
def test_what_a_network_computes_of_a_batch(draw: st.DataObject) -> None:
    x = batch_of(draw.draw)
    first = Chain(draw.draw, x)
    if draw.draw(st.booleans(), "of a view"):
        first.grow(VIEWS, 3)
    seen = first.now
    weight = positive(*[draw.draw(st.sampled_from([1, size])) for size in seen.shape])
    parameter = torch.nn.Parameter(weight)
    second = Chain(draw.draw, (seen * parameter).detach())
    second.grow(STEPS, 6)
    result = second.run(seen * parameter)
    if result.grad_fn is None:
        return
    tied = Paths(deliver(x).find).prove(result.grad_fn, result.output_nr, False)
    if tied is not None:

        def run(changed: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return second.run(first.run(changed) * parameter)

        check(tied, x, result.detach(), run)


@pytest.mark.parametrize("norm", [lambda x: F.group_norm(x, 2), lambda x: F.layer_norm(x, [3])], ids=["group", "layer"])
def test_what_is_normalized_over_the_samples_is_of_none_of_them(norm: Step) -> None:
    x = positive(3, 2)
    seen = (x * torch.nn.Parameter(positive(2))).T[None]  # the samples are the last axis
    result = norm(seen)
    assert result.grad_fn is not None
    assert Paths(deliver(x).find).prove(seen.grad_fn, seen.output_nr, False) is not None
    assert Paths(deliver(x).find).prove(result.grad_fn, result.output_nr, False) is None


def joint(pick: Callable[..., Any], parts: list[torch.Tensor]) -> Callable[[list[torch.Tensor]], torch.Tensor] | None:
    """What a script does with what it computed of several parts of a batch."""
    axis = pick(st.integers(0, max(parts[0].dim() - 1, 0)), "axis")
    ways: list[Callable[[list[torch.Tensor]], torch.Tensor]] = [
        lambda parts: torch.cat(parts, axis), lambda parts: torch.stack(parts, axis),
        lambda parts: parts[0] + parts[1],
        lambda parts: parts[0] @ parts[1].mT, lambda parts: torch.bmm(parts[0], parts[1]),
        lambda parts: parts[0][:, None] + parts[1],
    ]  # fmt: skip
    way = pick(st.sampled_from(ways), "joint")
    try:
        way(parts)
    except RuntimeError:
        return None
    return way


@MANY
@given(st.data())
def test_parts_of_a_batch_that_meet_again(draw: st.DataObject) -> None:
    """Micro-batches, or single samples, that go through a network one by one: none is named after another."""
    pick = draw.draw
    x = batch_of(pick)
    size = pick(st.integers(1, len(x)), "of each part")
    starts = [pick(st.integers(0, len(x) - size), "start") for _ in range(2)]
    single = size == 1 and pick(st.booleans(), "without an axis")

    def part(x: torch.Tensor, start: int) -> torch.Tensor:
        return x[start] if single else x[start : start + size]

    views = Chain(pick, part(x, 0))
    views.grow({"view": VIEWS["view"], "permute": permuted, "unsqueeze": unsqueezed}, 2)
    parameter = torch.nn.Parameter(positive(1))
    parts = [views.run(part(x, start)) * parameter for start in starts]
    way = joint(pick, [part.detach() for part in parts])
    if way is None:
        return
    after = Chain(pick, way([part.detach() for part in parts]))
    after.grow(STEPS, 3)
    result = after.run(way(parts))
    if result.grad_fn is None:
        return
    tied = Paths(deliver(x).find).prove(result.grad_fn, result.output_nr, False)
    if tied is not None:

        def run(changed: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return after.run(way([views.run(part(changed, start)) * parameter for start in starts]))

        said = tied.start + torch.arange(result.numel()).reshape(result.shape) // tied.layout.chunk % tied.layout.rows
        for sample in range(len(x)):
            changed = x.clone()
            changed[sample] += positive(*x[sample].shape)
            influenced = run(changed) != result.detach()
            others = torch.zeros_like(influenced)
            for mate in range(len(x)):
                if mate != sample:
                    changed = x.clone()
                    changed[mate] += positive(*x[mate].shape)
                    others |= run(changed) != result.detach()
            alone = influenced & ~others
            assert not bool((alone & (said != sample)).any()), f"sample {sample} in {said[alone]}"
