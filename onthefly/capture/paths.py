"""The way from a tensor, down the autograd graph, to a tensor of a batch: the proof of which row is which sample.

A loss by hand keeps no target. But the network that made its input keeps what it was given (a convolution its images,
an embedding its tokens), and every step between the two that is known (:mod:`onthefly.capture.rules`) says where the
samples' axis went. The way is found once, by search; then it is walked again at each step, 1 to 2 us for each node.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from torch.nn import Parameter

from onthefly.capture.graph import through_hook
from onthefly.capture.layout import MIXED
from onthefly.capture.rules import JOINING, RULES, SAVED, SUMMING
from onthefly.capture.trails import Trail, trail_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from onthefly.capture.batches import Tied
    from onthefly.capture.layout import Layout

MOST = 4000
"""Nodes that are looked at in one search: a network of a thousand layers, some 10 ms."""

PATIENCE, PAUSE = 4, 64
"""After so many searches in vain from one kind of node, only one loss in so many is searched for."""

KEPT = 4
"""Ways remembered from one kind of node: a loss of several terms goes several."""


class Hop(NamedTuple):
    """One node on the way, and where to go on: an input of it, or (at the end) a tensor that it saved."""

    kind: type
    rule: int
    """Place in the node's row of ``RULES``; at the end, of ``SAVED``."""


class Paths:
    """Ways that were found."""

    def __init__(self, find: Callable[[Tensor], Tied | None]) -> None:
        """``find(tensor)`` says which batch a tensor belongs to."""
        self._find = find
        self._ways: dict[type, list[tuple[Hop, ...]]] = {}
        self._vain: dict[type, int] = {}

    def prove(self, node: Any, place: int, hooked: bool) -> Tied | None:
        """How output ``place`` of a node lies in a batch; None where that is not proven."""
        tied = self.again(node, place, hooked)
        if tied is not None:
            return tied
        kind = type(node)
        ways = self._ways.setdefault(kind, [])
        vain = self._vain.get(kind, 0)
        if vain >= PATIENCE and vain % PAUSE:
            self._vain[kind] = vain + 1
            return None
        for way in self._search(node, hooked):
            tied = self._walk(way, node, place, hooked)
            if tied is not None:
                self._vain[kind] = 0
                ways.insert(0, way)
                del ways[KEPT:]
                return tied
        self._vain[kind] = vain + 1
        return None

    def again(self, node: Any, place: int, hooked: bool) -> Tied | None:
        """The same by a way that was found before: without a search."""
        for way in self._ways.get(type(node), ()):
            tied = self._walk(way, node, place, hooked)
            if tied is not None:
                return tied
        return None

    def trail(self, node: Any, place: int) -> Trail | None:
        """How the way that a node's output is proven by is found again at little cost; None if it is not."""
        ways = self._ways.get(type(node), ())
        way = next((way for way in ways if self._walk(way, node, place, False) is not None), None)
        return trail_of(node, way) if way is not None else None

    def _walk(self, way: tuple[Hop, ...], node: Any, place: int, hooked: bool) -> Tied | None:
        """Down that way to its tensor, and up again with its layout."""
        passed: list[tuple[Any, int, int]] = []
        for hop in way[:-1]:
            if node is None or type(node) is not hop.kind:
                return None
            passed.append((node, place, hop.rule))
            child, _ = RULES[node.name()][hop.rule]
            following = node.next_functions
            node, place = following[child] if child < len(following) else (None, 0)
        end = way[-1]
        if node is None or type(node) is not end.kind:
            return None
        attribute, rule = SAVED[node.name()][end.rule]
        tensor = _saved(node, attribute, hooked)
        tied = self._find(tensor) if tensor is not None else None
        if tied is None or tied.doubt or tensor is None:
            return None
        drawn = tied.batch.drawn
        part = isinstance(drawn, list) and tied.layout.rows < len(drawn)
        shape = _shape(node, place)
        layout: Layout | None = rule(node, tied.layout, tensor.shape, shape)
        for above, place, number in reversed(passed):
            if layout is None or (part and above.name() in JOINING):
                return None
            before, shape = shape, _shape(above, place)
            _, rule = RULES[above.name()][number]
            layout = rule(above, layout, before, shape)
            if layout is MIXED:
                return None
        return tied._replace(layout=layout) if layout is not None else None

    def is_mixed(self, node: Any, rows: int, hooked: bool) -> bool:
        """Whether it is arithmetic on parameters and on what was summed over all samples: it has no axis of theirs."""

        def spent(below: Any) -> bool:
            if below.name() not in SUMMING:
                return False
            child, rule = RULES[below.name()][0]
            source, place = below.next_functions[child]
            tied = self.prove(source, place, hooked) if source is not None else None
            return tied is not None and rule(below, tied.layout, _shape(source, place), _shape(below, 0)) is MIXED

        return depends_on_parameters_alone(node, rows, spent)

    def _search(self, start: Any, hooked: bool) -> Iterator[tuple[Hop, ...]]:
        """Ways to tensors of batches, by the first inputs first."""
        pending: list[tuple[Any, tuple[Hop, ...]]] = [(start, ())]
        seen: set[Any] = set()
        while pending and len(seen) < MOST:
            node, way = pending.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            name = node.name()
            for number, (attribute, _) in enumerate(SAVED.get(name, ())):
                tensor = _saved(node, attribute, hooked)
                if tensor is not None and self._find(tensor) is not None:
                    yield (*way, Hop(type(node), number))
            following = node.next_functions
            for number, (child, _) in reversed(list(enumerate(RULES.get(name, ())))):
                if child < len(following):
                    pending.append((following[child][0], (*way, Hop(type(node), number))))


