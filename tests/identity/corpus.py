"""Collate functions as people write them: those that keep the order of their items, and those that do not.

``right`` ones must be proven, ``wrong`` ones must be doubted, ``plain`` ones may be either (they keep the order in a
way that is not followed). The items are ``(x, y)`` (a vector of any length, a number), or by name dictionaries, or
vectors of one length.
"""

from __future__ import annotations

import functools
import random
from collections import defaultdict
from typing import Any, Callable

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import default_collate

RIGHT: list[tuple[str, Any]] = []
WRONG: list[tuple[str, Any]] = []
PLAIN: list[tuple[str, Any]] = []

Collate = Callable[[list[Any]], Any]


def right(items: str = "pairs") -> Callable[[Any], Any]:
    return lambda function: RIGHT.append((items, function)) or function


def wrong(items: str = "pairs") -> Callable[[Any], Any]:
    return lambda function: WRONG.append((items, function)) or function


def plain(items: str = "pairs") -> Callable[[Any], Any]:
    return lambda function: PLAIN.append((items, function)) or function


PAD = 0
MAX_LEN = 16
TRAINING = True
STORE: list[Any] = []


# Those that keep the order.


@right()
def zipped(batch: list[Any]) -> Any:
    xs, ys = zip(*batch)
    return pad_sequence(xs, batch_first=True, padding_value=PAD), torch.tensor(ys)  # type: ignore[arg-type]


@right()
def comprehended(batch: list[Any]) -> Any:
    data = [item[0] for item in batch]
    target = [item[1] for item in batch]
    return pad_sequence(data, True), torch.LongTensor(target)


@right()
def appended(batch: list[Any]) -> Any:
    xs, ys, lengths = [], [], []
    for x, y in batch:
        xs.append(x)
        ys.append(y)
        lengths.append(len(x))
    return {"x": pad_sequence(xs, batch_first=True), "y": torch.tensor(ys), "lengths": torch.tensor(lengths)}


@right()
def filled_by_rows(batch: list[Any]) -> Any:
    lengths = [len(x) for x, _ in batch]
    longest = max(lengths)
    padded = torch.zeros(len(batch), longest)
    mask = torch.zeros((len(batch), longest), dtype=torch.bool)
    for i, (x, _) in enumerate(batch):
        end = lengths[i]
        padded[i, :end] = x[:end]
        mask[i, :end] = True
    return padded, mask, torch.tensor([y for _, y in batch])


@right()
def padded_one_by_one(batch: list[Any]) -> Any:
    longest = max(x.size(0) for x, _ in batch)
    xs = [F.pad(x, (0, longest - x.size(0)), value=PAD) for x, _ in batch]
    ys = [torch.as_tensor(y) for _, y in batch]
    return torch.stack(xs), torch.stack(ys).long()


@right("dicts")
def by_key(batch: list[Any]) -> Any:
    return {key: torch.tensor([sample[key] for sample in batch]) for key in ("label", "score")}


@right("dicts")
def keys_of_the_first(batch: list[Any]) -> Any:
    first = batch[0]
    out = {}
    for key in first:
        if key in ("ids", "text"):
            continue
        out[key] = torch.tensor([sample[key] for sample in batch])
    return out


@right("dicts")
def texts_beside(batch: list[Any]) -> Any:
    return {"text": [b["text"] for b in batch], "label": torch.tensor([b["label"] for b in batch])}


@right("dicts")
def padded_lists(batch: list[Any]) -> Any:
    length = max([len(b["ids"]) for b in batch])
    ids = [b["ids"] + [PAD] * (length - len(b["ids"])) for b in batch]
    mask = [[1] * len(b["ids"]) + [0] * (length - len(b["ids"])) for b in batch]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask),
            "labels": torch.tensor([b["label"] for b in batch], dtype=torch.long)}  # fmt: skip


@right("vectors")
def stacked(batch: list[Any]) -> Any:
    return torch.stack(batch)


right("vectors")(lambda batch: torch.stack(batch, dim=0))
right("pairs of one length")(lambda batch: tuple(torch.stack([torch.as_tensor(v) for v in t]) for t in zip(*batch)))


