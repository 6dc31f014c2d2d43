"""Samples that a script draws itself: ``idx = perm[i : i + 32]; x, y = X[idx], Y[idx]``, without any loader.

Nothing watches tensors being indexed: a class of torch's that is given a ``__getitem__`` of Python's is a sequence to C
for ever. When a loss is read, the script's own frames are: its source says what was drawn by which key, and that all
of it is as it was (:mod:`onthefly.capture.order.drawing`), and drawing again must give the same bits. A key counts
where two tensors of as many rows were indexed with it, as inputs and targets are, and where it is known to have been
made of places. Everything else is let alone: such a loss has no identity.
"""

from __future__ import annotations

import ast
import operator
import sys
import weakref
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onthefly.capture.layout import batch_first
from onthefly.capture.noted import Noted
from onthefly.capture.order.drawing import drawing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, FrameType

    from onthefly.capture.batches import RecentBatches
    from onthefly.capture.expression import Term
    from onthefly.capture.order.drawing import Draw, Drawing, Group, Inline

MOST = 65536
"""Rows of a draw, at most."""

MOST_COMPARED = 4096
"""Numbers of each drawn tensor that are compared, at most: it was not written to, and 25,000 take some 30 us."""

DEEPEST = 6
"""Frames of the script that are looked at, from the one that called backward outwards, at most; to its module's."""

LINES = 256
"""Whose draws are remembered, at most."""

INTEGERS = (torch.int64, torch.int32)

OPERATORS: dict[type, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv
}  # fmt: skip

COPIES_NAMES = sys.version_info < (3, 13)
"""``f_locals`` of a function is a dictionary that the frame keeps, with all that the names held when it was asked."""


class Unproven(Exception):
    """It cannot be told by these means."""


class Draws:
    """Finds out which rows of its tensors a script took."""

    def __init__(self, recent: RecentBatches) -> None:
        self._recent = recent
        self._lines: dict[tuple[int, int], tuple[weakref.ref[CodeType], Drawing]] = {}
        self._tables: dict[int, weakref.ref[Tensor]] = {}
        """Whose rows samples are counted in: never to be taken for a part of another later on."""
        self._vain: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        """What turned out not to be what was drawn, and its version: not to be compared at each step."""

    def look(self, roots: Sequence[Tensor], terms: Sequence[Term]) -> None:
        """Tell :class:`RecentBatches` of what was drawn for a loss, if that is known; called from a backward call."""
        frames = _frames()
        for depth in range(len(frames) - 1, -1, -1):  # the outermost first: further in it is drawn from
            frame = frames[depth]
            known = self._drawing(frame)
            if known.groups and (frame.f_code.co_name != "<module>" or frame.f_locals is frame.f_globals):
                names = _Names(frame, known.names)
                for group in known.groups:
                    try:
                        self._prove(group, names, roots, terms, direct=not depth)
                    except (Unproven, RuntimeError, IndexError, TypeError, ValueError):
                        continue

    def _drawing(self, frame: FrameType) -> Drawing:
        code = frame.f_code
        place = id(code), frame.f_lineno
        found = self._lines.get(place)
        if found is None or found[0]() is not code:
            if len(self._lines) >= LINES:
                self._lines.clear()
            found = self._lines[place] = weakref.ref(code), drawing(code, frame.f_globals, place[1])
        return found[1]

    def _prove(
        self, group: Group, names: _Names, roots: Sequence[Tensor], terms: Sequence[Term], *, direct: bool
    ) -> None:
        held: list[tuple[Tensor, Tensor]] = []
        """Each table, and what was drawn of it."""
        targets: list[Tensor] = []
        tables = [_table(draw, names) for draw in group.draws]
        for draw, table in zip(group.draws, tables):
            if draw.name:
                result = names.of(draw.name)
                if not _is_unwritten(result) or result.requires_grad or self._is_vain(result):
                    raise Unproven
                held.append((table, result))
            elif draw.inline is not None and _is_loss(draw.inline, names, roots, direct):
                targets.append(table)
        if not targets and all(self._recent.find(result) is not None for _, result in held):
            return
        size = tables[0].shape[0]
        key = names.value(group.key)
        places = _integers(key, size)
        if any(table.shape[0] != size for table in tables) or (type(key) is not Tensor and len(held) < 2):
            raise Unproven
        plain = type(key) is Tensor and key.dtype == torch.int64 and key.tolist() == places  # none from the end
        rows = key if plain else torch.tensor(places)
        for table, result in held:
            if not _drew(table, rows, result):
                self._forget_about(result)
                raise Unproven
        held += [(table, _operand(terms, torch.index_select(table, 0, rows))) for table in targets]
        for table, result in held:
            self._register(table, places, result)

    def _register(self, table: Tensor, places: list[int], result: Tensor) -> None:
        """Say whose rows these are, if that is not known."""
        if self._recent.find(result) is None and _alive(self._tables, result) is None:
            samples = self._samples(table, places)
            if samples is not None:
                self._recent.drew(result, samples)

    def _samples(self, source: Tensor, places: list[int]) -> list[int] | None:
        """These rows of a tensor as rows of what it was cut out of; None where that cannot be told."""
        base = source._base
        found = self._recent.find(source)
        if found is not None:
            drawn = found.batch.drawn
            if found.batch.loader is not None or found.doubt or found.layout != batch_first(source.shape):
                return None
            return [drawn[found.start + place] for place in places]
        whole = source if base is None else base
        if _alive(self._tables, whole) is None:
            self._tables = {key: known for key, known in self._tables.items() if known() is not None}
            self._tables[id(whole)] = weakref.ref(whole)
        if base is None:
            return places
        first = _first_row(source, base)
        return None if first is None else [first + place for place in places]

    def _is_vain(self, result: Tensor) -> bool:
        known = self._vain.get(id(result))
        return known is not None and known[0]() is result and known[1] == result._version

    def _forget_about(self, result: Tensor) -> None:
        self._vain = {key: known for key, known in self._vain.items() if known[0]() is not None}
        self._vain[id(result)] = weakref.ref(result), result._version


