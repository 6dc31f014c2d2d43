"""Training dynamics: what the presentations of a sample, one after the other, say about it. Pure NumPy, no I/O.

A *presentation* is one backward call with the sample in its batch; usually there is one in each epoch. They count in
the order of training: by backward call, then rank, then place in the batch. What is kept of a sample does not grow
with the number of its presentations (about 110 bytes), and a block of new ones is added by arithmetic on columns: rows
are grouped by sample, summed up group by group, and the groups merged into what is known (Chan, Golub and LeVeque
1983, "Algorithms for Computing the Sample Variance"), so that no sum of squares is ever taken from another.

Sources of the measures:

* forgetting events, and the epoch of the first success: Toneva et al. 2019, "An Empirical Study of Example Forgetting
  during Deep Neural Network Learning"
* confidence and variability: Swayamdipta et al. 2020, "Dataset Cartography"
* area under the margin: Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under the Margin Ranking"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.hub.columns import Array

_STATE: dict[str, tuple[str, Any]] = {
    "count": ("i4", 0), "epochs": ("i4", 0), "epoch": ("i4", 0), "backward": ("i8", 0),
    "loss_number": ("i4", 0), "loss_mean": ("f8", 0), "loss_squares": ("f8", 0),
    "loss_last": ("f4", 0), "loss_min": ("f4", np.inf), "loss_max": ("f4", -np.inf),
    "confidence_number": ("i4", 0), "confidence_mean": ("f8", 0), "confidence_squares": ("f8", 0),
    "margin_number": ("i4", 0), "margin_mean": ("f8", 0), "margin_squares": ("f8", 0),
    "correct": ("i1", -1), "forgetting": ("i4", 0), "learned": ("i4", -1),
}  # fmt: skip
"""What is kept of each sample: dtype, and the value before its first presentation.

``_squares`` are sums of squared differences from the mean, ``epoch`` and ``backward`` those of the newest presentation,
``correct`` whether the model was right at the newest one that tells (-1: none did).
"""

ORDERS = {
    "loss_mean": -1, "loss_variance": -1, "loss_last": -1, "loss_max": -1, "forgetting": -1, "confidence": 1,
    "variability": -1, "margin": 1,
}  # fmt: skip
"""By what samples can be ordered, worst first: -1 where a high value is bad, 1 where a low one is.

By ``forgetting``, those come first that were never learned. Equal ones are ordered by mean loss; a sample of which the
value is not known comes last, one whose newest loss is not finite first of ``loss_last``.
"""


class Presentations(NamedTuple):
    """Rows of one run and phase, in any order but that of equal backward and rank: columns of one length."""

    sample: Array
    """int64: any number that stands for the sample."""
    epoch: Array
    """int32"""
    backward: Array
    """int64"""
    rank: Array
    """int16"""
    loss: Array
    """float32; what is not finite counts as a presentation and as the last loss, and in no other measure."""
    confidence: Array
    """float32: the probability of the target's class; NaN says nothing."""
    margin: Array
    """float32: the logit of the target's class minus the highest other one: above 0, the model is right; or NaN."""


