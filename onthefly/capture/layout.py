"""Which sample each element of a tensor belongs to, as arithmetic on its shape; knows neither batches nor the graph.

A loss is computed from tensors that were reshaped, transposed, padded and reduced on the way. Two numbers follow all of
it: element ``e`` of a tensor, counted in row-major order, belongs to sample ``(e // chunk) % rows``. A batch-first one
of B samples has ``rows = B`` and ``chunk = numel / B``; time first, [T, B, D], has ``chunk = D``, and flattening either
changes nothing. A step that breaks this form has no layout: its rows are not named, never guessed.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Shape = Sequence[int]


class Layout(NamedTuple):
    """Element ``e`` belongs to sample ``(e // chunk) % rows``."""

    rows: int
    chunk: int


MIXED = Layout(0, 0)
"""Every element is of all samples: their axis was summed away."""


def batch_first(shape: Shape) -> Layout | None:
    """Of a tensor whose first axis is that of the samples."""
    size = prod(shape)
    return Layout(shape[0], size // shape[0]) if size and shape else None


def axis_of(layout: Layout, shape: Shape) -> tuple[int, int] | None:
    """The axis along which the sample changes, and how many of its steps are one sample; None if no single axis does.

    (1, 1) for [T, B, D] with B samples, (0, T) for [B * T, D] flattened from a batch-first one.
    """
    below = 1
    for axis in range(len(shape) - 1, -1, -1):
        if shape[axis] * below == layout.chunk * layout.rows and layout.chunk % below == 0:
            return axis, layout.chunk // below
        below *= shape[axis]
    return None


def leading(layout: Layout, before: Shape, after: Shape, kept: int) -> Layout | None:
    """Through a step that keeps the first ``kept`` axes and makes others of the rest: a matrix product, a pooling."""
    if kept < 1 or list(before[:kept]) != list(after[:kept]):
        return None
    unit = prod(before[kept:])
    if not unit or layout.chunk % unit:
        return None
    return _filled(layout.rows, layout.chunk // unit * prod(after[kept:]))


def carried(layout: Layout, before: Shape, after: Shape, place: Callable[[int], int]) -> Layout | None:
    """Through a step that leaves the samples' axis whole; ``place(axis)`` says which one it is then, -1 for none."""
    if layout.rows == 1:
        return _filled(1, prod(after))
    found = axis_of(layout, before)
    if found is None:
        return None
    axis, steps = found
    there = place(axis)
    if not 0 <= there < len(after) or after[there] != before[axis]:
        return None
    return _filled(layout.rows, steps * prod(after[there + 1 :]))


def aligned(layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """Through an elementwise step, a broadcast, or one that resizes other axes: axes are told from the last one.

    An axis of one that is stretched to the number of samples may be theirs as well ([B, 1] against [B], a well-known
    mistake, or a contrast of all with all): whose such a square's elements are is not told. Nor is it of a single
    sample that meets several rows: they may be others.
    """
    if list(before) == list(after):
        return layout
    narrow = [1] * (len(after) - len(before)) + list(before)
    if layout.rows > 1 and any(old == 1 and new == layout.rows for old, new in zip(narrow, after)):
        return None
    if layout.rows == 1 and prod(after[: len(after) - len(before) + 1]) != prod(before[:1]):
        return None
    return carried(layout, before, after, lambda axis: axis + len(after) - len(before))


def viewed(base: Layout, shape: Shape, strides: Shape, offset: int, whole: int) -> tuple[int, Layout] | None:
    """A view of a contiguous tensor of ``whole`` elements: the sample that it begins with, and its own layout.

    ``offset`` counts from the first element of that tensor. Rows that follow on each other (micro-batches), parts of
    each row, and axes in another order are told; rows that are skipped or taken in another order are not.
    """
    size = prod(shape)
    if not size or offset + sum((size - 1) * stride for size, stride in zip(shape, strides)) >= whole:
        return None
    first, rest = divmod(offset, base.chunk)
    if _contiguous(shape, strides):
        if size == whole and not offset:
            return 0, base
        if rest or size % base.chunk or base.rows * base.chunk != whole:
            return None
        return first, Layout(size // base.chunk, base.chunk)
    if base.rows * base.chunk != whole:
        return None
    axes = [axis for axis, stride in enumerate(strides) if stride == base.chunk and shape[axis] > 1]
    if len(axes) != 1:
        return None
    axis = axes[0]
    if any(not stride and size == shape[axis] for size, stride in zip(shape, strides)):
        return None  # stretched: see `aligned`
    reach = sum((shape[other] - 1) * stride for other, stride in enumerate(strides) if other != axis)
    if rest + reach >= base.chunk:
        return None
    return first, Layout(shape[axis], prod(shape[axis + 1 :]))


def _contiguous(shape: Shape, strides: Shape) -> bool:
    below = 1
    for size, stride in zip(reversed(shape), reversed(strides)):
        if size != 1 and stride != below:
            return False
        below *= size
    return True


def _filled(rows: int, chunk: int) -> Layout | None:
    """None for a tensor without elements."""
    return Layout(rows, chunk) if rows and chunk else None