@right("pairs of one length")
def list_of_fields(batch: list[Any]) -> Any:
    transposed = list(zip(*batch))
    return [torch.stack(transposed[0]), torch.tensor(transposed[1])]


@right("pairs of one length")
def the_default_one(batch: list[Any]) -> Any:
    return default_collate(batch)


@right("pairs of one length")
def the_default_one_and_more(batch: list[Any]) -> Any:
    images, labels = default_collate(batch)
    return {"pixel_values": images, "labels": labels}


@right("pairs of one length")
def through_numpy(batch: list[Any]) -> Any:
    x = np.stack([np.asarray(x) for x, _ in batch])
    y = np.array([y for _, y in batch], dtype=np.int64)
    return torch.from_numpy(x), torch.from_numpy(y)


@right("pairs of one length")
def unsqueezed_and_joined(batch: list[Any]) -> Any:
    return torch.cat([x.unsqueeze(0) for x, _ in batch], dim=0), torch.tensor([[y] for _, y in batch]).squeeze(1)


@right("dicts")
def ignored_padding(batch: list[Any]) -> Any:
    length = max(len(b["ids"]) for b in batch)
    input_ids = torch.full((len(batch), length), PAD, dtype=torch.long)
    for i, b in enumerate(batch):
        input_ids[i, : len(b["ids"])] = torch.tensor(b["ids"])
    labels = input_ids.clone()
    labels[labels == PAD] = -100
    return {"input_ids": input_ids, "labels": labels, "attention_mask": (input_ids != PAD).long()}


@right()
def cut(batch: list[Any]) -> Any:
    xs, ys = [], []
    for x, y in batch:
        if len(x) > 4:
            x = x[:4]
        else:
            x = F.pad(x, (0, 4 - len(x)))
        xs.append(x)
        ys.append(y)
    return torch.stack(xs), torch.tensor(ys)


@right()
def random_crop(batch: list[Any]) -> Any:
    out = []
    for x, _ in batch:
        start = random.randint(0, len(x) - 2)
        out.append(x[start : start + 2])
    return torch.stack(out), torch.tensor([y for _, y in batch])


@right("pairs of one length")
def noise(batch: list[Any]) -> Any:
    xs = [x + torch.randn_like(x) * 1e-6 for x, _ in batch]
    return torch.stack(xs), torch.tensor([y for _, y in batch])


@right()
def with_lengths_by_place(batch: list[Any]) -> Any:
    ys = torch.zeros(len(batch), dtype=torch.long)
    for i in range(len(batch)):
        ys[i] = batch[i][1]
    return pad_sequence([batch[i][0] for i in range(len(batch))], batch_first=True), ys


@right()
def by_a_helper(batch: list[Any]) -> Any:
    return pad_all([x for x, _ in batch]), torch.tensor([y for _, y in batch])


def pad_all(sequences: list[Any], value: float = 0.0) -> Any:
    """Another function of the script's."""
    return pad_sequence(sequences, batch_first=True, padding_value=value)


@right()
def by_a_nested_function(batch: list[Any]) -> Any:
    length = max(len(x) for x, _ in batch)

    def pad(x: Any) -> Any:
        return torch.cat([x, torch.zeros(length - len(x))])

    return torch.stack([pad(x) for x, _ in batch]), torch.tensor([y for _, y in batch])


@right()
def mapped(batch: list[Any]) -> Any:
    xs, ys = map(list, zip(*batch))
    return pad_sequence(xs, batch_first=True), torch.tensor(ys)


@right("pairs of one length")
def two_branches(batch: list[Any]) -> Any:
    if isinstance(batch[0][0], torch.Tensor):
        x = torch.stack([b[0] for b in batch])
    else:
        x = torch.tensor([b[0] for b in batch])
    return x, torch.tensor([b[1] for b in batch])


@right()
def optional_key(batch: list[Any]) -> Any:
    out = {"x": pad_sequence([x for x, _ in batch], batch_first=True)}
    if TRAINING:
        out["y"] = torch.tensor([y for _, y in batch])
    return out


@right("dicts")
def lists_in_a_dictionary(batch: list[Any]) -> Any:
    out = {"label": [], "score": []}
    for b in batch:
        out["label"].append(b["label"])
        out["score"].append(b["score"])
    return {k: torch.tensor(v) for k, v in out.items()}


