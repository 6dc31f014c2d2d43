"""What each loader delivers while a snapshot lives, so that a rewind can deliver it again.

An iterator of a loader cannot be wound back: its sampler, its data set and its workers have moved on. So they stay
where they are, what they gave since the oldest snapshot is kept, and after a rewind the script gets it from here until
it has caught up; then the real iterator goes on. The random states after each fetch are kept as well and set again: a
data set without workers, or a sampler, may have drawn from them.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple, Optional, Protocol

from onthefly.errors import Refused
from onthefly.state import winding
from onthefly.state.batches import KeptBatch, Unkeepable
from onthefly.state.places import EARLIER, REMEDY
from onthefly.state.random import RandomStates, generator_of, generators_in, same_states

TAPE = "_onthefly_tape"
"""The attribute of a loader's iterator that holds its :class:`Tape`."""

_FETCHING = ("_dataset", "_index_sampler", "_collate_fn", "_sampler_iter")
_PARTS = ("sampler", "batch_sampler", "dataset", "data_source")


class Feed(Protocol):
    """Where deliveries of one iterator go to (the data instrument's)."""

    came: Any
    """What the newest batch was drawn from."""
    waits: bool
    """Its first batch has not been asked for."""

    def counted(self) -> Any:
        """How much of a stream has been told of."""
        ...

    def count_from(self, counted: Any) -> None:
        """Go on from there."""
        ...


class Delivery(NamedTuple):
    """One batch, as it reached the script."""

    batch: KeptBatch
    drawn: Any
    random: Optional[RandomStates]
    """After it was fetched; None: that has drawn nothing."""
    line: int
    """In which line of runs that was."""
    generators: tuple[tuple[Any, Any], ...]
    """Random generators of the data set and the sampler that the fetch has moved, and their states after it."""


class Tape:
    """The deliveries of one iterator."""

    __slots__ = ("at", "deliveries", "ended", "feed", "first", "generators", "iterator", "lost")

    def __init__(self, iterator: Any, feed: Feed) -> None:
        self.iterator = weakref.ref(iterator)
        self.feed = feed
        self.first = self.at = 0
        """The number of the first delivery that is kept, and of the one that comes next."""
        self.deliveries: list[Delivery] = []
        self.ended = False
        self.lost = ""
        """Why deliveries are missing; empty: none is."""
        parts = [vars(iterator).get(name) for name in _FETCHING]
        found = {id(one): one for part in parts for one in generators_in(part)}
        self.generators: list[list[Any]] = [[one, _read(one)] for one in found.values()]

    @property
    def end(self) -> int:
        """The number of the delivery that the real iterator makes next."""
        return self.first + len(self.deliveries)


class Position(NamedTuple):
    """Where one iterator stood."""

    tape: Tape
    key: int
    """The iterator's ``id``, at the time of the mark."""
    at: int
    yielded: int
    counted: Any


class Mark:
    """Where all iterators stood at one moment."""

    def __init__(self, positions: list[Position], line: int) -> None:
        self.positions, self.line = positions, line
        self.lost = ""
        """Why it cannot be gone back to any more; empty: it can."""