class Dynamics:
    """The samples of one run and phase."""

    def __init__(self) -> None:
        self.samples: Array = np.empty(0, np.int64)
        """Their numbers, ascending."""
        self._places: Array = np.empty(0, np.int64)
        """Where each of them is in the state: in the order of arrival, so that nothing moves when one is new."""
        self._state: dict[str, Array] = {name: np.empty(0, dtype) for name, (dtype, _) in _STATE.items()}

    def columns(self) -> dict[str, Array]:
        """All that is known, to be handed to :meth:`of`."""
        return {"sample": self.samples, **{name: column[self._places] for name, column in self._state.items()}}

    @classmethod
    def of(cls, columns: dict[str, Array]) -> Dynamics:
        """From what :meth:`columns` gave; ValueError if it is something else."""
        made = cls()
        made.samples = columns["sample"]
        made._state = {name: columns[name] for name in _STATE}
        made._places = np.arange(len(made.samples))
        wanted = {"sample": "i8", **{name: dtype for name, (dtype, _) in _STATE.items()}}
        if columns.keys() != wanted.keys() or any(
            column.dtype != wanted[name] or column.shape != made.samples.shape for name, column in columns.items()
        ):
            raise ValueError("these are not the columns of dynamics")
        return made

    def add(self, rows: Presentations) -> Array:
        """Take these presentations in.

        Returns the samples of which some came too late: after one that follows it in training. What is known of those
        is wrong from here on; :meth:`forget` them and add all of their rows at once.
        """
        if not len(rows.sample):
            return np.empty(0, np.int64)
        rows = _by_sample(rows)
        starts = np.flatnonzero(np.concatenate(([True], rows.sample[1:] != rows.sample[:-1])))
        counts = np.diff(starts, append=len(rows.sample))
        samples = rows.sample[starts]
        places = self._places_of(samples)
        known = {name: column[places] for name, column in self._state.items()}
        late = samples[(known["count"] > 0) & (rows.backward[starts] <= known["backward"])]
        newest = starts + counts - 1
        _count_epochs(known, rows.epoch, starts)
        known["count"] += counts.astype(np.int32)
        known["epoch"], known["backward"] = rows.epoch[newest], rows.backward[newest]
        known["loss_last"] = rows.loss[newest]
        finite = np.isfinite(rows.loss)
        for name, reduce, nothing in (("loss_min", np.minimum, np.inf), ("loss_max", np.maximum, -np.inf)):
            values = rows.loss if finite.all() else np.where(finite, rows.loss, np.float32(nothing))
            known[name] = reduce(known[name], reduce.reduceat(values, starts))
        for name in ("loss", "confidence", "margin"):
            _merge(known, name, getattr(rows, name), starts, counts)
        _judge(known, rows, starts)
        for name, column in self._state.items():
            column[places] = known[name]
        return late

    def forget(self, samples: Array) -> None:
        """Begin anew with these samples."""
        places = self._places_of(samples)
        for name, (_, first) in _STATE.items():
            self._state[name][places] = first

    def counts(self, samples: Array) -> Array:
        """How many presentations of each of these there were."""
        return self._state["count"][self._places_of(samples)]

    def _places_of(self, samples: Array) -> Array:
        """Where these (ascending) are in the state; new ones get a place."""
        at = self._search(samples)
        new = np.ones(len(samples), bool)
        inside = at < len(self.samples)
        new[inside] = self.samples[at[inside]] != samples[inside]
        if new.any():
            self._make_room(samples[new], at[new])
            at = self._search(samples)
        return self._places[at]

    def _search(self, samples: Array) -> Array:
        """Where they are, or belong, among those known."""
        known = self.samples
        if len(known) and known[-1] - known[0] == len(known) - 1:  # none is missing between the first and the last
            return np.clip(samples - known[0], 0, len(known))
        return np.searchsorted(known, samples)

    def _make_room(self, new: Array, at: Array) -> None:
        used = len(self.samples)
        self._places = np.insert(self._places, at, np.arange(used, used + len(new)))
        self.samples = np.insert(self.samples, at, new)
        if used + len(new) > len(self._state["count"]):
            room = max(used + len(new), used * 3 // 2) - len(self._state["count"])
            self._state = {name: np.concatenate([self._state[name], np.full(room, first, dtype)])
                           for name, (dtype, first) in _STATE.items()}  # fmt: skip

    def table(self, order: str, limit: int | None = None) -> dict[str, Array]:
        """The samples, worst first; NaN (of integers: -1) where something is not known.

        Columns ``sample count epochs loss_mean loss_variance loss_last loss_min loss_max forgetting learned confidence
        variability margin``. Variances and deviations are those of the population: divided by the number.
        """
        chosen = _worst(_Part(self._state, self._places), order, limit)
        part = _Part(self._state, self._places[chosen])
        return {"sample": self.samples[chosen], **{name: measure(part) for name, measure in _MEASURES.items()}}


class _Part(dict[str, Any]):
    """The state of samples at these places; a column is gathered when it is needed: most are not, to find the worst."""

    def __init__(self, state: dict[str, Array], places: Array) -> None:
        super().__init__()
        self._whole, self._places = state, places

    def __missing__(self, name: str) -> Array:
        self[name] = self._whole[name][self._places]
        return self[name]


def _by_sample(rows: Presentations) -> Presentations:
    """Sorted by sample, and each sample's in the order of training."""
    later = np.diff(rows.backward)
    if not ((later > 0) | ((later == 0) & (np.diff(rows.rank) >= 0))).all():
        order = np.lexsort((rows.rank, rows.backward))
        rows = Presentations(*(column[order] for column in rows))
    count, least = len(rows.sample), int(rows.sample.min())
    bits = count.bit_length()
    if (int(rows.sample.max()) - least).bit_length() + bits < 63:
        # Number and place in one integer: sorted so, a million take 18 ms; by a stable argsort, 150.
        packed = ((rows.sample - least) << bits) | np.arange(count)
        packed.sort()
        order = packed & ((1 << bits) - 1)
    else:
        order = np.argsort(rows.sample, kind="stable")
    return Presentations(*(column[order] for column in rows))


def _count_epochs(known: dict[str, Array], epoch: Array, starts: Array) -> None:
    """An epoch more wherever its number is another one than at the sample's presentation before."""
    begins = np.empty(len(epoch), np.int32)
    begins[1:] = epoch[1:] != epoch[:-1]
    begins[starts] = (known["count"] == 0) | (epoch[starts] != known["epoch"])
    known["epochs"] += np.add.reduceat(begins, starts)


def _merge(known: dict[str, Array], name: str, values: Array, starts: Array, counts: Array) -> None:
    """Number, mean and squared differences of each group's finite values, merged into those known."""
    finite = np.isfinite(values)
    if not finite.any():
        return
    number, value = counts, values.astype(np.float64)
    if not finite.all():
        number = np.add.reduceat(finite.astype(np.int64), starts)
        value[~finite] = 0.0
    mean = np.add.reduceat(value, starts) / np.maximum(number, 1)
    value -= np.repeat(mean, counts)
    if number is not counts:
        value[~finite] = 0.0
    squares = np.add.reduceat(np.square(value, out=value), starts)
    before = known[name + "_number"]
    after = before + number
    part = number / np.maximum(after, 1)
    apart = mean - known[name + "_mean"]
    known[name + "_squares"] += squares + np.square(apart) * before * part
    known[name + "_mean"] += apart * part
    known[name + "_number"] = after


def _judge(known: dict[str, Array], rows: Presentations, starts: Array) -> None:
    """Forgetting events: right at one presentation, wrong at the next that tells; and the epoch first right."""
    telling = np.flatnonzero(~np.isnan(rows.margin))
    if not len(telling):
        return
    correct = (rows.margin[telling] > 0).astype(np.int8)
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(rows.margin)))[telling]
    first = np.flatnonzero(np.concatenate(([True], group[1:] != group[:-1])))
    groups = group[first]
    before = np.empty_like(correct)
    before[1:] = correct[:-1]
    before[first] = known["correct"][groups]
    forgotten = (before == 1) & (correct == 0)
    known["forgetting"][groups] += np.add.reduceat(forgotten.astype(np.int32), first)
    known["correct"][groups] = correct[np.append(first[1:], len(correct)) - 1]
    right = np.flatnonzero(correct)[::-1]  # backwards: of several, the first is written last
    learned = np.full(len(starts), -1, np.int32)
    learned[group[right]] = rows.epoch[telling[right]]
    known["learned"] = np.where(known["learned"] < 0, learned, known["learned"])


