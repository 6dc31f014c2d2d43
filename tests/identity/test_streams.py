"""Samples of streams: places by worker, names that they carry, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import ChainDataset, DataLoader, IterableDataset

from onthefly.capture.streams import MAX_KEY, Keys, Places
from tests.identity.truth import Delivery, Stream, delivered, is_true


def places(loader: Any, epochs: int = 1) -> list[Delivery]:
    found: list[Delivery] = []
    with delivered() as deliveries:
        for _ in range(epochs):
            found += [deliveries.see(y) for _, y in loader]
    return found


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_places(workers: int, drop_last: bool) -> None:
    found = places(DataLoader(Stream(23), 4, num_workers=workers, drop_last=drop_last), epochs=2)
    assert is_true(found)
    assert all(type(d.drawn) is Places and d.drawn.identity == "stream" for d in found)


@pytest.mark.parametrize("options", [{"persistent_workers": True}, {"in_order": False}, {"prefetch_factor": 4}])
def test_workers_that_run_dry_at_different_times(options: Any) -> None:
    for uneven in (0, 7, 19):
        found = places(DataLoader(Stream(31, uneven=uneven), 3, num_workers=2, **options), epochs=2)
        assert is_true(found)
        assert len({d.epoch for d in found}) == 2


def test_one_worker_has_nothing() -> None:
    assert is_true(places(DataLoader(Stream(20, uneven=40), 3, num_workers=2)))


def test_a_chain_is_one_stream() -> None:
    class Shifted(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([(torch.zeros(2), torch.tensor(float(20 + i))) for i in range(5)])

    assert is_true(places(DataLoader(ChainDataset([Stream(20), Shifted()]), 4)))


def test_an_iterator_of_its_own_counts_from_the_beginning() -> None:
    loader = DataLoader(Stream(12), 4)
    with delivered() as deliveries:
        first, second = iter(loader), iter(loader)
        found = [deliveries.see(next(which)[1]) for which in (first, second, second, first)]
    assert is_true(found)


@pytest.mark.parametrize("name", ["__key__", "id", "uid"])
@pytest.mark.parametrize("workers", [0, 2])
def test_names(name: str, workers: int) -> None:
    with delivered() as deliveries:
        found = [deliveries.see(batch["y"]) for batch in DataLoader(Stream(10, named=name), 3, num_workers=workers)]
    assert all(type(d.drawn) is Keys and d.drawn.identity == "key" for d in found)
    assert [d.drawn for d in found] == [[f"sample {n}" for n in d.truth] for d in found]


class Named(IterableDataset[Any]):
    """Samples with any field."""

    def __init__(self, name: str, values: list[Any]) -> None:
        self.name, self.values = name, values

    def __iter__(self) -> Any:
        for number, value in enumerate(self.values):
            yield {"y": torch.tensor(float(number)), self.name: value}


@pytest.mark.parametrize(("values", "names"), [
    ([7, 9, 7], ["7", "9", "7"]),
    ([torch.tensor(3), torch.tensor(-1), torch.tensor(2)], ["3", "-1", "2"]),
    (["a", "", "a" * MAX_KEY], ["a", "", "a" * MAX_KEY]),
    (["a", "b", "a" * (MAX_KEY + 1)], [0, 1, 2]),
    ([0.5, 1.5, 2.5], [0, 1, 2]),
    ([[1, 2], [3, 4], [5, 6]], [0, 1, 2]),
    ([torch.tensor([1]), torch.tensor([2]), torch.tensor([3])], [0, 1, 2]),
])  # fmt: skip
def test_what_is_a_name(values: list[Any], names: list[Any]) -> None:
    with delivered() as deliveries:
        found = [deliveries.see(batch["y"]) for batch in DataLoader(Named("idx", values), 3)]
    assert [list(d.drawn) for d in found] == [names]


def test_a_name_wins_over_the_place_in_streams_only() -> None:
    class Map(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return {"id": f"no {index}", "y": torch.tensor(float(index))}

    with delivered() as deliveries:
        assert is_true([deliveries.see(batch["y"]) for batch in DataLoader(Map(), 2)])


def collate_with_names(batch: list[Any]) -> Any:
    return {"y": torch.stack([b["y"] for b in batch]), "__key__": [b["__key__"] for b in batch]}


def collate_disordered(batch: list[Any]) -> Any:
    return {"y": torch.stack([b["y"] for b in batch]), "__key__": sorted([b["__key__"] for b in batch], reverse=True)}


def test_names_through_a_collate_function() -> None:
    stream = Stream(10, named="__key__")
    with delivered() as deliveries:
        found = [deliveries.see(b["y"]) for b in DataLoader(stream, 4, collate_fn=collate_with_names)]
        assert [d.drawn for d in found] == [[f"sample {n}" for n in d.truth] for d in found]
        doubted = [deliveries.see(b["y"]) for b in DataLoader(stream, 4, collate_fn=collate_disordered)]
    assert all(d.drawn is None and "sorts" in d.doubt for d in doubted)


def test_batches_that_the_data_set_made() -> None:
    class Batches(IterableDataset[Any]):
        def __iter__(self) -> Any:
            for start in (0, 4):
                yield torch.zeros(4, 2), torch.arange(start, start + 4).float()

    found = places(DataLoader(Batches(), batch_size=None))
    assert all(d.drawn is None and "itself" in d.doubt for d in found)


class Breaking(Stream):
    """One sample cannot be read; the stream goes on after it."""

    def __iter__(self) -> Any:
        return _Breaking(super().__iter__())


class _Breaking:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        x, y = next(self.inner)
        if y == 9:
            raise OSError("a broken file")
        return x, y


@pytest.mark.parametrize("workers", [0, 2])
def test_after_an_error_places_are_not_known(workers: int) -> None:
    found, raised = [], 0
    with delivered() as deliveries:
        batches = iter(DataLoader(Breaking(40), 4, num_workers=workers))
        while True:
            try:
                _, y = next(batches)
            except StopIteration:
                break
            except OSError:
                raised += 1
                continue
            found.append((raised, deliveries.see(y)))
    assert raised == 1
    assert is_true([d for before, d in found if not before])
    assert [d.drawn for before, d in found if before] == [None] * sum(before for before, _ in found)


def test_tensors_that_do_not_agree() -> None:
    def collate(batch: list[Any]) -> Any:
        return torch.stack([x for x, _ in batch]).sum(1)[:3], torch.stack([y for _, y in batch])

    assert all(d.drawn is None for d in places(DataLoader(Stream(8), 4, collate_fn=collate)))