class Deliveries:
    """The deliveries of all loaders, within a budget."""

    def __init__(self, budget: int = 1 << 30) -> None:
        """``budget``: bytes of batches that are kept; over it, the oldest marks are given up."""
        self.keeping = False
        """Whether anything has to be kept or delivered again: the one thing that is looked at for each batch."""
        self.nbytes = 0
        self._budget = budget
        self._copying = False
        """The script writes into its batches."""
        self._iterators: weakref.WeakSet[Any] = weakref.WeakSet()
        self._feeds: weakref.WeakKeyDictionary[Any, Feed] = weakref.WeakKeyDictionary()
        self._tapes: list[Tape] = []
        self._marks: list[Mark] = []
        self._states: Optional[RandomStates] = None
        self._line = self._lines = 0
        """Runs of one line draw the same random numbers again where they go back; those of another do not."""

    def branch(self) -> None:
        """A run begins here that draws others from now on than the one that it leaves: a fork, a merge."""
        self._lines += 1
        self._line = self._lines

    def about_to(self) -> None:
        """A batch is about to be fetched."""
        self._states = RandomStates.take(self._states)

    def limit(self, budget: int) -> None:
        """Keep at most so many bytes of batches from the next one on."""
        self._budget = budget

    # -- told by the data instrument

    def asked(self, loader: Any, states: list[Any]) -> None:
        """That loader is about to be asked for an iterator: what matters to it is put there."""
        states.append(winding.ask(loader))

    def begin(self, iterator: Any, feed: Feed, loader: Any, states: list[Any]) -> None:
        """This iterator begins an epoch; ``states``: those when its loader was asked for it."""
        self.end(iterator)
        self._iterators.add(iterator)
        self._feeds[iterator] = feed
        winding.begin(iterator, loader, states[0] if states else winding.ask(loader))

    def first(self, iterator: Any) -> None:
        """Its first batch is about to be fetched."""
        winding.first(iterator)

    def becomes(self, live: Any, made: Any) -> None:
        """The script's iterator ``live`` is what ``made`` was: see :func:`onthefly.state.winding.wind`."""
        self._iterators.discard(made)
        self._iterators.add(live)
        self._feeds[live] = feed = self._feeds.pop(made)
        feed.waits = feed.waits and not live._num_yielded

    def began(self, iterator: Any) -> Optional[winding.Began]:
        """How an iterator that goes on began; None of one that has ended."""
        return winding.began_of(iterator) if iterator in self._iterators else None

    def end(self, iterator: Any) -> None:
        """This iterator has come to its end, or is made to begin anew."""
        self._iterators.discard(iterator)
        tape: Tape | None = vars(iterator).pop(TAPE, None)
        if tape is not None:
            tape.ended = True
            self._drop(tape, tape.end)
            self._tapes.remove(tape)

    def again(self, iterator: Any) -> Optional[tuple[Any, Any]]:
        """The batch that comes next and what it was drawn from, if it was delivered before; else None."""
        tape: Tape | None = vars(iterator).get(TAPE)
        if tape is None or tape.at == tape.end:
            return None
        kept = tape.deliveries[tape.at - tape.first]
        tape.at += 1
        if kept.random is not None:
            kept.random.put_back()
        for generator, state in kept.generators:
            _write(generator, state)
        data = kept.batch.again()
        self._trim()
        return data, kept.drawn

    def keep(self, iterator: Any, data: Any, failed: str = "") -> None:
        """A batch was fetched and reached the script; ``failed``: none came, for this reason."""
        tape: Tape | None = vars(iterator).get(TAPE)
        if tape is None or tape.lost:
            return
        tape.lost = failed or "one of its batches could not be kept"  # until it is
        if failed:
            return
        if tape.deliveries and tape.deliveries[-1].batch.moved:
            self._copying = True
        try:
            batch = KeptBatch(data, copied=self._copying)
        except Unkeepable as reason:
            tape.lost = f"its batches hold {reason}"
            return
        before, self._states = self._states, RandomStates.take(self._states)
        drew = self._states if self._states is not before else None
        tape.deliveries.append(Delivery(batch, tape.feed.came, drew, self._line, _moved(tape.generators)))
        tape.at += 1
        tape.lost = ""
        self.nbytes += batch.nbytes
        while self.nbytes > self._budget and self._marks:
            self._give_up(self._marks[0])

    # -- used by snapshots

    def mark(self) -> Mark:
        """Remember where all iterators stand, and keep what they deliver from now on."""
        positions: list[Position] = []
        for iterator in list(self._iterators):
            tape: Tape | None = vars(iterator).get(TAPE)
            if tape is None or tape.lost:
                if tape is not None:
                    self._tapes.remove(tape)
                tape = Tape(iterator, self._feeds[iterator])
                setattr(iterator, TAPE, tape)
                self._tapes.append(tape)
            positions.append(Position(tape, id(iterator), tape.at, iterator._num_yielded, tape.feed.counted()))
        mark = Mark(positions, self._line)
        self._marks.append(mark)
        self.keeping = True
        return mark

    def release(self, mark: Mark) -> None:
        """This mark will not be gone back to."""
        if mark in self._marks:
            self._marks.remove(mark)
            self._trim()

    def check(self, mark: Mark, needed: set[int]) -> None:
        """Refuse unless everything since that mark can be delivered again.

        ``needed``: the ``id`` of the iterators that something held then. Another, which a loader keeps for its workers,
        begins anew when it is asked again.
        """
        if mark.lost:
            raise Refused(mark.lost, "a newer checkpoint, or a larger budget for batches")
        for position in mark.positions:
            tape = position.tape
            if tape.ended or tape.iterator() is None:
                if position.key in needed:
                    raise Refused(EARLIER, REMEDY)
                continue
            if tape.lost:
                raise Refused(f"the batches of a loader since then cannot be delivered again: {tape.lost}")
            since = tape.deliveries[position.at - tape.first :]
            if any(kept.random is not None and kept.line != mark.line for kept in since):
                raise Refused(
                    "batches that another run has fetched since have drawn random numbers (augmentation): here they "
                    "would be others", "switch before the script goes on with that run",
                )  # fmt: skip
            if any(kept.batch.moved for kept in since):
                self._copying = True
                raise Refused(
                    "the script writes into its batches, and those since this checkpoint were not copied",
                    "they are from now on: a checkpoint that is taken now can be gone back to",
                )

    def wind(self, mark: Mark) -> None:
        """Deliver again from there; :meth:`check` has passed."""
        self._line = mark.line
        for position in mark.positions:
            iterator: Any = position.tape.iterator()
            if iterator is None or position.tape.ended:
                continue
            position.tape.at = position.at
            iterator._num_yielded = position.yielded
            position.tape.feed.count_from(position.counted)
        self.keeping = True

    def moved_since(self, mark: Mark) -> list[Any]:
        """Iterators that have delivered since."""
        return [position.tape.iterator() for position in mark.positions if position.tape.at != position.at]

    def behind(self) -> int:
        """How many batches are to be delivered again before a loader makes the next."""
        return max([tape.end - tape.at for tape in self._tapes], default=0)

    def knows(self, iterator: Any) -> bool:
        """Whether that iterator is one that can be wound."""
        return iterator in self._iterators

    def parts(self) -> list[Any]:
        """What live iterators fetch with: its own state goes with what they have fetched, and is not wound back."""
        found: list[Any] = []
        for iterator in self._iterators:
            pending = [
                vars(iterator).get(name) for name in ("_dataset", "_index_sampler", "_collate_fn", "_sampler_iter")
            ]
            while pending:
                part = pending.pop()
                found.append(part)
                own: Any = getattr(part, "__dict__", None)
                if type(own) is dict:
                    pending += [
                        own[name] for name in ("sampler", "batch_sampler", "dataset", "data_source") if name in own
                    ]
        return found

    def _give_up(self, mark: Mark) -> None:
        mark.lost = f"the batches since then are more than the {self._budget >> 20} MiB that are kept of them"
        self.release(mark)

    def _trim(self) -> None:
        """Let go of what no mark needs and nobody is to be given again."""
        for tape in self._tapes:
            needed = [position.at for mark in self._marks for position in mark.positions if position.tape is tape]
            self._drop(tape, min([*needed, tape.at]))
        behind = [tape for tape in self._tapes if tape.at < tape.end]
        if not self._marks:
            for tape in self._tapes:
                iterator = tape.iterator()
                if tape not in behind and iterator is not None:
                    vars(iterator).pop(TAPE, None)
            self._tapes = behind
        self.keeping = bool(self._marks or behind)

    def _drop(self, tape: Tape, below: int) -> None:
        count = max(below - tape.first, 0)
        self.nbytes -= sum(kept.batch.nbytes for kept in tape.deliveries[:count])
        del tape.deliveries[:count]
        tape.first += count


def _read(generator: Any) -> Any:
    kind = generator_of(generator)
    return kind.read(generator) if kind is not None else None


def _write(generator: Any, state: Any) -> None:
    kind = generator_of(generator)
    if kind is not None:
        kind.write(generator, state)


def _moved(generators: list[list[Any]]) -> tuple[tuple[Any, Any], ...]:
    """Those that a fetch may have moved, with their states; what is known of them is brought up to date."""
    found: list[tuple[Any, Any]] = []
    for one in generators:
        state = _read(one[0])
        if not same_states(state, one[1]):
            one[1] = state
        found.append((one[0], one[1]))
    return tuple(found)
