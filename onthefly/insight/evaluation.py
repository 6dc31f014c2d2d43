"""A test or a scan: all samples of a split through one step, the model as it was before and after.

The step is the script's own (:mod:`onthefly.insight.recipe`), or what it has registered. Batch by batch, so that the
memory does not grow with the split. What ends it early (a data set that raises, an accelerator that is full, somebody
who cancels it) leaves the results until then, marked as partial.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from onthefly.capture.graph import Unreadable
from onthefly.capture.quiet import undisturbed
from onthefly.errors import Refused, outcome
from onthefly.insight.keeping import Modules, as_before
from onthefly.insight.reading import ROWS, Read, alike, given, named, read, unread
from onthefly.insight.rows import Rows
from onthefly.insight.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from onthefly.capture.borrowed import Lender
    from onthefly.insight.embeddings import Embedding
    from onthefly.insight.split import Batch, Split

PROGRESS_SECONDS = 0.25


class Way(NamedTuple):
    """How a batch becomes a loss."""

    loss: Callable[[Any], Tensor]
    modules: Sequence[nn.Module]
    """That it runs."""
    modes: Sequence[tuple[nn.Module, bool]]
    """Of the step that it comes from: which of them trained."""
    serves: Callable[[Any], bool]
    """Whether it can be given that batch."""
    rows: int
    """Of a batch, where it can be given no other; 0: any. Larger ones are fetched in parts of that size."""
    light: Callable[[Any], Tensor] | None = None
    """The same at less cost, where it gives the same samples the same values; tried on the first batch."""
    others: Sequence[nn.Module] = ()
    """That it might run as well: they are left as they were, too, and have no part in the weights of a checkpoint."""


class Watch(NamedTuple):
    """Who is told how it goes."""

    progress: Callable[[int, int], None]
    """Samples done, and all; 0 where that is not known."""
    cancelled: Callable[[], bool]


class Outcome(NamedTuple):
    """What came of it."""

    samples: int
    result: dict[str, Any]
    partial: str
    """Why it is not all; empty: it is."""
    seconds: float


class Evaluation:
    """One test or scan under way."""

    def __init__(self, split: Split, way: Way, lender: Lender, rows: Rows, watch: Watch) -> None:
        self._split, self._way, self._lender, self._rows, self._watch = split, way, lender, rows, watch
        self._tally = Tally()
        self._count = 0
        self._light: bool | None = None
        """Whether the light way gives the same; None: not tried."""

    def run(self, mode: str, weights: dict[int, Tensor], embedding: Embedding | None) -> Outcome:
        """All of it. ``weights``: other values for parameters and buffers, by the ``id`` of these."""
        began = time.monotonic()
        way, split = self._way, self._split
        split.size = min(split.size, way.rows or split.size)
        partial = ""
        self._light = False if mode == "train" else None  # a second run would draw other random numbers
        with self._prepared(mode) as (modules, record, per_sample), _weights(modules.modules, modules.lent, weights):
            with embedding.watching() if embedding is not None else contextlib.nullcontext():
                _, fault = outcome(self._all, record, per_sample, embedding)
            partial = _words(fault, self._count) if fault is not None else ""
        self._rows.send()
        return Outcome(self._count, self._tally.result(), partial, time.monotonic() - began)

    def try_first(self) -> str:
        """See :func:`obstacle`."""
        with self._prepared("eval") as (_, record, per_sample):
            batch, fault = outcome(next, self._split.batches(), None)
            if fault is not None or batch is None:
                return ""  # of the data, which the evaluation itself tells of
            found, fault = outcome(self._one, batch, record, per_sample)
        if found is None:
            return str(fault) if isinstance(fault, Refused) else f"{type(fault).__name__}: {fault}"[:300]
        return found.reason if found.values is None else ""

    @contextlib.contextmanager
    def _prepared(self, mode: str) -> Generator[tuple[Modules, Any, Any], None, None]:
        """Modules in that mode, and what reads the losses of this split."""
        way, split = self._way, self._split
        with as_before([*way.modules, *way.others], [split.loader.dataset, split.loader.collate_fn]) as modules:
            for one in modules.modules:
                one.training = False
            if mode == "train":
                for one, training in way.modes:
                    one.training = training
            with self._lender.lent(split.loader, split.name) as (record, per_sample):
                yield modules, record, per_sample

    def _all(self, record: Any, per_sample: Any, embedding: Embedding | None) -> None:
        told = time.monotonic()
        for batch in self._split.batches():
            if self._watch.cancelled():
                raise Cancelled
            whole = self._sized(batch)
            found = self._one(whole, record, per_sample)
            rows = whole.rows or found.rows
            vectors = embedding.take(rows) if embedding is not None else None
            self._tally.add(found, rows)
            self._rows.add(found, rows, vectors)
            self._count += rows
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                self._watch.progress(self._count, self._split.count)

    def _one(self, whole: Batch, record: Any, per_sample: Any) -> Read:
        record.deliver(whole.drawn, whole.data)
        with undisturbed():
            torch._C._set_grad_enabled(True)  # pyright: ignore[reportPrivateUsage]
        rows = whole.rows or _first_axis(whole.data)
        found = self._read(whole.data, len(whole.drawn or ()) or rows, per_sample)
        return named(found, record, whole.drawn) if found.identity == ROWS else found

    def _read(self, data: Any, rows: int, per_sample: Any) -> Read:
        way = self._way
        if self._light is None and way.light is not None:  # the first batch: both ways
            found = _read(way.loss, data, rows, per_sample)
            other, fault = outcome(_read, way.light, data, rows, per_sample)
            self._light = fault is None and alike(found, other)
            return found
        return _read(way.light if way.light is not None and self._light else way.loss, data, rows, per_sample)

    def _sized(self, batch: Batch) -> Batch:
        """The batch, or one of a size that the step can be given, which begins with its samples."""
        way = self._way
        if way.serves(batch.data) or not batch.drawn or len(batch.drawn) >= way.rows:
            if not way.serves(batch.data):
                raise Unserved
            return batch
        filled = self._split.filled_up(batch, way.rows)
        if not way.serves(filled.data):
            raise Unserved
        return filled


def obstacle(split: Split, way: Way, lender: Lender) -> str:
    """Why the losses of samples cannot be had that way, as far as the first batch tells; empty: they can."""
    nobody = Watch(lambda done, of: None, lambda: False)
    return Evaluation(split, way, lender, Rows(lambda rows: None, {}), nobody).try_first()


def _read(loss_of: Callable[[Any], Tensor], data: Any, rows: int, per_sample: Any) -> Read:
    loss = loss_of(data)
    if loss.shape == (rows,) and rows > 1:
        return given(loss)
    try:
        return read(loss, rows, per_sample)
    except Unreadable as error:
        return unread(loss.item(), rows, str(error))


class Cancelled(Exception):
    """Somebody has asked to end it."""


class Unserved(Exception):
    """A batch has another size than the step that was traced."""


def _words(fault: Exception, count: int) -> str:
    """Why it ended after so many samples."""
    if isinstance(fault, Cancelled):
        return f"cancelled after {count} samples"
    if isinstance(fault, Unserved):
        return f"after {count} samples a batch came of another size than the step that was traced, which depends on it"
    said = f"{type(fault).__name__}: {fault}".splitlines()[0][:300]
    if isinstance(fault, (MemoryError, torch.OutOfMemoryError)) or "out of memory" in str(fault).lower():
        return f"out of memory after {count} samples ({said}): the training itself is as it was"
    return f"after {count} samples: {said}"


def _first_axis(data: Any) -> int:
    from onthefly.insight.recipe import rows_of

    return rows_of(data)


@contextlib.contextmanager
def _weights(
    modules: Sequence[nn.Module], lent: dict[int, Tensor], weights: dict[int, Tensor]
) -> Generator[None, None, None]:
    """Other values in parameters (which lie elsewhere meanwhile, their version counters untouched) and in buffers."""
    before: list[tuple[Tensor, Tensor]] = []
    try:
        for one in {id(p): p for module in modules for p in module._parameters.values() if p is not None}.values():
            if id(one) in weights:
                before.append((one, one.data))
                one.data = weights[id(one)].to(one.device)
        for number, copy in lent.items():
            if number in weights:
                copy.copy_(weights[number])
        yield
    finally:
        for one, data in before:
            one.data = data
