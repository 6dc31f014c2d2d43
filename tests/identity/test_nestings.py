"""The index of each row against the data: samplers, workers, and any nesting of data sets, drawn by chance."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    StackDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

from onthefly.capture.loaders import FETCHED
from tests.identity.truth import Delivery, Numbers, delivered, is_true

FULL = bool(os.environ.get("ONTHEFLY_FULL"))
ALONE, WITH_WORKERS = (500, 150) if FULL else (40, 6)


@st.composite
def data_sets(draw: Any) -> Dataset[Any]:
    """Subsets, splits and their like around a root whose samples are their own number in it."""
    root: Dataset[Any]
    kind = draw(st.sampled_from(["numbers", "joined", "tensors"]))
    if kind == "joined":
        sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
        root = ConcatDataset([Numbers(size, sum(sizes[:place])) for place, size in enumerate(sizes)])
        count = sum(sizes)
    else:
        count = draw(st.integers(2, 24))
        numbers = torch.arange(count).float()
        root = Numbers(count) if kind == "numbers" else TensorDataset(numbers[:, None].repeat(1, 2), numbers)
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()) or count < 2:
            places = draw(st.lists(st.integers(-count, count - 1), min_size=1, max_size=20))
            kept: Any = draw(st.sampled_from([list, tuple, torch.tensor]))(places)
            root, count = Subset(root, kept), len(places)
        else:
            cut = draw(st.integers(1, count - 1))
            which = draw(st.integers(0, 1))
            generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
            root = random_split(root, [cut, count - cut], generator)[which]
            count = (cut, count - cut)[which]
    return root


@st.composite
def options(draw: Any, data: Any) -> dict[str, Any]:
    """How a loader draws from a data set."""
    count, size = len(data), draw(st.integers(1, 7))
    kind = draw(st.sampled_from(["plain", "shuffled", "weighted", "distributed", "batches", "replaced"]))
    if kind == "batches":
        return {"batch_sampler": BatchSampler(RandomSampler(data), size, draw(st.booleans()))}
    found: dict[str, Any] = {"batch_size": size, "drop_last": draw(st.booleans())}
    if kind == "shuffled":
        found["shuffle"] = True
    elif kind == "weighted":
        found["sampler"] = WeightedRandomSampler([1.0 + place for place in range(count)], count + 3)
    elif kind == "distributed":
        found["sampler"] = DistributedSampler(data, 2, draw(st.integers(0, 1)), shuffle=draw(st.booleans()))
    elif kind == "replaced":
        found["sampler"] = RandomSampler(data, replacement=True, num_samples=2 * count)
    return found


def from_the_start(indices: list[Any], count: int) -> list[int]:
    """As records have them: those that count from the end come in their own number."""
    return [int(index) % count for index in indices]


def check(loader: Any, count: int, epochs: int = 2) -> None:
    with delivered() as deliveries:
        for _ in range(epochs):
            for _, y in loader:
                found = deliveries.see(y)
                assert not found.doubt
                assert from_the_start(found.drawn, count) == found.truth


def root_size(data: Any) -> int:
    while isinstance(data, Subset):
        data = data.dataset
    return len(data)


@seed(int(os.environ.get("ONTHEFLY_SEED", "0")))
@settings(max_examples=ALONE, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_nesting(drawn: Any) -> None:
    data = drawn.draw(data_sets())
    check(DataLoader(data, **drawn.draw(options(data))), root_size(data))


@seed(int(os.environ.get("ONTHEFLY_SEED", "0")))
@settings(max_examples=WITH_WORKERS, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_nesting_in_workers(drawn: Any) -> None:
    data = drawn.draw(data_sets())
    workers: dict[str, Any] = {
        "num_workers": drawn.draw(st.integers(1, 2)), "persistent_workers": drawn.draw(st.booleans()),
        "in_order": drawn.draw(st.booleans()), "prefetch_factor": drawn.draw(st.integers(1, 3)),
    }  # fmt: skip
    check(DataLoader(data, **drawn.draw(options(data)), **workers), root_size(data))


class Fetching(Numbers):
    """Fetches a batch at once, as torch's notes have it."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self.__getitem__(index) for index in indices]


class FetchingRows(Numbers):
    """Keeps all its data in tensors."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.y = torch.arange(count).float()

    def __getitems__(self, indices: list[int]) -> list[Any]:
        x = torch.stack([torch.full((2,), float(i)) for i in indices])
        return list(zip(x, self.y[indices]))


class FetchingSorted(Numbers):
    """Reads its file from front to back."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in sorted(indices)]


class Sliced(Dataset[Any]):
    """Is indexed with a list of indices."""

    def __init__(self, count: int) -> None:
        self.x, self.y = torch.arange(count).float()[:, None].repeat(1, 2), torch.arange(count).float()

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Any) -> Any:
        return self.x[index], self.y[index]


class SlicedSorted(Sliced):
    def __getitem__(self, index: Any) -> Any:
        order = sorted(index)
        return self.x[order], self.y[order]


def seen(loader: Any) -> list[Delivery]:
    with delivered() as deliveries:
        return [deliveries.see(y) for _, y in loader]


@pytest.mark.parametrize("kind", [Fetching, FetchingRows])
def test_batches_fetched_at_once(kind: type[Numbers]) -> None:
    assert is_true(seen(DataLoader(kind(17), 4, shuffle=True)))
    assert is_true(seen(DataLoader(Subset(kind(17), range(16, 3, -1)), 4, shuffle=True)))


def test_batches_fetched_in_another_order() -> None:
    for data in (FetchingSorted(17), Subset(FetchingSorted(17), range(17))):
        line = FetchingSorted.__getitems__.__code__.co_firstlineno + 1
        doubts = {d.doubt for d in seen(DataLoader(data, 4, shuffle=True))}
        assert doubts == {f"{FETCHED}: __getitems__ sorts its items (line {line})"}


@pytest.mark.parametrize("kind", ["sliced", "tensors", "subset"])
def test_a_sampler_of_lists(kind: str) -> None:
    data: Any = Sliced(17)
    if kind != "sliced":
        data = TensorDataset(data.x, data.y) if kind == "tensors" else Subset(data, range(16, 1, -1))
    sampler = BatchSampler(RandomSampler(data), 4, False)
    assert is_true(seen(DataLoader(data, batch_size=None, sampler=sampler)))
    assert is_true(seen(DataLoader(data, batch_size=None, sampler=sampler, collate_fn=lambda batch: batch)))


def test_a_sampler_of_lists_in_another_order() -> None:
    data = SlicedSorted(17)
    found = seen(DataLoader(data, batch_size=None, sampler=BatchSampler(RandomSampler(data), 4, False)))
    assert all("sorts" in d.doubt for d in found)


def test_columns_of_several_data_sets() -> None:
    y: Any = torch.arange(12).float()
    assert is_true(seen(DataLoader(StackDataset(y[:, None], y), 5, shuffle=True)))


def test_one_field_of_a_batch_that_is_a_tensor() -> None:
    """Two vectors are as a pair of fields to a function that unpacks them."""

    def collate(batch: list[Any]) -> Any:
        x, y = torch.utils.data.default_collate(batch)
        return x, y

    assert is_true(seen(DataLoader(Numbers(9), 4, collate_fn=collate)))
    assert all("unpacks" in d.doubt for d in seen(DataLoader(Numbers(8), 2, collate_fn=collate)))
