"""The terms of a loss as one value for each sample: which elements are whose, and what each is worth in the total.

A mean over ``n`` elements gives every element ``1/n`` of the total, a sum all of itself. A sample's value is what the
script's own reduction turns into its number: for means the mean over the sample's elements, for sums their sum; where
terms are reduced differently, the number of samples times what the sample gives to the total.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Union

import torch
from torch import Tensor

from onthefly.capture.graph import only_input, through_hook
from onthefly.capture.layout import aligned, leading
from onthefly.capture.noted import Noted
from onthefly.capture.reading import MEAN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onthefly.capture.batches import Tied
    from onthefly.capture.expression import Scaling, Term
    from onthefly.capture.layout import Layout


reshape, detach, _double, _sum, _mean = Tensor.reshape, Tensor.detach, Tensor.double, Tensor.sum, Tensor.mean
"""As they are before they are watched: our own calls tell nobody anything (3 to 10 us each, and there are a dozen)."""


class Share(NamedTuple):
    """One term, by sample."""

    name: str
    values: Tensor
    """[rows], steps of the tail done."""
    weight: Union[Tensor, int]
    """Elements averaged into each value: what it weighs in the mean; 1 in a sum."""
    divisor: Any
    """Of the weighed sum of the values."""
    mean: bool
    valid: Union[Tensor, int]
    """Elements averaged into each value, or added up."""


class Joined(NamedTuple):
    """All terms, by sample."""

    values: Tensor
    """[rows]"""
    valid: Union[Tensor, int]
    """Elements averaged into each value: [rows], or one number for all."""
    weight: Union[Tensor, int]
    """What each value weighs in the total."""
    divisor: Any
    """Of the weighed sum of the values: then it is the script's number, but for what has no samples."""
    components: dict[str, Tensor]
    """What each term gave each sample [rows]; empty where there is one."""


def placed(lies: Tied | None, before: Sequence[int], after: Sequence[int], kept: int = 1) -> Tied | None:
    """How elements lie that were computed row by row from such a tensor; ``kept``: of its axes, where it had more."""
    if lies is None:
        return None
    if len(before) > len(after):
        layout = leading(lies.layout, before, after, kept)
    else:
        layout = aligned(lies.layout, before, after)
    return lies._replace(layout=layout) if layout is not None else None


def share_of(term: Term, layout: Layout) -> Share:
    """What a term gives each sample, whose elements lie so."""
    read, tail, name = term.read, term.tail, name_of(term)
    rows, size = layout.rows, read.elements.numel()
    parts = _parted(read.elements, layout)
    counts = _counted(read.valid, layout) if read.valid is not None else size // rows * read.unit
    if read.reduction != MEAN:
        sums = parts if parts.dim() == 1 else _sum(parts, 1)
        unmasked = _unmasked(term, layout)
        if unmasked is not None:  # the mean over what a mask lets through, by hand
            values = scaled(sums / unmasked.clamp(min=1), tail[1:])
            return Share(name, values, unmasked, tail[0].other, True, unmasked)
        if tail and _divides_by(tail[0], rows):  # the mean over the samples, by hand or as reduction="batchmean"
            return Share(name, scaled(sums, tail[1:]), 1, rows, True, counts)
        return Share(name, scaled(sums, tail), 1, 1, False, counts)
    if parts.dim() == 1:
        values = parts
    elif isinstance(counts, int):
        values = _mean(parts, 1)
    else:
        values = _sum(parts, 1) / counts.clamp(min=1)
    return Share(name, scaled(values, tail), counts, read.divisor, True, counts)


def _counted(valid: Tensor, layout: Layout) -> Tensor:
    parts = _parted(valid, layout)
    return parts.int() if parts.dim() == 1 else _sum(parts, 1)


