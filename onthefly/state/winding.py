"""How iterators of loaders began, and letting one in another process go on from where one stood.

An iterator cannot be written down: it has a sampler under way, perhaps workers with random states of their own. So it
is begun again, under the random states of that moment (and those of its first batch, when a sampler draws its seed),
and taken forward as far as it was. What is fetched on the way is dropped: workers must fetch, or their augmentation
would go on differently; a data set of plain tensors need not.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    Subset,
    TensorDataset,
    default_collate,
)  # fmt: skip
from torch.utils.data._utils import signal_handling  # pyright: ignore[reportPrivateUsage]
from torch.utils.data.dataloader import (
    _MultiProcessingDataLoaderIter,  # pyright: ignore[reportPrivateUsage]
    _SingleProcessDataLoaderIter,  # pyright: ignore[reportPrivateUsage]
)

from onthefly.errors import Refused
from onthefly.state.kept import ATOMS
from onthefly.state.random import RandomStates, generator_of, generators_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.state.rebuilding import Loading

BEGAN = "_onthefly_began"
"""The attribute of a loader's iterator that holds its :class:`Began`."""

_BELOW = ("dataset", "sampler", "batch_sampler", "data_source")
_SIGNALS: Any = signal_handling


class Start(NamedTuple):
    """What one pass of an iterator began with."""

    random: RandomStates
    """When the loader was asked for it."""
    generators: list[tuple[Any, Any]]
    """Random generators of the loader's parts, with their states then."""
    settings: list[tuple[Any, dict[str, Any]]]
    """Plain attributes of sampler and data set then (``epoch``, a stage of a curriculum)."""
    first: Optional[RandomStates] = None
    """When its first batch was asked for; None: it was not."""


class Parts(NamedTuple):
    """What one loader fetches with."""

    known_by: tuple[Any, ...]
    all: list[Any]
    generators: list[Any]
    draws_elsewhere: bool
    """It may draw from Python's and NumPy's random states too: its sampler, or a stream, is not torch's."""


class Began:
    """How one iterator began; with workers that stay, each of its passes."""

    __slots__ = ("_refer", "starts")

    def __init__(self, loader: Any) -> None:
        self._refer = weakref.ref(loader)
        self.starts: list[Start] = []

    @property
    def loader(self) -> Any:
        """None, if it is gone."""
        return self._refer()

    def first(self) -> None:
        """The first batch of the pass is asked for."""
        self.starts[-1] = self.starts[-1]._replace(first=states_for(self.loader))


_known: weakref.WeakKeyDictionary[Any, Parts] = weakref.WeakKeyDictionary()


def states_for(loader: Any) -> RandomStates:
    """The random states that matter to what a loader gives, now."""
    return RandomStates.take() if loader is None or _parts(loader).draws_elsewhere else RandomStates.of_torch()


def ask(loader: Any) -> Start:
    """That loader is about to be asked for an iterator: what matters to it, as it is now."""
    parts = _parts(loader)
    generators = [(one, kind.read(one)) for one in parts.generators for kind in [generator_of(one)] if kind]
    settings = [(part, plain) for part in parts.all for plain in [_settings(part)] if plain]
    return Start(states_for(loader), generators, settings)


def begin(iterator: Any, loader: Any, start: Start) -> None:
    """That iterator was asked for at that moment: noted with it."""
    began: Began | None = vars(iterator).get(BEGAN)
    if began is None or began.loader is not loader:
        began = Began(loader)
        setattr(iterator, BEGAN, began)
    elif not getattr(iterator, "_persistent_workers", False):
        began.starts.clear()
    began.starts.append(start)


def began_of(iterator: Any) -> Optional[Began]:
    """How it began; None if that is not known."""
    return vars(iterator).get(BEGAN)


def first(iterator: Any) -> None:
    """The first batch of that iterator's pass is about to be fetched."""
    began: Began | None = vars(iterator).get(BEGAN)
    if began is not None:
        began.first()