def depends_on_parameters_alone(node: Any, rows: int = -1, spent: Callable[[Any], bool] = lambda below: False) -> bool:
    """Whether arithmetic on parameters is all that a tensor was made by: a penalty, whose rows are no samples.

    Args:
        node: where it was made.
        rows: of the batch: a leaf with so many that is no ``Parameter`` may have one for each sample.
        spent: tells nodes below which nothing needs to be looked at.
    """
    pending, seen = [node], set[Any]()
    while pending:
        below = pending.pop()
        if below is None or below in seen:
            continue
        seen.add(below)
        name = below.name()
        if name.endswith("AccumulateGrad"):
            leaf = below.variable
            if not isinstance(leaf, Parameter) and leaf.dim() and leaf.shape[0] == rows:
                return False
            continue
        if spent(below):
            continue
        following = [child for child, _ in below.next_functions]
        if name in ("MmBackward0", "DotBackward0") and all(following):  # of parameters by each other
            pass
        elif len(seen) > MOST or not (name[-1:].isdigit() and name.rstrip("0123") in _ARITHMETIC) or _grows(below):
            return False
        pending += following
    return True


def is_of_losses(node: Any) -> bool:
    """Whether elements were made by elementwise steps of single numbers, one beside the other: losses, not samples."""
    pending, seen = [node], set[Any]()
    while pending and len(seen) < 64:
        below = pending.pop()
        if below is None or below in seen:
            continue
        seen.add(below)
        following = [child for child, _ in below.next_functions]
        if below.name() in ("StackBackward0", "CatBackward0"):
            if all(child is None or prod(_shape(child, place)) == 1 for child, place in below.next_functions):
                return True
        elif below.name() in RULES and _shape(below, 0) == _shape(node, 0):
            pending += following
    return False


def _grows(node: Any) -> bool:
    """Whether a tensor without a gradient gave this axes that its other operand has not: data, by a parameter."""
    following = [(child, place) for child, place in node.next_functions if child is not None]
    if len(following) == len(node.next_functions):
        return False
    return prod(_shape(node, 0)) > max((prod(_shape(child, place)) for child, place in following), default=0)


_PLAIN = """
Add Sub Rsub Mul Div Neg Pow Abs Sum Mean Exp Log Sqrt Clamp ClampMin ClampMax Stack Cat View UnsafeView ReshapeAlias
Squeeze Unsqueeze Expand T Transpose Permute Clone ToCopy LinalgVectorNorm Norm Where Select Slice Relu Softplus Sigmoid
"""
_ARITHMETIC = {f"{stem}Backward" for stem in _PLAIN.split()}
"""Kinds of nodes that hold no data of a network's: not a layer among them."""


def _saved(node: Any, attribute: str, hooked: bool) -> Tensor | None:
    if hooked and through_hook(node, attribute):
        return None
    tensor: Any = getattr(node, f"_saved_{attribute}", None)
    if isinstance(tensor, tuple):  # of an index: `logits[range, target]`
        tensor = tensor[-1]  # pyright: ignore[reportUnknownVariableType]
    return tensor if tensor is not None and hasattr(tensor, "grad_fn") and tensor.grad_fn is None else None


def _shape(node: Any, place: int) -> list[int]:
    """Of an output."""
    return node._input_metadata[place].shape