class _Names:
    """What the names in a frame stand for, read without running a line of the script's."""

    def __init__(self, frame: FrameType, wanted: frozenset[str]) -> None:
        self._globals: dict[str, Any] = frame.f_globals
        self._locals: dict[str, Any] = {}
        if frame.f_code.co_name != "<module>":
            held: Any = frame.f_locals
            self._locals = {name: held[name] for name in wanted if name in held}
            if COPIES_NAMES:
                held.clear()  # or the frame would hold this step's tensors through the next one

    def of(self, name: str) -> Any:
        """The object of that name; None where there is none."""
        return self._locals[name] if name in self._locals else self._globals.get(name)

    def chain(self, node: ast.AST) -> Any:
        """The object that a name or an attribute is."""
        if isinstance(node, ast.Attribute):
            return _attribute(self.chain(node.value), node.attr)
        assert isinstance(node, ast.Name)
        return self.of(node.id)

    def value(self, node: ast.AST) -> Any:
        """The value of a key, or of a part of it: of numbers, tensors, lists and arrays alone."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            found = self.of(node.id)
            if not (type(found) in (int, list) or _is_array(found) or _is_unwritten(found)):
                raise Unproven
            return found
        if isinstance(node, ast.BinOp):
            sides = self.value(node.left), self.value(node.right)
            if list in map(type, sides):
                raise Unproven
            return OPERATORS[type(node.op)](*sides)
        assert isinstance(node, ast.Subscript)
        value, place = self.value(node.value), node.slice
        if isinstance(place, ast.Slice):
            ends = [None if end is None else self.value(end) for end in (place.lower, place.upper, place.step)]
            if any(type(end) not in (int, type(None)) for end in ends):
                raise Unproven
            return value[slice(*ends)]
        by = self.value(place)
        if type(by) is not int and not (type(by) is Tensor and type(value) is Tensor):
            raise Unproven
        return value[by]


def _frames() -> list[FrameType]:
    """Of the script, from the one that called torch outwards."""
    found: list[FrameType] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and len(found) < DEEPEST:
        name: Any = frame.f_globals.get("__name__")
        if type(name) is str and name.partition(".")[0] not in ("onthefly", "torch"):
            found.append(frame)
            if frame.f_code.co_name == "<module>":
                break
        frame = frame.f_back
    return found


def _attribute(thing: Any, name: str) -> Any:
    """An attribute that is an object's own, and nothing that its class computes."""
    if type(thing) is ModuleType:
        return vars(thing).get(name)
    kind: Any = type(thing)
    if kind.__getattribute__ is not object.__getattribute__ or any(name in vars(base) for base in kind.__mro__):
        raise Unproven
    try:
        own: dict[str, Any] = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        raise Unproven from None
    if name in own:
        return own[name]
    parts = [own.get(kept, {}) for kept in ("_buffers", "_modules")] if isinstance(thing, nn.Module) else []
    return next((part[name] for part in parts if name in part), None)


