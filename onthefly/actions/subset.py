"""Which samples are drawn: some left out, only some, or some more often than others, by their index in the data set.

Lists of indices are changed where the loader has just drawn them, in the main process: the sampler is asked as often as
before and draws what it would have drawn; a batch that is left with nothing is passed over. Batches that workers have
under way are delivered as they were drawn. A weight says how often a sample is taken on average when it is drawn once;
what is left to chance comes from a generator of ours, which a replay starts alike.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from torch.utils.data.dataloader import (
    _BaseDataLoaderIter,  # pyright: ignore[reportPrivateUsage]
    _DatasetKind,  # pyright: ignore[reportPrivateUsage]
)

from onthefly.actions.living import living
from onthefly.capture.datasets import Numbering, weakly
from onthefly.errors import Refused
from onthefly.protocol import SubsetInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.core.gate import Place


class Chosen(NamedTuple):
    """What is in force for one loader."""

    dataset: Callable[[], Any]
    kind: tuple[Any, ...]
    numbering: Numbering
    mode: str
    weights: dict[int, float]
    """Of the samples that were given, by their index."""
    info: SubsetInfo


class Subset:
    """The subset in force, if there is one."""

    def __init__(
        self, loaders: Callable[[], list[tuple[str, Any]]], ranks: Callable[[], int], changed: Callable[[], None],
        behind: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        """``loaders()`` gives name and object of the script's loaders, the one that is trained on first.

        ``behind()``: batches of before a rewind that are to be delivered again.
        """
        self._behind = behind
        self._loaders = loaders
        self._ranks = ranks
        self._changed = changed
        self._chosen: Chosen | None = None
        self._random = random.Random(0)

    @property
    def info(self) -> SubsetInfo | None:
        """For clients."""
        return self._chosen.info if self._chosen is not None else None

    @property
    def active(self) -> bool:
        """Whether any list of indices is to be changed."""
        return self._chosen is not None

    def state(self) -> Any:
        """What a checkpoint keeps of it."""
        return self._chosen, self._random.getstate()

    def check(self, state: Any) -> None:
        """Refuse to go back to there: batches that were drawn from other samples since would come again."""
        if state[0] is not self._chosen:
            raise Refused("other samples were chosen since, and the batches that come again were drawn from those",
                          "the command subset takes it back from here on; a newer checkpoint")  # fmt: skip

    def put_back(self, state: Any) -> None:
        """As it was at that checkpoint."""
        self._chosen, chance = state
        self._random.setstate(chance)
        self._changed()

    def subset(self, given: Any, place: Place, by: str) -> dict[str, Any]:
        """The command ``subset``."""
        before, behind = _told(self.info), self._behind()
        if behind:
            raise Refused(f"{behind} batches of before the rewind come again first, as they were drawn",
                          "choose when they have been trained on")  # fmt: skip
        if given.mode == "all":
            if self._chosen is None:
                raise Refused("all samples are drawn already")
            self._chosen = None
        else:
            self._chosen = self._choose(given, place)
        self._changed()
        return {"before": before, "after": _told(self.info)}

    def draw(self, iterator: Any, drawn: Any, again: Callable[[Any], Any]) -> Any:
        """A loader has drawn these indices: those that are to be fetched. ``again(iterator)`` draws the next."""
        chosen = self._chosen
        if chosen is None or not _is_of(iterator, chosen):
            return drawn
        while True:
            kept = self._kept(chosen, drawn)
            if kept is None or kept:
                return drawn if kept is None else (kept if isinstance(drawn, list) else kept[0])
            drawn = again(iterator)

    def _kept(self, chosen: Chosen, drawn: Any) -> list[Any] | None:
        """Those of these indices that are taken, each as often as it is; None where they are no indices."""
        listed: list[Any] = drawn if isinstance(drawn, list) else [drawn]
        roots = listed if chosen.numbering.direct else chosen.numbering.root(listed)
        if roots is None or not all(isinstance(root, int) for root in roots):
            return None
        kept: list[Any] = []
        for index, root in zip(listed, roots):
            kept += [index] * self._times(chosen, root)
        return kept

    def _times(self, chosen: Chosen, root: int) -> int:
        if chosen.mode != "weights":
            return int((root in chosen.weights) == (chosen.mode == "include"))
        weight = chosen.weights.get(root, 1.0)
        whole = int(weight)
        return whole + (weight != whole and self._random.random() < weight - whole)

    def _choose(self, given: Any, place: Place) -> Chosen:
        if self._ranks() > 1:
            raise Refused("with several ranks a subset would give them batches of different number, and hang the job")
        if not given.samples:
            raise Refused("a subset needs samples", "give their indices, or the mode all")
        name, loader = self._loader(given.loader)
        weights = dict(self._earlier(given, name))
        weights.update(zip(given.samples, _weights(given)))
        dataset = loader._dataset if isinstance(loader, _BaseDataLoaderIter) else loader.dataset
        workers = loader._num_workers if isinstance(loader, _BaseDataLoaderIter) else loader.num_workers
        numbering = Numbering(dataset, copied=workers > 0)
        if given.mode == "weights" and not loader._auto_collation:
            raise Refused(f"{name} has no batches of its own (batch_size=None), which samples could be repeated in")
        known = set(_roots(dataset, numbering))
        if known and not known & set(given.samples):
            raise Refused(f"none of these samples is in the data of {name}", f"it has {len(known)}, by their indices")
        left = [root for root in known if given.mode != "weights" and (root in weights) == (given.mode == "include")]
        if known and (not left if given.mode != "weights" else all(weights.get(root, 1.0) == 0 for root in known)):
            raise Refused("no sample would be left", "choose fewer, or pause instead")
        iterators = [each for each in living(_BaseDataLoaderIter) if each._dataset is dataset]
        under_way = sum(getattr(each, "_send_idx", 0) - getattr(each, "_rcvd_idx", 0) for each in iterators)
        info = SubsetInfo(mode=given.mode, count=len(weights), loader=name, since=place.backward + under_way)
        return Chosen(weakly(dataset), _kind(loader._index_sampler), numbering, given.mode, weights, info)

    def _earlier(self, given: Any, name: str) -> dict[int, float]:
        chosen = self._chosen
        if not given.add or chosen is None:
            return {}
        if (chosen.mode, chosen.info.loader) != (given.mode, name):
            raise Refused(f"what is in force is to {chosen.mode} samples of {chosen.info.loader}", "leave out add")
        return chosen.weights

    def _loader(self, wanted: str) -> tuple[str, Any]:
        known = self._loaders()
        found = [(name, loader) for name, loader in known if not wanted or name == wanted]
        if not found:
            names = ", ".join(name for name, _ in known)
            raise Refused(
                f"no loader is called {wanted!r}" if wanted else "the script has no DataLoader that is trained on",
                f"known: {names}" if names else "what it draws by hand cannot be chosen here",
            )
        name, loader = found[0]
        if loader._dataset_kind != _DatasetKind.Map:
            raise Refused(f"{name} is a stream: its samples have no indices to choose by")
        return name, loader


def _weights(given: Any) -> list[float]:
    if given.mode != "weights":
        if given.weights:
            raise Refused("weights go with the mode weights")
        return [1.0] * len(given.samples)
    if len(given.weights) == 1:
        return given.weights * len(given.samples)
    if len(given.weights) != len(given.samples):
        raise Refused(f"{len(given.samples)} samples, and {len(given.weights)} weights", "one for each, or one for all")
    return given.weights


def _roots(dataset: Any, numbering: Numbering) -> list[Any]:
    """The indices of all its samples; none where they cannot be told."""
    try:
        places = list(range(len(dataset)))
    except TypeError:
        return []
    return places if numbering.direct else numbering.root(places) or []


def _is_of(iterator: Any, chosen: Chosen) -> bool:
    """Whether it iterates that loader, or the same made anew: the same data, drawn in the same way."""
    return iterator._dataset is chosen.dataset() and _kind(iterator._index_sampler) == chosen.kind


def _kind(sampler: Any) -> tuple[Any, ...]:
    return type(sampler), getattr(sampler, "batch_size", None), type(getattr(sampler, "sampler", None))


def _told(info: SubsetInfo | None) -> dict[str, Any]:
    if info is None:
        return {"mode": "all"}
    return {"mode": info.mode, "count": info.count, "loader": info.loader, "since": info.since}