class Padding:
    """An object that is called."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, batch: list[Any]) -> Any:
        xs, ys = self.split(batch)
        return pad_sequence(xs, batch_first=True, padding_value=self.value), torch.tensor(ys)

    def split(self, batch: list[Any]) -> Any:
        return [x for x, _ in batch], [y for _, y in batch]

    def method(self, samples: list[Any]) -> Any:
        return self(samples)


def with_arguments(value: float, batch: list[Any], *, key: int = 1) -> Any:
    return pad_sequence([b[0] for b in batch], batch_first=True, padding_value=value), torch.tensor(
        [b[key] for b in batch]
    )


right()(Padding(0.0))
right()(Padding(0.0).method)
right()(functools.partial(with_arguments, 0.0, key=1))


def made(pad: float) -> Collate:
    def collate(batch: list[Any]) -> Any:
        return pad_sequence([b[0] for b in batch], batch_first=True, padding_value=pad), torch.tensor(
            [b[1] for b in batch]
        )

    return collate


right()(made(0.0))


@right()
def only_ever_asserted(batch: list[Any]) -> Any:
    assert len(batch) > 0
    if not batch:
        raise ValueError("empty")
    return torch.tensor([y for _, y in batch])


@right("pairs of one length")
def shifted_tokens(batch: list[Any]) -> Any:
    ids = torch.stack([x for x, _ in batch]).long()
    return {"input": ids[:, :-1], "target": ids[:, 1:], "first": ids[:, 0], "y": torch.tensor([y for _, y in batch])}


@right("pairs of one length")
def several_views(batch: list[Any]) -> Any:
    """N views as a list of batches: each is in order."""
    views = []
    for shift in (0.0, 0.25):
        views.append(torch.stack([x + shift for x, _ in batch]))  # noqa: PERF401
    return views, torch.tensor([y for _, y in batch])


@right("dicts")
def none_if_empty(batch: list[Any]) -> Any:
    if len(batch) == 0:
        return None
    labels = torch.tensor([b["label"] for b in batch]).float().unsqueeze(1)
    return {"labels": labels, "n": len(batch)}


@right()
def one_hot(batch: list[Any]) -> Any:
    labels = torch.tensor([int(y) for _, y in batch])
    return F.one_hot(labels % 7, 7).float(), labels


@right()
def last_one_dropped_of_features(batch: list[Any]) -> Any:
    return torch.stack([x[:2] for x, _ in batch])[:, :-1], torch.tensor([y for _, y in batch])


@right()
def logged(batch: list[Any]) -> Any:
    x = pad_sequence([x for x, _ in batch], batch_first=True)
    print(end="")
    count = x.shape[0]
    return x.view(count, -1), torch.tensor([y for _, y in batch])


# Those that do not.


@wrong()
def sorted_by_length(batch: list[Any]) -> Any:
    batch = sorted(batch, key=lambda b: len(b[0]), reverse=True)
    xs, ys = zip(*batch)
    return pad_sequence(xs, batch_first=True), torch.tensor(ys)  # type: ignore[arg-type]


@wrong()
def sorted_in_place(batch: list[Any]) -> Any:
    batch.sort(key=lambda b: -len(b[0]))
    return pad_sequence([b[0] for b in batch], batch_first=True), torch.tensor([b[1] for b in batch])


@wrong()
def reversed_by_slice(batch: list[Any]) -> Any:
    return torch.tensor([y for _, y in batch[::-1]])


@wrong()
def reversed_by_function(batch: list[Any]) -> Any:
    return torch.tensor([y for _, y in reversed(batch)])


@wrong()
def reversed_in_place(batch: list[Any]) -> Any:
    ys = [y for _, y in batch]
    ys.reverse()
    return torch.tensor(ys)


@wrong()
def shuffled(batch: list[Any]) -> Any:
    random.shuffle(batch)
    return torch.tensor([y for _, y in batch])


@wrong()
def sampled(batch: list[Any]) -> Any:
    return torch.tensor([y for _, y in random.sample(batch, len(batch))])


@wrong()
def inserted_at_the_head(batch: list[Any]) -> Any:
    ys: list[Any] = []
    for _, y in batch:
        ys.insert(0, y)
    return torch.tensor(ys)


@wrong()
def filtered(batch: list[Any]) -> Any:
    batch = [b for b in batch if b is not None]
    return torch.tensor([y for _, y in batch])


@wrong()
def filtered_by_function(batch: list[Any]) -> Any:
    return torch.tensor([y for _, y in filter(lambda b: b is not None, batch)])


@wrong()
def filtered_by_continue(batch: list[Any]) -> Any:
    ys = []
    for _, y in batch:
        if y % 2:
            continue
        ys.append(y)
    return torch.tensor(ys)


@wrong()
def filtered_by_if(batch: list[Any]) -> Any:
    ys = []
    for x, y in batch:
        if len(x) > 3:
            ys.append(y)
    return torch.tensor(ys)


@wrong()
def two_heaps(batch: list[Any]) -> Any:
    small, large = [], []
    for x, y in batch:
        if len(x) > 4:
            large.append(y)
        else:
            small.append(y)
    return torch.tensor(small + large)


@wrong("pairs of one length")
def mixup(batch: list[Any]) -> Any:
    x, y = default_collate(batch)
    order = torch.randperm(len(batch))
    return x * 0.7 + x[order] * 0.3, y, y[order]


@wrong("pairs of one length")
def mixup_with_the_next(batch: list[Any]) -> Any:
    xs = [(a[0] + b[0]) / 2 for a, b in zip(batch, batch[1:] + batch[:1])]
    return torch.stack(xs), torch.tensor([y for _, y in batch])


@wrong("pairs of one length")
def rolled(batch: list[Any]) -> Any:
    x, y = default_collate(batch)
    return x, y.roll(1, 0)


@wrong("pairs of one length")
def flipped(batch: list[Any]) -> Any:
    return torch.flip(torch.stack([x for x, _ in batch]), [0])


@wrong("pairs of one length")
def views_below_each_other(batch: list[Any]) -> Any:
    xs = torch.stack([x for x, _ in batch])
    return torch.cat([xs, xs + 0.1]), torch.tensor([y for _, y in batch]).repeat(2)


@wrong("pairs of one length")
def views_interleaved(batch: list[Any]) -> Any:
    xs, ys = [], []
    for x, y in batch:
        for shift in (0.0, 0.1):
            xs.append(x + shift)
            ys.append(y)
    return torch.stack(xs)[: len(batch)], torch.tensor(ys)[: len(batch)]


@wrong()
def appended_twice(batch: list[Any]) -> Any:
    ys = []
    for x, y in batch:
        ys.append(y)
        ys.append(len(x))
    return torch.tensor(ys[: len(batch)])


@wrong()
def flattened(batch: list[Any]) -> Any:
    return torch.tensor([float(v) for x, _ in batch for v in x][: len(batch)])


@wrong()
def joined_vectors(batch: list[Any]) -> Any:
    return torch.cat([x for x, _ in batch])[: len(batch)]


@wrong()
def joined_raw(batch: list[Any]) -> Any:
    return torch.cat([x for x, _ in batch])


@wrong()
def time_first(batch: list[Any]) -> Any:
    return pad_sequence([x for x, _ in batch])


@wrong("pairs of one length")
def stacked_along_another(batch: list[Any]) -> Any:
    return torch.stack([x for x, _ in batch], dim=1)


@wrong("pairs of one length")
def transposed(batch: list[Any]) -> Any:
    return torch.stack([x for x, _ in batch]).t()


@wrong("pairs of one length")
def transposed_by_attribute(batch: list[Any]) -> Any:
    return torch.stack([x for x, _ in batch]).T


@wrong("pairs of one length")
def permuted(batch: list[Any]) -> Any:
    return torch.stack([x for x, _ in batch]).permute(1, 0)


@wrong()
def the_one_before(batch: list[Any]) -> Any:
    out, before = [], 0
    for _, y in batch:
        out.append(before)
        before = y
    return torch.tensor(out)


@wrong()
def the_one_before_in_a_pair(batch: list[Any]) -> Any:
    pairs, before = [], 0
    for _, y in batch:
        pairs.append((y, before))
        before = y
    return torch.tensor([p[1] for p in pairs])


@wrong()
def the_one_before_in_an_attribute(batch: list[Any]) -> Any:
    out = []
    for _, y in batch:
        out.append(getattr(the_one_before_in_an_attribute, "before", 0))
        the_one_before_in_an_attribute.before = y  # type: ignore[attr-defined]
    return torch.tensor(out)


@wrong()
def the_one_before_in_a_global(batch: list[Any]) -> Any:
    out = []
    STORE.clear()
    STORE.append(0)
    for _, y in batch:
        out.append(STORE[-1])
        STORE.append(y)
    return torch.tensor(out)


@wrong()
def the_one_before_in_a_dictionary(batch: list[Any]) -> Any:
    kept = {"y": 0}
    out = []
    for _, y in batch:
        out.append(kept["y"])
        kept["y"] = y
    return torch.tensor(out)


@wrong()
def running_total(batch: list[Any]) -> Any:
    out, total = [], 0
    for _, y in batch:
        total += y
        out.append(total)
    return torch.tensor(out)


@wrong()
def written_from_the_end(batch: list[Any]) -> Any:
    ys = torch.zeros(len(batch))
    for i, (_, y) in enumerate(batch):
        ys[len(batch) - 1 - i] = y
    return ys


@wrong()
def written_from_the_end_by_minus(batch: list[Any]) -> Any:
    ys = torch.zeros(len(batch))
    for i, (_, y) in enumerate(batch):
        ys[-i] = y
    return ys


@wrong()
def written_in_drawn_order(batch: list[Any]) -> Any:
    ys = torch.zeros(len(batch))
    for i, j in enumerate(torch.randperm(len(batch)).tolist()):
        ys[i] = batch[j][1]
    return ys


@wrong()
def read_in_drawn_order(batch: list[Any]) -> Any:
    order = np.argsort([len(x) for x, _ in batch])
    return torch.tensor([batch[i][1] for i in order])


@wrong()
def counted_from_one(batch: list[Any]) -> Any:
    ys = torch.zeros(len(batch) + 1)
    for i, (_, y) in enumerate(batch, 1):
        ys[i] = y
    return ys[: len(batch)]


@wrong()
def swapped(batch: list[Any]) -> Any:
    batch[0], batch[1] = batch[1], batch[0]
    return torch.tensor([y for _, y in batch])


@wrong("dicts")
def swapped_fields(batch: list[Any]) -> Any:
    batch[0]["label"], batch[1]["label"] = batch[1]["label"], batch[0]["label"]
    return torch.tensor([b["label"] for b in batch])


@wrong("pairs of one length")
def written_into_the_first(batch: list[Any]) -> Any:
    batch[0][0].copy_(batch[1][0])
    return torch.stack([x for x, _ in batch])


@wrong()
def one_iterator_twice(batch: list[Any]) -> Any:
    ys = (y for _, y in batch)
    return torch.tensor([a for a, _ in zip(ys, ys)])


@wrong()
def without_the_first(batch: list[Any]) -> Any:
    rest = iter(batch)
    next(rest)
    return torch.tensor([y for _, y in rest])


@wrong()
def without_the_last(batch: list[Any]) -> Any:
    batch.pop()
    return torch.tensor([y for _, y in batch])


@wrong()
def by_a_helper_that_sorts(batch: list[Any]) -> Any:
    return pad_all(longest_first([x for x, _ in batch]))


def longest_first(sequences: list[Any]) -> Any:
    """Another function of the script's."""
    return sorted(sequences, key=len, reverse=True)