def wind(loading: Loading, told: Callable[[int, int], None]) -> Any:
    """Let ``loading.live`` go on from where it stood; the iterator that it was until now.

    Raises :class:`~onthefly.errors.Refused` if it cannot be got there.

    ``told(done, of)`` is called from time to time.
    """
    node, loader = loading.node, loading.loader
    if not isinstance(loader, DataLoader):
        raise Refused(f"the loader of {node['name']} is not there")
    iterator: Any = None
    if getattr(loader, "_iterator", None) is not None:  # whose workers stay from pass to pass: others begin
        loader._iterator = None
    for number, start in enumerate(node["starts"]):
        last = number == len(node["starts"]) - 1
        for token, state in start["generators"]:
            generator = loading.value(token)
            kind: Any = generator_of(generator)
            kind.write(generator, state)
        for token, plain in start["settings"]:
            vars(loading.value(token)).update(plain)
        states_of(start["random"]).put_back()
        iterator = iter(loader)
        if start["first"] is not None:
            states_of(start["first"]).put_back()
            first(iterator)
        count = node["yielded"] if last else len(loader)
        _take(iterator, loader, count, told)
        if not last:
            next(iterator, None)
    drawn = loading.value(node["drawn"])
    if iterator is None or (drawn is not None and vars(iterator).get("_onthefly_drawn") != drawn):
        raise Refused("a loader gives its samples in another order than it did",
                      "what its sampler draws from is not known: seed it")  # fmt: skip
    _become(loading.live, iterator)
    if getattr(loader, "_iterator", None) is iterator:
        loader._iterator = loading.live
    return iterator


def states_of(tree: dict[str, Any]) -> RandomStates:
    """The random states that :meth:`RandomStates.tree` described."""
    return RandomStates(tree.get("python"), tree.get("numpy"), tree.get("torch"), tree.get("cuda"), tree.get("mps"))


def _take(iterator: Any, loader: Any, count: int, told: Callable[[int, int], None]) -> None:
    if (
        type(iterator) is _SingleProcessDataLoaderIter
        and loader.collate_fn is default_collate
        and _plain(loader.dataset)
    ):
        for _ in range(count):
            iterator._next_index()
        iterator._num_yielded = count
        return
    for number in range(count):
        try:
            next(iterator)
        except StopIteration as error:
            raise Refused(f"a loader gave {number} batches, where it had given {count}") from error
        told(number + 1, count)


def _plain(dataset: Any) -> bool:
    """Whether fetching from that data set changes nothing, and draws no random number."""
    if type(dataset) in (Subset, ConcatDataset):
        return all(map(_plain, getattr(dataset, "datasets", None) or [dataset.dataset]))
    return type(dataset) is TensorDataset


def _become(live: Any, made: Any) -> None:
    """Let the iterator that the script holds be the one that was made, and the other way round."""
    began = vars(made).pop(BEGAN)
    live.__dict__, made.__dict__ = vars(made), vars(live)
    setattr(live, BEGAN, began)
    for one, other in ((live, made), (made, live)):
        if isinstance(one, _MultiProcessingDataLoaderIter) and hasattr(one, "_workers"):
            with contextlib.suppress(ValueError):  # one that was only a shell has none
                _SIGNALS._remove_worker_pids(id(other))
    for one in (live, made):
        if isinstance(one, _MultiProcessingDataLoaderIter) and hasattr(one, "_workers"):
            _SIGNALS._set_worker_pids(id(one), tuple(worker.pid for worker in one._workers))


def _parts(loader: Any) -> Parts:
    """What it fetches with; looked for once, as long as data set and samplers are the same."""
    held: dict[str, Any] = vars(loader)
    known_by = (held.get("dataset"), held.get("sampler"), held.get("batch_sampler"))
    known = _known.get(loader)
    if known is not None and all(one is other for one, other in zip(known.known_by, known_by)):
        return known
    found = _below(loader)
    generators = list({id(one): one for part in [loader, *found] for one in generators_in(part, 1)}.values())
    samplers = [one for one in found if isinstance(one, Sampler)]
    elsewhere = isinstance(held.get("dataset"), IterableDataset) or not all(
        type(one).__module__ == Sampler.__module__
        for one in [*samplers, held.get("batch_sampler"), held.get("sampler")]
        if one is not None
    )
    known = _known[loader] = Parts(known_by, found, generators, elsewhere)
    return known


def _below(loader: Any) -> list[Any]:
    """Its samplers and data sets, and those that they hold."""
    found: list[Any] = []
    pending: list[Any] = [loader]
    while pending and len(found) < 16:
        part = pending.pop()
        held: Any = getattr(part, "__dict__", None)
        if type(held) is dict and not any(part is one for one in found):
            if part is not loader:  # which nobody is to keep alive
                found.append(part)
            pending += [held[name] for name in _BELOW if isinstance(held.get(name), (Dataset, Sampler))]
    return found


def _settings(part: Any) -> dict[str, Any]:
    if isinstance(part, DataLoader):
        return {}
    return {name: value for name, value in vars(part).items() if type(value) in ATOMS and not name.startswith("__")}