def _mean(state: _Part, name: str) -> Array:
    return np.where(state[name + "_number"] > 0, state[name + "_mean"], np.nan)


def _variance(state: _Part, name: str) -> Array:
    return state[name + "_squares"] / np.where(state[name + "_number"] > 0, state[name + "_number"], np.nan)


def _finite(state: _Part, name: str) -> Array:
    return np.where(state["loss_number"] > 0, state[name], np.nan)


_MEASURES: dict[str, Callable[[_Part], Array]] = {
    "count": lambda state: state["count"], "epochs": lambda state: state["epochs"],
    "loss_mean": lambda state: _mean(state, "loss"), "loss_variance": lambda state: _variance(state, "loss"),
    "loss_last": lambda state: state["loss_last"], "loss_min": lambda state: _finite(state, "loss_min"),
    "loss_max": lambda state: _finite(state, "loss_max"),
    "forgetting": lambda state: np.where(state["correct"] >= 0, state["forgetting"], -1),
    "learned": lambda state: state["learned"], "confidence": lambda state: _mean(state, "confidence"),
    "variability": lambda state: np.sqrt(_variance(state, "confidence")),
    "margin": lambda state: _mean(state, "margin"),
}  # fmt: skip
"""NaN (of integers: -1) where something is not known."""


def _worst(state: _Part, order: str, limit: int | None) -> Array:
    """The numbers of the rows in that order."""
    measure = _MEASURES[order](state)
    value = ORDERS[order] * measure.astype(np.float64)
    if order == "forgetting":
        value = np.where(measure < 0, np.inf, np.where(state["learned"] < 0, -np.inf, value))
    elif order == "loss_last":
        value = np.where(np.isfinite(value), value, -np.inf)
    value = np.where(np.isnan(value), np.inf, value)
    chosen = np.arange(len(value))
    if limit is not None and limit < len(value):
        chosen = np.flatnonzero(value <= np.partition(value, limit)[limit])  # a little more, where some are equal
    loss = _mean(state, "loss")[chosen]
    return chosen[np.lexsort((-loss, value[chosen]))][:limit]
