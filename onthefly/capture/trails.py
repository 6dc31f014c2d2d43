"""Ways down the graph (:mod:`onthefly.capture.paths`) that are walked again at little cost.

Most lead through layers and functions that make of each sample's row one row, whatever they do with it: where samples
are the first axis of what goes in, they are that of what comes out. A way of such nodes alone, from a tensor with its
samples first, needs no arithmetic on layouts: that the kinds of its nodes are those it was proven for is enough, and at
an elementwise step of two operands or a view, which could add an axis, that there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from onthefly.capture.rules import RULES, SAVED

if TYPE_CHECKING:
    from onthefly.capture.paths import Hop

_ROW_BY_ROW = """
Addmm Convolution MkldnnConvolution NativeBatchNorm NativeLayerNorm NativeGroupNorm MaxPool2DWithIndices AvgPool2D
AdaptiveAvgPool2D MkldnnMaxPool2D MkldnnAdaptiveAvgPool2D Relu Sigmoid Tanh Gelu Silu Softplus LeakyRelu Elu Hardtanh
NativeDropout LogSoftmax Softmax Pow Abs Neg Exp Log Sqrt Square Clone ToCopy Clamp Embedding
"""
_OF_TWO = "Add Sub Mul Div Maximum Minimum MseLoss SmoothL1Loss HuberLoss"
_VIEWS = "View UnsafeView ReshapeAlias"

ROW_BY_ROW = {f"{stem}Backward0" for stem in _ROW_BY_ROW.split()}
OF_TWO = {f"{stem}Backward0" for stem in _OF_TWO.split()}
VIEWS = {f"{stem}Backward0" for stem in _VIEWS.split()}


class Trail:
    """Such a way."""

    def __init__(self, hops: list[tuple[type, int, str]], last: type, kept: str, *, compared: bool) -> None:
        self._hops = hops
        """Of each node the kind, which input is gone on to, and what is compared: the ``axes``, the first ``row``."""
        self._last, self._kept, self._compared = last, f"_saved_{kept}", compared

    def end(self, node: Any, place: int) -> Tensor | None:
        """The tensor that it leads to, with as many rows as the node's output; None if it does not lead there."""
        for kind, child, compared in self._hops:
            if type(node) is not kind:
                return None
            below, lower = node.next_functions[child]
            if below is None:
                return None
            if compared:
                above, under = node._input_metadata[place].shape, below._input_metadata[lower].shape
                if above != under and (compared == "axes" or above[:1] != under[:1]):
                    return None
            node, place = below, lower
        if type(node) is not self._last:
            return None
        tensor: Any = getattr(node, self._kept)
        if type(tensor) is not Tensor or (self._compared and tensor.shape != node._input_metadata[place].shape):
            return None
        return tensor


def trail_of(node: Any, way: tuple[Hop, ...]) -> Trail | None:
    """The trail of a way from that node on; None where a step of it could do more."""
    hops: list[tuple[type, int, str]] = []
    for hop in way[:-1]:
        name = node.name()
        if name in ROW_BY_ROW:
            compared = ""
        elif name in OF_TWO or name in VIEWS:
            compared = "axes" if name in OF_TWO else "row"
        else:
            return None
        child, _ = RULES[name][hop.rule]
        if name == "AddmmBackward0" and child != 1:
            return None
        hops.append((hop.kind, child, compared))
        node = node.next_functions[child][0]
    name = node.name()
    kept, _ = SAVED[name][way[-1].rule]
    if name not in ROW_BY_ROW and name not in OF_TWO:
        return None
    return Trail(hops, way[-1].kind, kept, compared=name in OF_TWO or name == "PowBackward0")
