"""The proof for a loader: fetching its items and collating them, followed together.

The script's functions are never run for it (they may draw random numbers, or count), only read: :mod:`.expressions`
says what of them is followed. What is not followed is doubted.
"""

from __future__ import annotations

import ast
from typing import Any, NamedTuple, Optional

from onthefly.capture.order.calls import followed
from onthefly.capture.order.forms import Form, form_of, has_rows, joined
from onthefly.capture.order.frame import MAX_RUNS, Frame, Run
from onthefly.capture.order.statements import Raised
from onthefly.capture.order.values import (
    Doubt,
    Items,
    Known,
    Method,
    Plain,
    Tree,
    Value,
)


class Proof(NamedTuple):
    """What is known of a loader's batches."""

    doubt: str
    """Why rows may not come in the order of indices; empty: they do."""
    form: Form = True
    """Which tensors of a batch have rows; True: all."""
    unpacked: frozenset[int] = frozenset()
    """It does not hold for batches of these sizes: a tensor is then unpacked as if it were a list of fields."""


def the_loader() -> None:
    """Stands for what calls the script's functions."""


def prove(collate: Any, fetch: Optional[tuple[Any, Any]] = None, *, tree: bool = False) -> Proof:
    """Whether the rows of what ``collate`` makes are the items, in their order.

    ``fetch``: the data set and the function of its class that fetches them all at once; None where they come one by
    one, or with ``tree`` as tensors whose rows they are.
    """
    run, form, runs = Run(), None, 0
    frame = Frame(run, the_loader, {}, set())  # type: ignore[arg-type]
    node = ast.parse("collate_fn(batch)", mode="eval").body
    assert isinstance(node, ast.Call)
    node.lineno = 0
    try:
        while True:
            runs += 1
            if runs > MAX_RUNS:
                raise Doubt("the collate_fn has too many branches to be followed")
            form = _one_way(frame, node, collate, fetch, tree, form)
            if not run.again():
                break
    except Doubt as doubt:
        return Proof(str(doubt))
    except (RecursionError, AttributeError, TypeError, ValueError, LookupError) as error:
        return Proof(f"the collate_fn cannot be followed ({type(error).__name__})")
    if not has_rows(form):
        return Proof("no tensor of its batches is known to have a row an item")
    return Proof("", form, frozenset(run.unpacked))


def _one_way(
    frame: Frame, node: ast.Call, collate: Any, fetch: Optional[tuple[Any, Any]], tree: bool, form: Form
) -> Form:
    items = Items()
    items.listed = True
    value: Value = Tree() if tree else items
    try:
        if fetch is not None:
            value = followed(frame, node, Method(*fetch), [value], {})
        value = followed(frame, node, Known(collate), [value], {})
    except Raised:
        return form
    if isinstance(value, Plain):  # None
        return form
    found = form_of(value)
    return found if form is None else joined(form, found)
