"""What a node of the autograd graph does to the axes of a tensor: how a layout passes from an input to its output.

A row for each kind of node that is known. One that is not known has no row, and a path that leads through it proves
nothing: that costs a loss its indices, where a wrong row would cost the truth. That a step mixes samples (a norm over
the batch, attention among its rows) does not matter here: row i stays the place of sample i.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch

from onthefly.capture.layout import MIXED, Layout, aligned, axis_of, carried, leading

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.capture.layout import Shape

    Rule = Callable[[Any, Layout, Shape, Shape], "Layout | None"]
    """``(node, layout of the input, its shape, the output's shape)``."""


def same(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """Elementwise, broadcast, or other axes resized."""
    return aligned(layout, before, after)


def viewed(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """Reshaped: elements keep their order."""
    return layout if prod(before) == prod(after) else None


def last(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """The last axis is made anew."""
    return leading(layout, before, after, len(before) - 1)


def first(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """All axes but the first are made anew."""
    return leading(layout, before, after, 1)


def _axis(number: int, count: int) -> int:
    """An axis as the graph gives it back: unsigned where it was counted from the end."""
    return number - (1 << 64) + count if number >= 1 << 63 else number + count if number < 0 else number


def _transposed(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    one, other = _axis(node._saved_dim0, len(before)), _axis(node._saved_dim1, len(before))
    return carried(layout, before, after, lambda axis: other if axis == one else one if axis == other else axis)


def _turned(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    return carried(layout, before, after, lambda axis: 1 - axis) if len(before) == 2 else None


def _permuted(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    axes = [_axis(axis, len(before)) for axis in node._saved_dims]
    return carried(layout, before, after, axes.index)


def _dropped(axes: set[int], layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """Those axes are gone, or of size 1."""
    if len(after) == len(before):
        return carried(layout, before, after, lambda axis: -1 if axis in axes else axis)
    return carried(
        layout, before, after,
        lambda axis: -1 if axis in axes else axis - sum(gone < axis for gone in axes),
    )  # fmt: skip


def _reduced(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    axes: Any = getattr(node, "_saved_dim", None)
    listed = list(axes) if isinstance(axes, (tuple, list)) else [axes]
    gone = {_axis(axis, len(before)) for axis in listed if axis is not None} or set(range(len(before)))
    found = axis_of(layout, before) if layout.rows > 1 else None
    return MIXED if found is not None and found[0] in gone else _dropped(gone, layout, before, after)


def _selected(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    return _dropped({_axis(node._saved_dim, len(before))}, layout, before, after)


def _normed(layout: Layout, together: int) -> Layout | None:
    """So many elements in a row are normalized together: none of them may be of another sample."""
    return layout if layout.rows == 1 or layout.chunk % together == 0 else None


def _layer_normed(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    return _normed(layout, prod(node._saved_normalized_shape))


def _group_normed(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    return _normed(layout, node._saved_C * node._saved_HxW // node._saved_group)


def _stacked(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    new = _axis(node._saved_dim, len(after))
    if layout.rows == 1 and not new:
        return None  # perhaps one row of several, each of another sample
    return carried(layout, before, after, lambda axis: axis + (axis >= new))


def _along(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """Elements are taken along one axis: gathered, sorted."""
    gone = _axis(node._saved_dim, len(before))
    return carried(layout, before, after, lambda axis: -1 if axis == gone else axis)


def _joined(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    axis = _axis(node._saved_dim, len(before))
    if layout.rows == 1 and (not axis or before[axis] == 1):
        return None  # perhaps one row of several, each of another sample
    return _along(node, layout, before, after)


def _moved(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """Elements change places along some axes."""
    axes: Any = node._saved_dims  # none: of the flattened tensor
    gone = {_axis(axis, len(before)) for axis in axes}
    return carried(layout, before, after, lambda axis: -1 if axis in gone or not gone else axis)


def _repeated(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    counts: Any = node._saved_repeats
    new = len(after) - len(before)
    if layout.rows == 1:
        return None
    return carried(layout, before, after, lambda axis: axis + new if counts[axis + new] == 1 else -1)


def _picked(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """One entry (a number, a vector, ...) for each element of the indices, which were whole numbers of one shape."""
    given = [index for index in node._saved_indices if index is not None]
    if any(index.is_floating_point() or index.dtype in _MASKS for index in given) or len(
        {index.shape for index in given}
    ) != 1 or any(index is None for index in node._saved_indices[: len(given)]):  # fmt: skip
        return None
    return leading(layout, before, after, len(before))


def _columns(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """The second factor of a matrix product: its last axis stays."""
    return carried(layout, before, after, lambda axis: len(after) - 1 if axis == len(before) - 1 else -1)


def _padded(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    sides: Any = node._saved_pad  # two numbers an axis, from the last one on
    moved = {len(before) - 1 - place // 2 for place, side in enumerate(sides) if side}
    return carried(layout, before, after, lambda axis: -1 if axis in moved else axis)


def _rows(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """The first factor of a matrix product: its last axis is summed away."""
    found = axis_of(layout, before) if layout.rows > 1 else None
    return MIXED if found == (len(before) - 1, 1) else last(node, layout, before, after)


def _second(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """The second factor of a product of stacks of matrices."""
    return carried(layout, before, after, lambda axis: -1 if axis == 1 else axis)


def _recurrent(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """Outputs [T, B, H], or a last state [B, H] or [layers, B, H], which may look the same."""
    if len(after) == len(before):
        states = node._input_metadata[1:]
        if getattr(node, "_saved_batch_first", False) and any(list(state.shape) == list(after) for state in states):
            return None
        return last(node, layout, before, after)
    return carried(layout, before, after, lambda axis: axis - 1)


def _entries(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """One vector for each entry of the input."""
    return leading(layout, before, after, len(before))


def _unfolded(node: Any, layout: Layout, before: Shape, after: Shape) -> Layout | None:
    gone = _axis(node._saved_dimension, len(before))
    return carried(layout, before, after, lambda axis: -1 if axis == gone else axis)


_MASKS = (torch.bool, torch.uint8)

_ELEMENTWISE = """
Add Sub Rsub Mul Div Pow Abs Neg Exp Exp2 Log Log1P Log2 Log10 Expm1 Sqrt Rsqrt Reciprocal Relu Relu6 Sigmoid Tanh Gelu
Silu Softplus LeakyRelu Elu Celu Selu Hardtanh Hardswish Hardsigmoid Mish LogSigmoid Clamp ClampMin ClampMax Where
Maximum Minimum Softmax LogSoftmax SafeSoftmax NativeDropout FusedDropout Dropout Clone ToCopy Alias Sin Cos Erf Erfc
Lerp Addcmul Addcdiv MaskedFill NanToNum Threshold Prelu MseLoss SmoothL1Loss HuberLoss BinaryCrossEntropy
BinaryCrossEntropyWithLogits SoftMarginLoss Xlogy Cumsum Hardshrink Softshrink Lgamma Digamma Atan2 Square
Tril Triu Cumprod Logcumsumexp
NativeBatchNorm CudnnBatchNorm MiopenBatchNorm BatchNorm FusedRmsNorm RmsNorm Expand
Slice Split SplitWithSizes Contiguous GluJvp
"""
_FIRST = """
Convolution MkldnnConvolution MaxPool2DWithIndices MaxPool3DWithIndices MkldnnMaxPool2D MkldnnMaxPool3D AvgPool2D
AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D MkldnnAdaptiveAvgPool2D AdaptiveMaxPool2D AdaptiveMaxPool3D
UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleBilinear2D UpsampleBicubic2D UpsampleLinear1D
UpsampleTrilinear3D PixelShuffle PixelUnshuffle ReflectionPad1D ReflectionPad2D ReplicationPad1D ReplicationPad2D
GridSampler2D ScaledDotProductFlashAttention ScaledDotProductFlashAttentionForCpu
ScaledDotProductEfficientAttention ScaledDotProductCudnnAttention Im2Col
"""
_VIEWS = "View UnsafeView ReshapeAlias Squeeze Unsqueeze"
_REDUCED = "Mean Sum Amax Amin Max Min Logsumexp Prod Var Std LinalgVectorNorm Norm Median"

RULES: dict[str, tuple[tuple[int, Rule], ...]] = {
    **{f"{stem}Backward0": ((0, same), (1, same), (2, same)) for stem in _ELEMENTWISE.split()},
    **{f"{stem}Backward0": ((0, first), (1, first), (2, first)) for stem in _FIRST.split()},
    **{f"{stem}Backward{number}": ((0, viewed),) for stem in _VIEWS.split() for number in range(4)},
    **{f"{stem}Backward{number}": ((0, _reduced),) for stem in _REDUCED.split() for number in range(4)},
    **dict.fromkeys(
        ("AddBackward1", "SubBackward1", "RsubBackward1", "MulBackward1", "DivBackward1", "ClampBackward1"),
        ((0, same),),
    ),
    "PowBackward1": ((0, same), (1, same)),
    "ConstantPadNdBackward0": ((0, _padded),),
    "GluBackward0": ((0, _along),),
    "LinearBackward0": ((0, last),),
    "AddmmBackward0": ((1, last),),
    "MmBackward0": ((0, _rows), (1, _columns)),
    "MvBackward0": ((0, first),),
    "BmmBackward0": ((0, last), (1, _second)),
    "BaddbmmBackward0": ((0, same), (1, last), (2, _second)),
    "RollBackward0": ((0, _moved),),
    "FlipBackward0": ((0, _moved),),
    "RepeatBackward0": ((0, _repeated),),
    "SortBackward0": ((0, _along),),
    "TopkBackward0": ((0, _along),),
    "UnfoldBackward0": ((0, _unfolded),),
    "MkldnnRnnLayerBackward0": ((0, _recurrent),),
    "CudnnRnnBackward0": ((0, _recurrent),),
    "TransposeBackward0": ((0, _transposed),),
    "TransposeBackward1": ((0, _transposed),),
    "UnsafeSplitBackward0": ((0, same),),
    "PreluKernelBackward0": ((0, same),),
    "TBackward0": ((0, _turned),),
    "PermuteBackward0": ((0, _permuted),),
    "NativeLayerNormBackward0": ((0, _layer_normed),),
    "NativeGroupNormBackward0": ((0, _group_normed),),
    "SelectBackward0": ((0, _selected),),
    "UnbindBackward0": ((0, _selected),),
    "StackBackward0": ((0, _stacked), (1, _stacked)),
    "CatBackward0": ((0, _joined), (1, _joined), (2, _joined)),
    "GatherBackward0": ((0, _along),),
    "IndexSelectBackward0": ((0, _along),),
    "NllLossBackward0": ((0, first),),
    "NllLoss2DBackward0": ((0, first),),
    "MultiMarginLossBackward0": ((0, first),),
    "MultilabelMarginLossBackward0": ((0, first),),
}
"""By the name of a node: which of its inputs may tell the samples, in the order in which they are tried, and how."""

SUMMING = {"MmBackward0", *(f"{stem}Backward{number}" for stem in _REDUCED.split() for number in range(4))}
"""Nodes that may sum over all samples."""

JOINING = {"CatBackward0", "StackBackward0"}
"""Nodes whose inputs may be of other samples each: no rows of a part of a batch are told behind them."""

SAVED: dict[str, tuple[tuple[str, Rule], ...]] = {
    "AddmmBackward0": (("mat1", last),),
    "MmBackward0": (("self", last), ("mat2", _columns)),
    "MvBackward0": (("self", first),),
    "LinearBackward0": (("input", last),),
    "ConvolutionBackward0": (("input", first),),
    "MkldnnConvolutionBackward0": (("input", first),),
    "EmbeddingBackward0": (("indices", _entries),),
    "NativeLayerNormBackward0": (("input", _layer_normed),),
    "NativeBatchNormBackward0": (("input", same),),
    "CudnnBatchNormBackward0": (("input", same),),
    "NativeGroupNormBackward0": (("input", _group_normed),),
    "BmmBackward0": (("self", last), ("mat2", _second)),
    "MkldnnRnnLayerBackward0": (("input", _recurrent),),
    "CudnnRnnBackward0": (("input", _recurrent),),
    "MulBackward0": (("other", same), ("self", same)),
    "DivBackward0": (("other", same), ("self", same)),
    "PowBackward0": (("self", same),),
    "GatherBackward0": (("index", same),),
    "IndexBackward0": (("indices", _picked),),
    "WhereBackward0": (("condition", same),),
    "MaskedFillBackward0": (("mask", same),),
    "NllLossBackward0": (("target", same),),
    "NllLoss2DBackward0": (("target", same),),
    "MseLossBackward0": (("target", same), ("self", same)),
    "SmoothL1LossBackward0": (("target", same), ("self", same)),
    "HuberLossBackward0": (("target", same), ("self", same)),
    "BinaryCrossEntropyBackward0": (("target", same),),
    "BinaryCrossEntropyWithLogitsBackward0": (("target", same),),
    "SoftMarginLossBackward0": (("target", same),),
    "MultiMarginLossBackward0": (("target", same),),
    "MultilabelMarginLossBackward0": (("target", first),),
    "XlogyBackward0": (("self", same), ("other", same)),
    "LerpBackward0": (("weight", same),),
    "AddcmulBackward0": (("tensor1", same), ("tensor2", same)),
}
"""By the name of a node: what it saved that may be a tensor of the batch, and how that lies in its output."""