def _table(draw: Draw, names: _Names) -> Tensor:
    table = names.chain(draw.table)
    if type(table) is not Tensor or table.requires_grad or not table.dim() or not table.is_cpu:
        raise Unproven
    return table


def _is_loss(inline: Inline, names: _Names, roots: Sequence[Tensor], direct: bool) -> bool:
    """Whether the expression is what is back-propagated, and made by a loss function of torch's."""
    if len(roots) != 1 or not (names.of(inline.loss) is roots[0] if inline.loss else direct):
        return False
    if any(not isinstance(factor, ast.Constant) and type(names.value(factor)) is not int for factor in inline.factors):
        return False
    function = names.chain(inline.function)
    if isinstance(function, FunctionType):
        return function.__module__ == "torch.nn.functional"
    return (
        type(function).__module__ == "torch.nn.modules.loss"
        and not function._forward_hooks and not function._forward_pre_hooks
    )  # fmt: skip


def _operand(terms: Sequence[Term], drawn: Tensor) -> Tensor:
    """The target of the only term of a loss, if that is what was drawn."""
    if len(terms) != 1:
        raise Unproven
    reader = terms[0].reader
    operands = reader.operands if isinstance(reader, Noted) else (terms[0].read.target,)
    found = [one for one in operands if type(one) is Tensor and not one.requires_grad]
    if len(found) != 1 or not _equal(drawn, found[0]):
        raise Unproven
    return found[0]


def _drew(table: Tensor, rows: Tensor, result: Tensor) -> bool:
    """Whether these rows of a table are what was drawn, bit for bit; of large ones as many rows as are quickly seen."""
    count = rows.shape[0]
    seen = max(1, MOST_COMPARED * count // max(1, result.numel()))
    if seen < count == result.shape[0]:
        rows, result = rows[:seen], result[:seen]
    return _equal(torch.index_select(table, 0, rows), result)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and other.is_cpu and torch.equal(one, other)


def _alive(known: dict[int, weakref.ref[Tensor]], tensor: Tensor) -> Tensor | None:
    found = known.get(id(tensor))
    return tensor if found is not None and found() is tensor else None


def _is_array(value: Any) -> bool:
    kind: Any = type(value)
    return kind.__name__ == "ndarray" and kind.__module__ == "numpy"


def _is_unwritten(value: Any) -> bool:
    """A plain tensor that was never changed in place: it is what it was."""
    return type(value) is Tensor and value.is_cpu and not value.is_inference() and not value._version


def _first_row(part: Tensor, base: Tensor) -> int | None:
    """Which row of ``base`` the first of ``part`` is, a view of whole rows or of a piece of each; None if it is not."""
    if not base.dim() or not base.is_contiguous():
        return None
    step = base.stride(0)
    offset = part.storage_offset() - base.storage_offset()
    extent = offset % step + sum((size - 1) * stride for size, stride in zip(part.shape[1:], part.stride()[1:]))
    return offset // step if part.stride(0) == step and extent < step else None


def _integers(key: Any, size: int) -> list[int]:
    """The key as places from 0 on; :class:`Unproven` if it is not one row of whole numbers, in the host's memory."""
    plain: Any = key  # not told apart by its type
    if isinstance(key, Tensor):
        whole = key.dim() == 1 and key.dtype in INTEGERS and key.is_cpu
    else:
        whole = type(key) is list or (_is_array(key) and plain.ndim == 1 and plain.dtype.name in ("int64", "int32"))
    if not whole or not 0 < len(key) <= MOST:
        raise Unproven
    places: list[Any] = key if type(key) is list else plain.tolist()
    if any(type(place) is not int for place in places):
        raise Unproven
    return [place + size if place < 0 else place for place in places]
