"""A whole loss by sample: its terms tied to a batch, or found to be penalties, or refused."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from onthefly.capture.batches import (
    CHANGED,
    COMPUTED,
    CROOKED,
    NO_LOADER,
    RecentBatches,
    Tie,
    Tied,
    is_untouched,
    name_samples,
)
from onthefly.capture.draws import Draws
from onthefly.capture.expression import PENALTY, Expression, Sum, Term
from onthefly.capture.graph import Unreadable, leaf_of, only_input
from onthefly.capture.layout import Layout
from onthefly.capture.noted import Noted, OpenLosses
from onthefly.capture.paths import Paths, depends_on_parameters_alone, is_of_losses
from onthefly.capture.plans import Plans
from onthefly.capture.quiet import capturing
from onthefly.capture.reading import MEAN, Reader, mean_of
from onthefly.capture.shares import (
    Joined,
    Share,
    added,
    alike,
    detach,
    joined,
    name_of,
    placed,
    reshape,
    scaled,
    share_of,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MIXTURES = "the loss has another target for the same rows (mixup, cutmix): they may be mixtures of samples"


class Samples(NamedTuple):
    """What one backward call gave each sample."""

    tie: Tie
    joined: Joined
    found: Sum
    shared: Tensor | None
    """What of the number has no samples; None for nothing."""
    factor: Tensor | None
    """Of a gradient scaler."""


class PerSample:
    """Reads whole losses. Runs with gradients off."""

    def __init__(self, recent: RecentBatches, noted: OpenLosses) -> None:
        self._recent = recent
        self._noted = noted
        self._draws = Draws(recent)
        self._paths = Paths(recent.find)
        self.plans = Plans(recent, self._paths)
        self.hooked = False
        """Saved tensors of this process may have hooks, which are not to be run once more than the script does."""

    def measure(self, roots: Sequence[Tensor]) -> Samples:
        """Of the tensors that are back-propagated together; :class:`Unreadable` where no sample's loss can be had."""
        expression = Expression(self.hooked, self._noted.at)
        found, factor = expression.of(roots)
        if self._recent.newest is None:
            self._draws.look(roots, found.terms)
        try:
            samples = self._measured(found, factor)
            if factor is None and len(roots) == 1 and not self.hooked:
                self.plans.learn(roots[0].grad_fn, found.terms)
            return samples
        finally:
            for term in found.terms:
                if isinstance(term.reader, Noted):
                    term.reader.finished()

    def _measured(self, found: Sum, factor: Tensor | None) -> Samples:
        tied: list[tuple[Term, Tied]] = []
        untied: list[Term] = []
        crooked = False
        for term in found.terms:
            lies = self._tied(term)
            if lies is not None and lies.doubt != CROOKED:
                tied.append((term, lies))
            else:
                crooked = crooked or lies is not None
                untied.append(term)
        shared, rows = found.shared, tied[0][1].layout.rows if tied else -1
        for term in list(untied):
            alike = next((lies for known, lies in tied if _same_rows(term, known)), None)
            if alike is not None:
                tied.append((term, alike._replace(doubt=MIXTURES)))
            elif _is_penalty(term, rows) or (tied and self._paths.is_mixed(term.node, rows, self.hooked)):
                shared = added(shared, scaled(value_of(term), term.tail))
            elif tied:
                raise Unreadable(f"the rows of a term of the loss ({name_of(term)}) are not known to be samples")
            else:
                continue
            untied.remove(term)
        if tied:
            tie, groups = self._grouped(tied)
        else:
            tie, shares = self._untied(untied, crooked)
            groups = [shares]
        return Samples(tie, joined(groups), found, shared, factor)

    def _grouped(self, tied: list[tuple[Term, Tied]]) -> tuple[Tie, list[list[Share]]]:
        """Terms of the same samples together; several groups where it was added up over batches, or parts of one."""
        groups: list[tuple[Tied, list[Share]]] = []
        for term, lies in tied:
            for place, (known, shares) in enumerate(groups):
                if _same_samples(known, lies):
                    if CHANGED in (known.doubt, lies.doubt) and not _same_rows(term, tied[0][0]):
                        raise Unreadable("the loss has several terms, and the target of one was changed in place")
                    shares.append(share_of(term, lies.layout))
                    groups[place] = known._replace(doubt=known.doubt or lies.doubt), shares
                    break
            else:
                groups.append((lies, [share_of(term, lies.layout)]))
        ties = [name_samples(known) for known, _ in groups]
        first, shares = ties[0], [shares for _, shares in groups]
        if len(ties) > 1:
            if any(tie.loader is not first.loader for tie in ties) or not alike(shares):
                raise Unreadable("the loss has terms of different batches that are not of one kind")
            indices = [tie.indices for tie in ties]
            named = [index for some in indices if some is not None for index in some]
            first = first._replace(
                indices=None if None in indices else named, doubt=next((tie.doubt for tie in ties if tie.doubt), "")
            )
        return first, shares

    def _untied(self, terms: list[Term], crooked: bool) -> tuple[Tie, list[Share]]:
        """Of a loss that no batch is known of: its first axis may be that of samples, whichever they are."""
        if not terms:
            raise Unreadable(PENALTY)
        for term in terms:
            if isinstance(term.reader, Noted) and term.reader.of_elements and is_of_losses(only_input(term.node)):
                raise Unreadable("the loss is a sum of several losses in a tensor, which this version does not read")
        layouts = [_by_first_axis(term) for term in terms]
        layout = layouts[0]
        if layout is None or any(other is None or other.rows != layout.rows for other in layouts):
            raise Unreadable("the loss is of a single sample without a batch axis, or of none")
        if len(terms) > 1 and not all(_same_rows(term, terms[0]) for term in terms):
            raise Unreadable("the loss has several terms whose rows are not known to be the same samples")
        tie = self._recent.computed(layout.rows)
        if crooked and tie.doubt == COMPUTED:
            tie = tie._replace(doubt=CROOKED)
        return tie, [share_of(term, lies) for term, lies in zip(terms, layouts) if lies is not None]

    def _ties(self, operand: Tensor) -> Tied | None:
        """How an operand lies in a batch: it is one of that, or was computed of one."""
        if operand.grad_fn is None:
            return self._recent.find(operand)
        return self._paths.prove(operand.grad_fn, operand.output_nr, self.hooked)

    def _tied(self, term: Term) -> Tied | None:
        """How the elements of a term lie in a batch, by its operands or by what they were computed from."""
        shape, doubtful = term.read.elements.shape, None
        reader = term.reader
        operands = reader.operands if isinstance(reader, Noted) else (term.read.target,)
        for operand in operands:
            if not isinstance(operand, Tensor):
                continue
            lies = placed(self._ties(operand), operand.shape, shape)
            if lies is not None and not lies.doubt:
                return lies
            doubtful = lies if doubtful is None or doubtful.doubt == CROOKED else doubtful
        if not isinstance(reader, Noted) or not operands:
            source, place = term.node.next_functions[0]
            if source is not None:
                lies = self._paths.prove(source, place, self.hooked)
                lies = placed(lies, source._input_metadata[place].shape, shape, kept=1 if operands else len(shape))
                if lies is not None:
                    return lies
        return doubtful


