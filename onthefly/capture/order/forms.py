"""Where a batch has its rows, as its proof says; and finding them in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from onthefly.capture.order.values import Doubt, Entries, Growing, Items, Joined, Many, Rows, Table, Tree

if TYPE_CHECKING:
    from onthefly.capture.order.values import Value

Form = Any
"""True: every tensor has a row an item. LISTED: a list with an entry an item. False: neither is known. Or, by its
parts, a tuple of forms, :class:`Each` or :class:`Keyed`; or :class:`Graphs`."""

LISTED = "listed"


class Keyed(dict[Any, Form]):
    """By key; all other keys are like :attr:`rest`, None where there are none."""

    rest: Form = None


class Each:
    """A sequence of any length; each entry is of this form."""

    def __init__(self, form: Form) -> None:
        self.form = form

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Each) and self.form == other.form

    __hash__ = None  # type: ignore[assignment]


def form_of(value: Value) -> Form:
    """Where a batch of that value has its rows."""
    if isinstance(value, Growing):
        value = value.filled if value.filled is not None else value.settled()
    if isinstance(value, (Rows, Tree)):
        return True
    if isinstance(value, Entries):
        return tuple(map(form_of, value.entries))
    if isinstance(value, Many):
        return Each(form_of(value.entry))
    if isinstance(value, Items) and not value.lazy:
        return LISTED
    if isinstance(value, Joined):
        return Graphs()
    if isinstance(value, Table):
        form = Keyed({key: form_of(entry) for key, entry in value.entries.items()})
        form.rest = form_of(value.rest) if value.rest is not None else None
        return form
    return False


def joined(one: Form, other: Form) -> Form:
    """Where rows are if a batch is of the one form or of the other; raises :class:`Doubt` where they do not agree."""
    if isinstance(one, Keyed) and isinstance(other, Keyed):
        form = Keyed()
        for key in [*one, *(key for key in other if key not in one)]:
            form[key] = _either(one.get(key, one.rest), other.get(key, other.rest))
        form.rest = _either(one.rest, other.rest)
        return form
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):  # pyright: ignore[reportUnknownArgumentType]
        return tuple(map(joined, one, other))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(one, Each) and isinstance(other, Each):
        return Each(joined(one.form, other.form))
    if type(one) is type(other) and one == other:
        return one
    raise Doubt("it returns batches of several forms")


def _either(one: Form, other: Form) -> Form:
    """The same where one of them may be absent (None)."""
    return other if one is None else one if other is None else joined(one, other)


def has_rows(form: Form) -> bool:
    """Whether any tensor is known to have a row an item."""
    if isinstance(form, Keyed):
        return any(map(has_rows, form.values())) or has_rows(form.rest)
    if isinstance(form, tuple):
        return any(map(has_rows, form))  # pyright: ignore[reportUnknownArgumentType]
    return has_rows(form.form) if isinstance(form, Each) else form is True or isinstance(form, Graphs)


def chosen(form: Form, data: Any) -> list[Any]:
    """The parts of a batch of which every tensor has a row an item."""
    if form is True:
        return [data]
    parts: list[Any] = []
    if isinstance(form, Keyed) and isinstance(data, Mapping):
        for key, part in data.items():  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            parts += chosen(form.get(key, form.rest), part)
    elif isinstance(form, tuple) and isinstance(data, (list, tuple)) and len(form) == len(data):  # pyright: ignore[reportUnknownArgumentType]
        for inner, part in zip(form, data):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            parts += chosen(inner, part)
    elif isinstance(form, Each) and isinstance(data, (list, tuple)):
        for part in data:  # pyright: ignore[reportUnknownVariableType]
            parts += chosen(form.form, part)
    elif isinstance(form, Graphs):
        parts += graphs(data)
    return parts


def entries(form: Form, name: str) -> bool:
    """Whether a batch of that form, a dictionary, has an entry an item under that name."""
    return isinstance(form, Keyed) and form.get(name, form.rest) in (True, LISTED)


class Graphs:
    """Graphs joined into one (torch-geometric): attributes that have one row a graph, as the batch itself says."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graphs)

    __hash__ = None  # type: ignore[assignment]


def graphs(data: Any) -> list[Any]:
    """The tensors with a row a graph; of a nest of batches, those of each."""
    if isinstance(data, Tensor):
        return [data]
    if isinstance(data, Mapping):
        return [found for part in data.values() for found in graphs(part)]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if isinstance(data, (list, tuple)):
        return [found for part in data for found in graphs(part)]  # pyright: ignore[reportUnknownVariableType]
    slices: Any = getattr(data, "_slice_dict", None)
    return _graph_rows(data, slices) if isinstance(slices, dict) else []


def _graph_rows(data: Any, slices: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for name, bounds in slices.items():
        if isinstance(bounds, Tensor) and not bounds.is_cuda and bounds.tolist() == list(range(len(bounds))):
            value = data._store.get(name)
            if isinstance(value, Tensor) and value.dim() and value.shape[0] == len(bounds) - 1:
                found.append(value)
    return found
