"""Losses whose form is known from steps before: their operands are copied at once, and worked off with a block.

What reading a loss (:mod:`onthefly.capture.expression`) costs is how many different operators and functions it meets,
each with cold caches, once a step: a loss of three terms meets a hundred. So the first of a form is read as any other,
and a plan of it is kept: which nodes it has, what its operands look like, which of them is the batch's. The next one of
just that form is walked down by the kinds of its nodes, its operands (some KiB) are copied, the numbers that it was
scaled by are taken, and that is all. When the block is sent, the same operators work off all its calls.

A plan proves nothing: it recognises what was proven. What is not of that form, in one kind of node, shape, class of
number or option, is read in full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from onthefly.capture.expression import Scaling
from onthefly.capture.graph import is_scaled
from onthefly.capture.group import Call
from onthefly.capture.layout import Layout
from onthefly.capture.leaves import DTYPES, SLOTS, Leaf, NotedLeaf, OperatorLeaf, Unplanned
from onthefly.capture.noted import KEY, Noted
from onthefly.capture.paths import Paths, depends_on_parameters_alone
from onthefly.capture.reading import reshape
from onthefly.capture.shares import Joined, Share, joined, share_of, unused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from onthefly.capture.batches import RecentBatches
    from onthefly.capture.expression import Term
    from onthefly.capture.margins import Margins

    Form = Callable[[list[Tensor], list[Tensor]], Tensor]
    """``(numbers of the terms [calls], other numbers [calls])`` gives that of a node [calls]."""

    Steps = list[tuple[Callable[..., Tensor], int]]

MAX_NODES = 64
"""Between a loss and its terms, and below its penalties."""

MAX_PLANS, MAX_TRIES = 4, 16
"""Plans of losses that end in one kind of node, and how often one is looked for."""

REST = tuple(Call._field_defaults.values())[-3:]
"""Of a call, what comes after its components."""

MAX_ROOM = 1 << 26
"""Bytes that all plans may hold (one more may come while there is any): what was never used takes no memory."""


class Plan:
    """Of one form of losses."""

    def __init__(self, root: Any, terms: tuple[Term, ...], recent: RecentBatches, paths: Paths) -> None:
        """Of a loss that was just read; :class:`Unplanned` if it has no plan. Gradients are off."""
        self.given = self._recent, self._paths = recent, paths
        self._inner: list[tuple[int, tuple[type, ...]]] = []
        """Nodes, by their place, and the kinds of their inputs."""
        self._alphas: list[int] = []
        """Sums, which must have no factor on their second operand."""
        self._factors: list[tuple[int, str]] = []
        """What was multiplied or divided by: of which node, and under which name it is saved."""
        self._penalties: list[int] = []
        """Sums over parameters, whose numbers were noted; they come after the factors."""
        self._parameters: list[int] = []
        """The leaves of those."""
        self._shared: list[Steps] = []
        """Of each penalty, as of a term."""
        self.leaves: list[Leaf] = []
        self._may_be_scaled = root.name() == "MulBackward0"
        form, nodes = _Forming(self, root, terms).form()
        self._form: Form = form
        rows = {leaf.rows for leaf in self.leaves}
        self._dtype = root._input_metadata[0].dtype
        if (
            len(self.leaves) + len(self._penalties) < len(terms) or len(rows) != 1 or self._dtype not in DTYPES
            or any(leaf.dtype is not self._dtype for leaf in self.leaves) or (self._may_be_scaled and is_scaled(root))
            or root._input_metadata[0].device.type != "cpu"
        ):  # fmt: skip
            raise Unplanned
        (self.rows,) = rows
        self._numbers: list[Sequence[float]] = []
        """Of each call: the factors, then the penalties."""
        numbers = self._taken(nodes)
        if numbers is None:
            raise Unplanned
        self._settle(numbers)
        self._single = self.leaves[0] if len(nodes) == 1 and isinstance(self.leaves[0], OperatorLeaf) else None
        self._classes = next((leaf for leaf in self.leaves if isinstance(leaf, OperatorLeaf) and leaf.classifies), None)
        self.classifies = self._classes is not None
        """Whether :meth:`hits` can be asked."""

    def take(self, root: Tensor, node: Any) -> int:
        """Copy what a loss is computed from; the slot that it has then, or -1 if it is not of this form or no room."""
        slot = len(self._numbers)
        if slot == SLOTS or root.dtype is not self._dtype or not root.is_cpu:
            return -1
        if self._single is not None:
            if not self._single.take(node, slot, self._recent, self._paths):
                return -1
            self._numbers.append(())
            return slot
        if self._may_be_scaled and is_scaled(node):
            return -1
        nodes = self._walked(node)
        if nodes is None:
            return -1
        numbers = self._taken(nodes)
        if numbers is None:
            return -1
        for leaf in self.leaves:
            if leaf.spread >= 0 and (numbers[leaf.spread] == self.rows) != leaf.divided:
                return -1
            if not leaf.take(nodes[leaf.place], slot, self._recent, self._paths):
                return -1
        for leaf in self.leaves:
            leaf.finished(nodes[leaf.place])
        for place in self._penalties:
            nodes[place].metadata[KEY].finished()
        self._numbers.append(numbers)
        return slot

    def hits(self, node: Any) -> tuple[Tensor, Tensor, Tensor]:
        """What accuracy is made of, at the root's node, where the loss has classes; see ``Reader.hits``."""
        nodes, leaf = self._walked(node), self._classes
        assert nodes is not None
        assert leaf is not None
        return leaf.reader.hits(nodes[leaf.place])

    def work_off(self, calls: list[tuple[Any, ...]], margins: Margins) -> list[tuple[Any, ...]]:
        """These calls with their values, and the plan's slots free again. Gradients are off."""
        count = len(self._numbers)
        taken, self._numbers = self._numbers, []
        numbers = [torch.tensor(column, dtype=torch.float64).to(self._dtype) for column in zip(*taken)]
        elements = [leaf.elements(count) for leaf in self.leaves]
        again = self._again(calls, elements, numbers)
        values, divisor, components = self._joined(elements, numbers)
        shared = self._without_samples(count, numbers)
        whole = self._whole(count)
        singly = {place: self._singly(place, numbers) for place, all_count in enumerate(whole) if not all_count}
        slot = -1
        if self._classes is not None:
            slot = margins.add(*[operand.room[:count] for operand in self._classes.operands])
        plain = not self._shared and not components
        worked: list[tuple[Any, ...]] = []
        for call in calls:
            place: int = call[9]
            scores = slot + place if slot >= 0 else -1
            if not whole[place]:
                one = singly[place]
                worked.append((
                    *call[:8], one.values, again[place], one.divisor, one.valid, call[12], scores, one.weight,
                    shared[place], one.components or None, *REST,
                ))  # fmt: skip
                continue
            done = (*call[:8], (values, place), again[place], divisor, self.leaves[0].chunk, call[12], scores)
            worked.append(done if plain else (*done, 1, shared[place], components or None, *REST))
        return worked

    def _again(self, calls: list[tuple[Any, ...]], elements: list[Tensor], numbers: list[Tensor]) -> list[float]:
        """The number of each call, computed once more: of its elements; where that gives another, by the operators.

        Adding up elements in another order than the operator's gives another number in half of all calls.
        """
        count = len(elements[0]) // self.rows
        totals = [leaf.total(reshape(each, (count, -1))) for leaf, each in zip(self.leaves, elements)]
        again: list[float] = self._form(totals, numbers).tolist()
        for call in calls:
            place: int = call[9]
            if again[place] != call[5]:
                terms = [leaf.number_of(place) for leaf in self.leaves]
                again[place] = self._form(terms, [column[place] for column in numbers]).item()
        return again

    def _joined(self, elements: list[Tensor], numbers: list[Tensor]) -> tuple[Tensor, int, dict[str, Tensor]]:
        """As :func:`onthefly.capture.shares.joined`, of all calls: values (of weight 1), divisor, components."""
        rows, components = self.rows, dict[str, Tensor]()
        spread = [column.repeat_interleave(rows) for column in numbers]
        parts = [
            _stepped(leaf.parts(each), leaf.steps[leaf.divided :], spread) for leaf, each in zip(self.leaves, elements)
        ]
        means = [leaf.mean or leaf.divided for leaf in self.leaves]
        if any(means):
            parts = [part if mean else part * rows for part, mean in zip(parts, means)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        if len(parts) > 1:
            for leaf, part in zip(self.leaves, parts):
                components[unused(leaf.name, components)] = reshape(part, (-1, rows))
        return reshape(total, (-1, rows)), rows if any(means) else 1, components

    def _without_samples(self, count: int, numbers: list[Tensor]) -> list[float]:
        """What of each call's number has no samples."""
        first = len(self._factors)
        parts = [_stepped(numbers[first + place], steps, numbers) for place, steps in enumerate(self._shared)]
        return sum(parts[1:], parts[0]).tolist() if parts else [0.0] * count

    def _whole(self, count: int) -> list[bool]:
        """Of each call, whether all elements of all its terms count."""
        whole = [True] * count
        for leaf in self.leaves:
            if leaf.ignored is not None and not leaf.all_count(count):
                whole = [both and flag for both, flag in zip(whole, leaf.counted(count))]
        return whole

    def _singly(self, slot: int, numbers: list[Tensor]) -> Joined:
        """A call of which some elements do not count, as the full reading joins its terms."""
        shares: list[Share] = []
        for leaf in self.leaves:
            tail = [Scaling(operator, numbers[by][slot] if by >= 0 else None) for operator, by in leaf.steps]
            term = leaf.singly(slot)._replace(tail=tuple(tail))
            shares.append(share_of(term, Layout(leaf.rows, leaf.chunk)))
        return joined([shares])

    def _walked(self, root: Any) -> list[Any] | None:
        """All nodes of the form by their places; None if one is of another kind."""
        nodes: list[Any] = [root]
        for place, kinds in self._inner:
            following = nodes[place].next_functions
            if len(following) != len(kinds):
                return None
            for (child, _), kind in zip(following, kinds):
                if type(child) is not kind:
                    return None
                nodes.append(child)
        return nodes

    def _taken(self, nodes: list[Any]) -> list[float] | None:
        """The numbers of a call; None if one is none."""
        for place in self._alphas:
            if nodes[place]._saved_alpha != 1:
                return None
        numbers: list[float] = []
        for place, name in self._factors:
            factor = getattr(nodes[place], name)
            if type(factor) is not Tensor or factor.dim() or not factor.is_cpu:
                return None
            numbers.append(factor.item())
        for place in self._penalties:
            noted = nodes[place].metadata.get(KEY)
            if noted is None or noted.number is None:
                return None
            numbers.append(noted.number)
        for place in self._parameters:
            if type(nodes[place].variable) is not Parameter:
                return None
        return numbers

    def _settle(self, numbers: list[float]) -> None:
        """What a sum was divided by first, if it was: that may be the number of samples."""
        for leaf in self.leaves:
            if not leaf.mean and leaf.steps and leaf.steps[0][0] is torch.div:
                leaf.spread = leaf.steps[0][1]
                leaf.divided = numbers[leaf.spread] == self.rows


class _Forming:
    """Takes a loss apart that was read, into the parts of its plan."""

    def __init__(self, plan: Plan, root: Any, terms: tuple[Term, ...]) -> None:
        self._plan, self._nodes = plan, [root]
        self._terms = {term.node: term for term in terms}

    def form(self) -> tuple[Form, list[Any]]:
        """How its number is computed, and its nodes by their places."""
        form, _ = self._at(0)
        return form, self._nodes

    def _at(self, place: int) -> tuple[Form, list[Steps]]:
        """The form of the number at a place, and the steps of all that goes into it."""
        plan, node = self._plan, self._nodes[place]
        term = self._terms.get(node)
        if term is not None:
            noted = isinstance(term.reader, Noted)
            if noted and depends_on_parameters_alone(node):
                return self._penalty(place)
            leaf = (NotedLeaf if noted else OperatorLeaf)(place, term, *plan.given)
            number = len(plan.leaves)
            plan.leaves.append(leaf)
            return lambda terms, numbers: terms[number], [leaf.steps]
        name = node.name()
        if name in ("AddBackward0", "SubBackward0"):
            return self._sum(place, minus=name == "SubBackward0")
        if name in ("MulBackward0", "DivBackward0"):
            return self._product(place, divides=name == "DivBackward0")
        if name == "NegBackward0":
            (inner,) = self._children(place)
            return self._step(torch.neg, inner, -1)
        return self._penalty(place)

    def _children(self, place: int) -> list[int]:
        """The places of its inputs."""
        following = [child for child, _ in self._nodes[place].next_functions]
        if len(self._nodes) + len(following) > MAX_NODES:
            raise Unplanned
        first = len(self._nodes)
        self._nodes += following
        self._plan._inner.append((place, tuple(type(child) for child in following)))
        return list(range(first, len(self._nodes)))

    def _sum(self, place: int, *, minus: bool) -> tuple[Form, list[Steps]]:
        left, right = self._children(place)
        self._plan._alphas.append(place)
        if self._nodes[left] is None:
            raise Unplanned
        one, steps = self._at(left)
        if self._nodes[right] is None:  # a constant, which the graph does not keep
            return one, steps
        other, more = self._at(right)
        if minus:
            for each in more:
                each.append((torch.neg, -1))
        operator = torch.sub if minus else torch.add
        return lambda terms, numbers: operator(one(terms, numbers), other(terms, numbers)), [*steps, *more]

    def _product(self, place: int, *, divides: bool) -> tuple[Form, list[Steps]]:
        left, right = self._children(place)
        kept = [child for child in (left, right) if self._nodes[child] is not None]
        if len(kept) != 1 or (divides and kept != [left]):
            raise Unplanned
        factors = self._plan._factors
        number = len(factors)
        factors.append((place, "_saved_other" if kept == [left] else "_saved_self"))
        return self._step(torch.div if divides else torch.mul, kept[0], number)

    def _step(self, operator: Callable[..., Tensor], inner: int, number: int) -> tuple[Form, list[Steps]]:
        form, steps = self._at(inner)
        for each in steps:
            each.append((operator, number))
        if number < 0:
            return lambda terms, numbers: operator(form(terms, numbers)), steps
        return lambda terms, numbers: operator(form(terms, numbers), numbers[number]), steps

    def _penalty(self, place: int) -> tuple[Form, list[Steps]]:
        """The sum or mean of something that is of parameters alone."""
        plan, node = self._plan, self._nodes[place]
        if not isinstance(node.metadata.get(KEY), Noted) or not depends_on_parameters_alone(node):
            raise Unplanned
        pending = [place]
        while pending:
            below = pending.pop()
            if self._nodes[below].name().endswith("AccumulateGrad"):
                plan._parameters.append(below)
                continue
            children = self._children(below)
            if not children or any(self._nodes[child] is None for child in children):
                raise Unplanned
            pending += children
        number, steps = len(plan._penalties), list[Any]()
        plan._penalties.append(place)
        plan._shared.append(steps)
        return lambda terms, numbers: numbers[len(plan._factors) + number], [steps]


class Plans:
    """All plans, by the kind of node that a loss ends in."""

    def __init__(self, recent: RecentBatches, paths: Paths) -> None:
        self._given = recent, paths
        self.known: dict[type, list[Plan]] = {}
        self._tries: dict[type, int] = {}
        self._room = MAX_ROOM

    def learn(self, root: Any, terms: tuple[Term, ...]) -> None:
        """A loss was read in full: the next one of its form need not be. Gradients are off."""
        kind = type(root)
        tries = self._tries.get(kind, 0)
        plans = self.known.get(kind, [])
        if tries >= MAX_TRIES or len(plans) >= MAX_PLANS or self._room <= 0:
            return
        self._tries[kind] = tries + 1
        try:
            plan = Plan(root, terms, *self._given)
        except Unplanned:
            return
        self._room -= sum(leaf.size * SLOTS for leaf in plan.leaves)
        self.known[kind] = [plan, *plans]


def _stepped(values: Tensor, steps: Steps, numbers: list[Tensor]) -> Tensor:
    for operator, number in steps:
        values = operator(values) if number < 0 else operator(values, numbers[number])
    return values