@wrong()
def as_a_set(batch: list[Any]) -> Any:
    return torch.tensor(list({y for _, y in batch}))


@wrong()
def by_name(batch: list[Any]) -> Any:
    found = {len(x): y for x, y in batch}
    return torch.tensor([found[k] for k in sorted(found)])


@wrong()
def grouped(batch: list[Any]) -> Any:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for x, y in batch:
        groups[len(x) % 2].append(y)
    return torch.tensor([y for group in groups.values() for y in group])


@wrong("pairs of one length")
def sorted_tensor(batch: list[Any]) -> Any:
    return torch.tensor([y for _, y in batch]).sort().values


@wrong("pairs of one length")
def indexed_tensor(batch: list[Any]) -> Any:
    y = torch.tensor([y for _, y in batch])
    return y[torch.argsort(y)]


@wrong("pairs of one length")
def centred(batch: list[Any]) -> Any:
    x = torch.stack([x for x, _ in batch])
    return x - x.mean(0)


@wrong("pairs of one length")
def cumulative(batch: list[Any]) -> Any:
    return torch.tensor([y for _, y in batch]).cumsum(0)


@wrong("pairs of one length")
def outer(batch: list[Any]) -> Any:
    y = torch.tensor([float(y) for _, y in batch])
    return y * y.unsqueeze(1)