def _unmasked(term: Term, layout: Layout) -> Tensor | None:
    """How many elements of each sample [rows] a mask lets through, where their sum was divided by just that number.

    ``(values * mask).sum() / mask.sum()``, or with ``masked_fill``. What the divisor is, only its value tells: on an
    accelerator, where nobody waits for it, such a loss stays a scaled sum.
    """
    other = term.tail[0].other if term.tail and term.tail[0].operator is torch.div else None
    if not (isinstance(term.reader, Noted) and term.reader.of_elements) or other is None or not other.is_cpu:
        return None
    node: Any = only_input(term.node)
    if node is None:
        return None
    name = node.name()
    if name == "MulBackward0":
        (left, _), (right, _) = node.next_functions
        kept = "other" if right is None else "self" if left is None else ""
    else:
        kept = "mask" if name == "MaskedFillBackward0" else ""
    if not kept or through_hook(node, kept):
        return None
    mask: Tensor = getattr(node, f"_saved_{kept}")
    through = ~mask if kept == "mask" else mask != 0
    if kept != "mask" and not bool((mask == through).all()):
        return None
    divisor, elements = other.item(), term.read.elements
    spread = through.expand(elements.shape)
    if spread.sum().item() == divisor:
        share = 1
    elif through.sum().item() == divisor and through.numel():  # of tokens, each with several numbers
        share = elements.numel() // through.numel()
    else:
        return None
    return _counted(spread, layout).div(share, rounding_mode="floor").int()


def _parted(elements: Tensor, layout: Layout) -> Tensor:
    """The elements of each sample [rows, elements]; [rows] where each has one."""
    rows, chunk = layout
    if elements.numel() == rows:
        return elements if elements.dim() == 1 else reshape(elements, (rows,))
    if elements.numel() == rows * chunk:
        return reshape(elements, (rows, chunk))
    return reshape(reshape(elements, (-1, rows, chunk)).movedim(1, 0), (rows, -1))


def alike(groups: list[list[Share]]) -> bool:
    """Whether groups of terms are of one kind, so that they can stand one below the other."""
    first = groups[0]
    return all(
        [(share.name, share.mean) for share in group] == [(share.name, share.mean) for share in first]
        for group in groups
    )


def joined(groups: list[list[Share]]) -> Joined:
    """The values of each group of samples, one group below the other."""
    first = groups[0][0]
    single = len(groups) == 1 and len(groups[0]) == 1
    components: dict[str, Tensor] = {}
    valid: Tensor | int = first.valid
    if single:
        values, weight, divisor = first.values, first.weight, first.divisor
    else:
        rows = sum(group[0].values.shape[0] for group in groups)
        means = any(share.mean for share in groups[0])
        parts = [_added_up(group, rows, means) for group in groups]
        columns = parts[0] if len(parts) == 1 else [torch.cat(part) for part in zip(*parts)]
        values, weight, divisor = columns[0], 1, rows if means else 1
        for column in columns[1:]:
            values = values + column
        if len(columns) > 1:
            for share, column in zip(groups[0], columns):
                components[unused(share.name, components)] = column
        if len(groups) > 1:
            valid = torch.cat([_spread(group[0]) for group in groups])
    return Joined(values, valid, weight, divisor, components)


def _added_up(shares: list[Share], rows: int, means: bool) -> list[Tensor]:
    """What each term gives each sample of a group, so that their plain mean over ``rows`` (or sum) is the total."""
    plain = all(
        isinstance(share.weight, int) and share.mean == means
        and share.divisor == (share.weight * rows if share.mean else 1)
        for share in shares
    )  # fmt: skip
    if plain:
        return [share.values for share in shares]
    return [share.values * share.weight / share.divisor * (rows if means else 1) for share in shares]


def _spread(share: Share) -> Tensor:
    valid = share.valid
    return valid if isinstance(valid, Tensor) else torch.full_like(share.values, valid, dtype=torch.int32)


def name_of(term: Term) -> str:
    """The function that computed it."""
    return term.reader.called(term.node)


def unused(name: str, taken: Mapping[str, object]) -> str:
    """The name, with a number where it is taken."""
    number = sum(1 for other in taken if other == name or other.startswith(f"{name}/"))
    return f"{name}/{number}" if number else name


def value_of(term: Term) -> Tensor:
    """The number it was reduced to."""
    assert term.read.value is not None
    return term.read.value


def scaled(value: Tensor, tail: tuple[Scaling, ...]) -> Tensor:
    """The tail, done to a total or to per-sample values."""
    for operator, other in tail:
        value = operator(value) if other is None else operator(value, other)
    return value


def added(one: Tensor | None, other: Tensor) -> Tensor:
    """The sum, of nothing and a number too."""
    return other if one is None else one + other


def _divides_by(step: Scaling, rows: int) -> bool:
    """Whether the script (or ``F.kl_div``) divided by that number; a number on an accelerator is not asked."""
    other = step.other
    return step.operator is torch.div and other is not None and other.is_cpu and other.item() == rows
