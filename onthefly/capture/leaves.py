"""The terms of a planned loss: what their operands look like, and the room where those of many calls lie.

Bytes are moved by ``memmove``, 0.6 us for 5 KiB, where ``copy_`` takes 3.8: nothing of torch is met on the way.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onthefly.capture.batches import is_untouched
from onthefly.capture.called import FUNCTIONS
from onthefly.capture.expression import Term
from onthefly.capture.graph import only_input
from onthefly.capture.layout import batch_first
from onthefly.capture.noted import KEY, MASKS, Noted
from onthefly.capture.reading import (
    MEAN,
    NONE,
    READERS,
    SUM,
    NllReader,
    OperatorReader,
    Read,
    Reader,
    cascaded,
    counting,
    flattened,
    mean_of,
    reduced,
    reshape,
    sum_of,
)  # fmt: skip
from onthefly.capture.shares import name_of, placed

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.capture.batches import RecentBatches, Tied
    from onthefly.capture.paths import Paths

SLOTS = 136
"""Calls that there is room for: some more than a block."""

MAX_BYTES = 1 << 16
"""Of the operands of one call: above, steps are so long that reading them at once does not matter."""

DTYPES = (torch.float32, torch.float64)
"""Of losses: in half precision a number on the host is not rounded as one beside it in a tensor."""

_address: Callable[[Tensor], int] = getattr(Tensor, "const_data_ptr", Tensor.data_ptr)
_move: Callable[[int, int, int], Any] = ctypes.memmove


class Unplanned(Exception):
    """The loss is of a form that has no plan."""


class Operand(NamedTuple):
    """A tensor that a term is computed from, as it looks in each call."""

    shape: torch.Size
    dtype: torch.dtype
    size: int
    """In bytes."""
    room: Tensor
    """[slots, *shape]"""
    start: int
    """Its address."""


def room_for(tensor: Tensor) -> Operand:
    """Room for tensors that look like this one; :class:`Unplanned` if they cannot be moved byte by byte."""
    size = tensor.numel() * tensor.element_size()
    # Contiguous, of more than one number: neither sparse nor a view that negates what it is a view of.
    if type(tensor) is not Tensor or not tensor.is_contiguous() or tensor.numel() < 2 or size > MAX_BYTES:
        raise Unplanned
    room = torch.empty((SLOTS, *tensor.shape), dtype=tensor.dtype, device="cpu")  # untouched pages cost nothing
    return Operand(tensor.shape, tensor.dtype, size, room, room.data_ptr())


class Leaf:
    """One term, of samples whose elements lie one after the other."""

    classifies = False
    ignored: int | None = None
    """The target that does not count, where targets are classes."""

    def __init__(self, place: int, term: Term, recent: RecentBatches, paths: Paths) -> None:
        """``place`` is that of its node in the plan; :class:`Unplanned` if its rows are not plainly the batch's."""
        self.place, self.name = place, name_of(term)
        self._named = Reader()
        self._named.name = self.name
        found = self.tensors(term.node)
        elements, newest = term.read.elements, recent.newest
        if found is None or newest is None or elements.dtype not in DTYPES:
            raise Unplanned
        self.which, lies, there = self._told(found, elements, recent, paths)
        if lies.start or lies.batch.drawn is not newest[2] or there.layout != batch_first(elements.shape):
            raise Unplanned
        told = found[self.which]
        self._layout, self._trail = lies.layout, None
        if told.grad_fn is not None:
            self._trail = paths.trail(told.grad_fn, told.output_nr)
            if self._trail is not None:
                end = self._trail.end(told.grad_fn, told.output_nr)
                lies = recent.find(end) if end is not None else None
                if end is None or lies is None or lies.start or lies.layout != batch_first(end.shape):
                    raise Unplanned
                self._layout = None
        self.dtype = elements.dtype
        self.rows, self.chunk = there.layout
        self.operands = [room_for(tensor) for tensor in found]
        self.size = sum(operand.size for operand in self.operands)
        """Bytes of a call."""
        if any(operand.shape[:1] != (self.rows,) for operand in self.operands) or self.size > MAX_BYTES:
            raise Unplanned
        self.mean = term.read.reduction == MEAN
        self.steps: list[tuple[Callable[..., Tensor], int]] = []
        """Linear steps between it and the root, and by which of the plan's numbers (-1: by none)."""
        self.spread = -1
        """The number that a sum was divided by first, if there is one."""
        self.divided = False
        """That was the number of samples: it is a mean over them."""

    def _told(
        self, tensors: tuple[Tensor, ...], elements: Tensor, recent: RecentBatches, paths: Paths
    ) -> tuple[int, Tied, Tied]:
        """Which operand tells the batch, how it lies there, and how the elements do."""
        for which, tensor in self.asked(tensors):
            lies = _lies(tensor, recent, paths)
            there = placed(lies, tensor.shape, elements.shape)
            if lies is not None and there is not None and not lies.doubt:
                return which, lies, there
        raise Unplanned

    def tensors(self, node: Any) -> tuple[Tensor, ...] | None:
        """Its operands, at its node; None if it is not what it was when the plan was made."""
        raise NotImplementedError

    def asked(self, tensors: tuple[Tensor, ...]) -> list[tuple[int, Tensor]]:
        """Which of them may tell the batch, in their order."""
        raise NotImplementedError

    def each(self, tensors: list[Tensor]) -> Tensor:
        """The loss of each element."""
        raise NotImplementedError

    def number(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """What the script computed."""
        raise NotImplementedError

    def finished(self, node: Any) -> None:
        """The call is taken."""

    def take(self, node: Any, slot: int, recent: RecentBatches, paths: Paths) -> bool:
        """Copy the operands; False if anything is not as it was when the plan was made."""
        tensors = self.tensors(node)
        newest: Any = recent.newest
        if tensors is None:
            return False
        told = tensors[self.which]
        if self._trail is not None:
            told = self._trail.end(told.grad_fn, told.output_nr)
            if told is None or told.shape[0] != self.rows:
                return False
        for held in newest[3]:
            if held is told:  # of the shape that it had
                if not is_untouched(told, newest):
                    return False
                break
        else:
            lies = _lies(told, recent, paths)
            if (
                lies is None or lies.doubt or lies.start
                or lies.layout != (self._layout or batch_first(told.shape)) or lies.batch.drawn is not newest[2]
            ):  # fmt: skip
                return False
        for tensor, (shape, dtype, size, _, start) in zip(tensors, self.operands):
            if (
                type(tensor) is not Tensor or tensor.shape != shape or tensor.dtype is not dtype
                or not tensor.is_contiguous()
            ):  # fmt: skip
                return False
            _move(start + slot * size, _address(tensor), size)
        return True

    def number_of(self, slot: int) -> Tensor:
        """What the script computed in one call, by its own operator."""
        return self.number(tuple([operand.room[slot] for operand in self.operands]))

    def all_count(self, count: int) -> bool:
        """Whether all elements of all calls count."""
        return bool(counting(self.operands[1].room[:count], self._ignored()).all())

    def counted(self, count: int) -> list[bool]:
        """Of each call whether all its elements count."""
        targets = reshape(self.operands[1].room[:count], (count, -1))
        return counting(targets, self._ignored()).all(1).tolist()

    def _ignored(self) -> int:
        assert self.ignored is not None
        return self.ignored

    def singly(self, slot: int) -> Term:
        """One call, as it is when it is read in full; but for the steps."""
        tensors = [operand.room[slot] for operand in self.operands]
        elements, number = self.each(tensors), self.number(tuple(tensors))
        valid = None if self.ignored is None else counting(tensors[1], self._ignored())
        divisor = (elements.numel() if valid is None else valid.sum().item()) if self.mean else 1
        return Term(self._named, None, Read(None, elements, MEAN if self.mean else SUM, number, divisor, valid))

    def elements(self, count: int) -> Tensor:
        """The loss of each element of all calls, one call after the other."""
        return self.each([flattened(operand.room[:count], 0, 1) for operand in self.operands])

    def total(self, elements: Tensor) -> Tensor:
        """Those of each call [calls, elements] added up [calls], in the order of the operator if that is known."""
        return mean_of(elements, 1) if self.mean else sum_of(elements, 1)

    def parts(self, elements: Tensor) -> Tensor:
        """What each sample gives before the steps [calls * rows]."""
        if self.chunk == 1:
            return reshape(elements, (-1,))
        parts = reshape(elements, (-1, self.chunk))
        return mean_of(parts, 1) if self.mean else sum_of(parts, 1)


def _lies(tensor: Tensor, recent: RecentBatches, paths: Paths) -> Tied | None:
    """Which batch a tensor is of, or was computed of by a way that is known."""
    if tensor.grad_fn is None:
        return recent.find(tensor)
    return paths.again(tensor.grad_fn, tensor.output_nr, False)


class OperatorLeaf(Leaf):
    """A loss function whose node keeps its operands."""

    def __init__(self, place: int, term: Term, recent: RecentBatches, paths: Paths) -> None:
        reader, node = term.reader, term.node
        if not isinstance(reader, OperatorReader) or READERS.get(node.name()) is not reader:
            raise Unplanned
        self.reader, self._operator, self._saved = reader, reader.operator, reader.planned
        self._head = self._saved(node)[: 1 + reader.given]
        self._optional = (None,) * (len(self._saved(node)) - len(self._head) - 2)
        reduction, *options = self._head
        if isinstance(reader, NllReader):
            options[0] = self.ignored = reader.as_given(options[0])
        self._reduction, self._options = reduction, options
        super().__init__(place, term, recent, paths)
        source, target = self.operands
        self.classifies = self.ignored is not None and target.shape == (self.rows,) and source.shape[1] > 1

    def tensors(self, node: Any) -> tuple[Tensor, ...] | None:
        """As :meth:`Leaf.tensors`: the source and the target, where there are no weights."""
        saved, first = self._saved(node), len(self._head)
        if saved[:first] != self._head:
            return None
        for weight in saved[first + 2 :]:
            if weight is not None:
                return None
        return saved[first : first + 2]

    def asked(self, tensors: tuple[Tensor, ...]) -> list[tuple[int, Tensor]]:
        """As :meth:`Leaf.asked`."""
        return [(1, tensors[1])]

    def each(self, tensors: list[Tensor]) -> Tensor:
        """As :meth:`Leaf.each`."""
        return self._operator(*tensors, *self._optional, NONE, *self._options)

    def number(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """As :meth:`Leaf.number`."""
        return self._operator(*tensors, *self._optional, self._reduction, *self._options)

    def total(self, elements: Tensor) -> Tensor:
        """As :meth:`Leaf.total`."""
        if not isinstance(self.reader, NllReader):
            return super().total(elements)
        total = cascaded(elements)
        return total / elements.shape[1] if self.mean else total


class NotedLeaf(Leaf):
    """A loss function, or a reduction by hand, that was noted when it was called."""

    def __init__(self, place: int, term: Term, recent: RecentBatches, paths: Paths) -> None:
        noted = term.reader
        if not isinstance(noted, Noted) or noted.call is None or noted.call[2]:
            raise Unplanned
        self._function, self._args, _ = noted.call
        self._of = type(only_input(term.node))
        if noted.of_elements and only_input(term.node).name() in MASKS:
            raise Unplanned
        self._given = [place for place, given in enumerate(self._args) if isinstance(given, Tensor)]
        self._args = tuple(None if isinstance(given, Tensor) else given for given in self._args)
        self._row, self._by_name = FUNCTIONS[noted.name], noted.name
        super().__init__(place, term, recent, paths)

    def tensors(self, node: Any) -> tuple[Tensor, ...] | None:
        """As :meth:`Leaf.tensors`: what was noted, if nothing of it was changed since."""
        noted = node.metadata.get(KEY)
        if noted is None or noted.call is None or not noted.is_as_it_was() or noted.name != self._by_name:
            return None
        function, args, named = noted.call
        if named or function is not self._function or len(args) != len(self._args):
            return None
        if type(only_input(node)) is not self._of:
            return None
        for given, known in zip(args, self._args):
            if (known is not None or not isinstance(given, Tensor)) and (
                isinstance(given, Tensor) or type(given) is not type(known) or given != known
            ):  # fmt: skip
                return None
        return tuple([args[place] for place in self._given])

    def asked(self, tensors: tuple[Tensor, ...]) -> list[tuple[int, Tensor]]:
        """As :meth:`Leaf.asked`: in the order in which the full reading asks them."""
        operands = self._call(tensors).operands
        return [(place, tensor) for operand in operands for place, tensor in enumerate(tensors) if tensor is operand]

    def each(self, tensors: list[Tensor]) -> Tensor:
        """As :meth:`Leaf.each`."""
        return self._call(tensors).each()

    def number(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """As :meth:`Leaf.number`."""
        called = self._call(tensors)
        return called.again() if called.again is not None else reduced(called.each(), called.reduction)

    def finished(self, node: Any) -> None:
        """As :meth:`Leaf.finished`."""
        node.metadata[KEY].finished()

    def _call(self, tensors: Any) -> Any:
        args: list[Any] = list(self._args)
        for place, tensor in zip(self._given, tensors):
            args[place] = tensor
        called = self._row(self._function, *args)
        if called is None:
            raise Unplanned
        return called