@wrong()
def largest_for_all(batch: list[Any]) -> Any:
    longest = max(batch, key=lambda b: len(b[0]))
    return torch.tensor([longest[1] for _ in batch])


@wrong()
def by_a_while(batch: list[Any]) -> Any:
    ys = []
    while batch:
        ys.append(batch.pop()[1])
    return torch.tensor(ys)


@wrong()
def late_binding(batch: list[Any]) -> Any:
    values = [y for _, y in batch]
    lazily = (values[i] for i in range(len(batch)))
    values = values[::-1]
    return torch.tensor(list(lazily))


@wrong()
def aliased(batch: list[Any]) -> Any:
    ys: list[Any] = []
    same = ys
    for _, y in batch:
        same.append(y)
    ys.reverse()
    return torch.tensor(ys)


@wrong("pairs of one length")
def unpacked_tensor(batch: list[Any]) -> Any:
    """The rows of a tensor, taken for its fields."""
    return default_collate([x for x, _ in batch])[0]


@wrong()
def by_eval(batch: list[Any]) -> Any:
    return eval("torch.tensor([y for _, y in batch][::-1])")


@wrong()
def wrapped_default(batch: list[Any]) -> Any:
    return functools.reduce(lambda a, b: [b, *a], [y for _, y in batch], [])


