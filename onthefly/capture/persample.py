"""A whole loss by sample: its terms tied to a batch, or found to be penalties, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from onthefly.capture.batches import COMPUTED, CROOKED, NO_LOADER, RecentBatches, Tie, Tied, name_samples
from onthefly.capture.expression import PENALTY, Expression, Sum, Term
from onthefly.capture.graph import Unreadable, of_a_parameter, only_input
from onthefly.capture.layout import Layout
from onthefly.capture.noted import Noted, OpenLosses
from onthefly.capture.paths import Paths, depends_on_parameters_alone
from onthefly.capture.shares import Joined, Share, added, alike, joined, name_of, placed, scaled, share_of, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence


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
        self._paths = Paths(recent.find)
        self.hooked = False
        """Saved tensors of this process may have hooks, which are not to be run once more than the script does."""

    def measure(self, roots: Sequence[Tensor]) -> Samples:
        """Of the tensors that are back-propagated together; :class:`Unreadable` where no sample's loss can be had."""
        expression = Expression(self.hooked, self._noted.at)
        found, factor = expression.of(roots)
        try:
            return self._measured(found, factor)
        finally:
            for term in found.terms:
                if isinstance(term.reader, Noted):
                    term.reader.finished()

    def _measured(self, found: Sum, factor: Tensor | None) -> Samples:
        tied: list[tuple[Term, Tied]] = []
        untied: list[Term] = []
        crooked = False
        shared = found.shared
        for term in found.terms:
            lies = self._tied(term)
            if lies is not None and lies.doubt != CROOKED:
                tied.append((term, lies))
            elif _is_penalty(term):
                shared = added(shared, scaled(value_of(term), term.tail))
            else:
                crooked = crooked or lies is not None
                untied.append(term)
        if tied:
            samples = tied[0][1]
            for term in untied:
                if _may_have_samples(term, samples):
                    raise Unreadable(f"the rows of a term of the loss ({name_of(term)}) are not known to be samples")
                shared = added(shared, scaled(value_of(term), term.tail))
            tie, groups = self._grouped(tied)
        else:
            tie, shares = self._untied(untied, crooked)
            groups = [shares]
        return Samples(tie, joined(groups), found, shared, factor)

    def _grouped(self, tied: list[tuple[Term, Tied]]) -> tuple[Tie, list[list[Share]]]:
        """Terms of the same samples together; several groups where it was added up over batches, or parts of one."""
        groups: list[tuple[Tied, list[Share]]] = []
        for term, lies in tied:
            for known, shares in groups:
                if _same_samples(known, lies):
                    shares.append(share_of(term, lies.layout))
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
        layouts = [_by_first_axis(term) for term in terms]
        layout = layouts[0]
        if layout is None or any(other is None or other.rows != layout.rows for other in layouts):
            raise Unreadable("the loss is of a single sample without a batch axis, or of none")
        if len(terms) > 1 and not _of_one_origin(terms):
            raise Unreadable("the loss has several terms whose rows are not known to be the same samples")
        tie = self._recent.computed(layout.rows)
        if crooked and tie.doubt == COMPUTED:
            tie = tie._replace(doubt=CROOKED)
        return tie, [share_of(term, lies) for term, lies in zip(terms, layouts) if lies is not None]

    def _tied(self, term: Term) -> Tied | None:
        """How the elements of a term lie in a batch, by its operands or by what they were computed from."""
        shape, doubtful = term.read.elements.shape, None
        reader = term.reader
        operands = reader.operands if isinstance(reader, Noted) else (term.read.target,)
        for operand in operands:
            if not isinstance(operand, Tensor):
                continue
            lies = self._recent.find(operand) if operand.grad_fn is None else None
            if lies is None and operand.grad_fn is not None:
                lies = self._paths.prove(operand.grad_fn, operand.output_nr, self.hooked)
            lies = placed(lies, operand.shape, shape)
            if lies is not None and lies.doubt != CROOKED:
                return lies
            doubtful = doubtful or lies
        if not isinstance(reader, Noted):
            source, place = term.node.next_functions[0]
            if source is not None:
                lies = self._paths.prove(source, place, self.hooked)
                lies = placed(lies, source._input_metadata[place].shape, shape)
                if lies is not None:
                    return lies
        return doubtful


def _is_penalty(term: Term) -> bool:
    """Whether a term is of parameters alone: by hand, or by a loss function that one is given to."""
    reader = term.reader
    if not isinstance(reader, Noted):
        return of_a_parameter(term.node)
    if reader.of_elements:
        return depends_on_parameters_alone(term.node)
    return any(isinstance(operand, Tensor) and operand.requires_grad and operand.is_leaf for operand in reader.operands)


def _same_samples(one: Tied, other: Tied) -> bool:
    return (
        one.batch.loader is other.batch.loader and one.start == other.start and one.layout.rows == other.layout.rows
        and (one.batch.drawn is other.batch.drawn or one.batch.drawn == other.batch.drawn)
    )  # fmt: skip


def _may_have_samples(term: Term, tied: Tied) -> bool:
    """Whether some axis of a term is as long as the batch: it may be that of the samples."""
    return tied.layout.rows in term.read.elements.shape or (
        tied.layout.rows > 1 and term.read.elements.numel() % tied.layout.rows == 0
    )


def _of_one_origin(terms: list[Term]) -> bool:
    """Whether terms share a target, or what they were computed from: then their rows are the same."""
    first = terms[0]
    return all(
        (term.read.target is not None and term.read.target is first.read.target)
        or (only_input(term.node) is not None and only_input(term.node) is only_input(first.node))
        for term in terms[1:]
    )


def _by_first_axis(term: Term) -> Layout | None:
    shape, target = term.read.elements.shape, term.read.target
    if not shape or not shape[0]:
        return None
    rows = shape[0]
    base = target._base if target is not None else None
    if (
        base is not None and target is not None and base.dim() > target.dim() and base.numel() == target.numel()
        and base.is_contiguous() and target.is_contiguous() and list(target.shape) == list(shape)
    ):  # fmt: skip
        rows = base.shape[0]  # of tokens, flattened: the rows are those of the tensor that was
    return Layout(rows, term.read.elements.numel() // rows) if term.read.elements.numel() else None


def whole(roots: Sequence[Tensor]) -> Tensor:
    """What is back-propagated together."""
    parts = [root.detach().reshape(()) for root in roots]
    return parts[0] if len(parts) == 1 else sum(parts[1:], parts[0])


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


__all__ = ["NO_LOADER", "PerSample", "Samples", "reason_of", "unscaled"]