def read_plainly(reader: Reader, node: Any, newest: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """A loss whose root is the loss function itself: target, rows, values, value, divisor, counts of elements.

    None where it is not of the newest batch, row by row. Nothing of it is asked or made that may be left out: what is
    too large for a plan, or on an accelerator, pays for this at each step.
    """
    read: Any = reader.read(node)
    target, elements, reduction, value, divisor, valid = read
    loader, _, samples, held, _ = newest
    if not any(one is target for one in held):
        return None
    rows, counts = elements.shape[0] if elements.dim() == 1 else 0, valid
    if not rows:
        if reduction != MEAN or valid is not None or elements.shape != target.shape or not elements.numel():
            return None
        rows = elements.shape[0]
        counts = elements.numel() // rows
        elements, divisor = mean_of(reshape(elements, (rows, -1)), 1), rows
    if (
        loader is None or loader.doubt or type(samples) is not list or len(samples) != rows
        or not is_untouched(target, newest) or value is None
    ):  # fmt: skip
        return None
    return target, rows, elements, value, divisor, counts


def _is_penalty(term: Term, rows: int) -> bool:
    """Whether a term is of parameters alone: by hand, or by a loss function that one is given to."""
    reader = term.reader
    if isinstance(reader, Noted) and reader.of_elements:
        return depends_on_parameters_alone(term.node, rows)
    leaves = reader.operands if isinstance(reader, Noted) else (leaf_of(term.node),)
    return any(isinstance(leaf, Tensor) and leaf.requires_grad and leaf.is_leaf
               and (isinstance(leaf, Parameter) or leaf.shape[:1] != (rows,)) for leaf in leaves)  # fmt: skip


def _same_samples(one: Tied, other: Tied) -> bool:
    return (
        one.batch.loader is other.batch.loader and one.start == other.start and one.layout.rows == other.layout.rows
        and (one.batch.drawn is other.batch.drawn or one.batch.drawn == other.batch.drawn)
    )  # fmt: skip


def _same_rows(term: Term, other: Term) -> bool:
    """Whether terms share a target, or what their rows were computed from: then their rows are the same."""
    if term.read.elements.shape != other.read.elements.shape:
        return False
    if term.read.target is not None and term.read.target is other.read.target:
        return True
    return not _origins(term).isdisjoint(_origins(other))


def _origins(term: Term) -> set[Any]:
    """Where in the graph it was computed from, through steps that leave each element in its place."""
    node, found = term.node, set[Any]()
    while len(found) < 8 and node.next_functions:
        node = node.next_functions[0][0]
        if node is None or node.name().endswith("AccumulateGrad"):
            break
        found.add(node)
        if node.name() not in _IN_PLACE:
            break
    return found


_IN_PLACE = {
    "LogSoftmaxBackward0", "SoftmaxBackward0", "SigmoidBackward0", "LogSigmoidBackward0", "ToCopyBackward0",
    "ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "CloneBackward0", "AliasBackward0",
}  # fmt: skip


def _by_first_axis(term: Term) -> Layout | None:
    shape, target = term.read.elements.shape, term.read.target
    if not shape or not shape[0]:
        return None
    rows, axes = shape[0], shape
    base = target._base if target is not None else None
    if (
        base is not None and target is not None and base.dim() > target.dim() and base.numel() == target.numel()
        and base.is_contiguous() and target.is_contiguous() and list(target.shape) == list(shape)
    ):  # fmt: skip
        rows, axes = base.shape[0], base.shape  # of tokens, flattened: the rows are those of the tensor that was
    if rows > 1 and axes[1:2] == (rows,):  # never a third one, in practice: batches of 32 images of 32 by 32
        raise Unreadable("the loss is a square, and nothing tells which of its axes is that of the samples")
    return Layout(rows, term.read.elements.numel() // rows) if term.read.elements.numel() else None


def whole(roots: Sequence[Tensor]) -> Tensor:
    """What is back-propagated together."""
    parts = [reshape(detach(root), ()) for root in roots]
    return parts[0] if len(parts) == 1 else sum(parts[1:], parts[0])


def known_of(roots: Sequence[Tensor]) -> Any:
    """The same, of a call that was not read: a number on the host, NaN where it is none."""
    if not roots or any(root.numel() != 1 or capturing(root) for root in roots):
        return math.nan
    number = whole(roots)
    return number.item() if number.is_cpu else number


def numbers_of(roots: Sequence[Tensor], read: Samples) -> tuple[Any, Any, Any]:
    """The loss, what was computed again, and what of it has no samples: on the host as numbers."""
    loss, again = whole(roots), read.found.value
    if read.factor is not None:
        loss = unscaled(loss, again, read.factor)
    numbers = (loss, again, read.shared) if read.shared is not None else (loss, again)
    if roots[0].is_cpu:
        numbers = tuple(number.item() for number in numbers)
    return (*numbers, 0.0)[:3]  # pyright: ignore[reportReturnType]


def unscaled(root: Tensor, value: Tensor, factor: Tensor) -> Tensor:
    """The loss before a gradient scaler multiplied it, without waiting for an accelerator.

    What was computed again, where the factor makes the script's number of it bit for bit; else the quotient.
    """
    return torch.where(value * factor == root, value, root / factor).reshape(())


def reason_of(error: Exception) -> str:
    """Why a loss could not be read: our word or torch's; any other error is raised again."""
    said = str(error)
    if isinstance(error, Unreadable):
        return said
    # Torch's words on saved tensors that it does not give out. The script is about to hear them too.
    if "backward through the graph" in said:
        return "the graph was freed by an earlier backward call"
    if "modified by an inplace operation" in said:
        return "the graph was changed in place"
    if "do not track version counter" in said:
        return "the target was made in inference mode, where nothing tells whether it was changed since"
    raise error


__all__ = ["NO_LOADER", "PerSample", "Samples", "known_of", "numbers_of", "read_plainly", "reason_of"]