@wrong()
def keeps_a_closure(batch: list[Any]) -> Any:
    readers = []
    for _, y in batch:
        readers.append(lambda: y)  # noqa: B023
    return torch.tensor([read() for read in readers])


@wrong()
def one_buffer(batch: list[Any]) -> Any:
    out, buffer = [], torch.zeros(())
    for _, y in batch:
        buffer.copy_(torch.tensor(y))
        out.append(buffer)
    return torch.stack(out)


@wrong()
def one_buffer_filled_elsewhere(batch: list[Any]) -> Any:
    out, buffer = [], [0]
    for _, y in batch:
        fill(buffer, y)
        out.append(buffer)
    return torch.tensor(out)


@wrong()
def one_buffer_by_keyword(batch: list[Any]) -> Any:
    out, buffer = [], torch.zeros(2)
    for x, _ in batch:
        torch.add(x[:2], 0, out=buffer)
        out.append(buffer)
    return torch.stack(out)


def fill(buffer: list[Any], value: Any) -> None:
    """Another function of the script's."""
    buffer[0] = value


class Remembering:
    """Gives each sample the label of the one before."""

    before = 0

    def __call__(self, batch: list[Any]) -> Any:
        out = []
        for _, y in batch:
            out.append(self.before)
            self.keep(y)
        return torch.tensor(out)

    def keep(self, y: int) -> None:
        self.before = y


wrong()(Remembering())


@functools.wraps(default_collate)
def _pretends(batch: list[Any]) -> Any:
    return default_collate([y for _, y in batch][::-1])


wrong()(_pretends)


# Those that keep it in a way that is not followed.


@plain()
def in_a_try(batch: list[Any]) -> Any:
    try:
        return torch.tensor([y for _, y in batch])
    except TypeError:
        return None


@plain("pairs of one length")
def rolled_and_back(batch: list[Any]) -> Any:
    return torch.stack([x for x, _ in batch]).roll(1, 0).roll(-1, 0)


@plain()
def raw_lists(batch: list[Any]) -> Any:
    return [x for x, _ in batch], [y for _, y in batch]
