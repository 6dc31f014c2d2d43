"""Loaders made anew for each epoch are one loader to the user: one name, and epochs that go on."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler, Subset, SubsetRandomSampler

from tests.identity.truth import Deliveries, Numbers, delivered
from tests.watching import watched


def seen(kept: Deliveries, loader: DataLoader[Any], most: int = 99) -> tuple[str, set[int]]:
    """The name and the epochs of the batches of one pass."""
    found = []
    for _, (_, y) in zip(range(most), loader):
        found.append(kept.see(y))
        assert found[-1].drawn == found[-1].truth
    return found[0].loader.name, {one.epoch for one in found}


def test_training_and_validation_in_each_epoch() -> None:
    train, valid = Numbers(10), Numbers(6)
    with delivered() as kept:
        for epoch in range(3):
            assert seen(kept, DataLoader(train, 4, shuffle=True)) == ("loader0", {epoch})
            assert seen(kept, DataLoader(valid, 4)) == ("loader1", {epoch})
        again = DataLoader(train, 4, shuffle=True)
        assert seen(kept, again) == ("loader0", {3})
        assert seen(kept, again) == ("loader0", {4})


def test_one_data_set_in_two_orders_or_sizes() -> None:
    data = Numbers(12)
    with delivered() as kept:
        for epoch in range(2):
            assert seen(kept, DataLoader(data, 4, shuffle=True)) == ("loader0", {epoch})
            assert seen(kept, DataLoader(data, 4)) == ("loader1", {epoch})
            assert seen(kept, DataLoader(data, 6)) == ("loader2", {epoch})


def test_two_that_are_there_at_once() -> None:
    data = Numbers(12)
    with delivered() as kept:
        first, second = DataLoader(data, 4), DataLoader(data, 4)
        assert [seen(kept, first)[0], seen(kept, second)[0], seen(kept, first)[0]] == ["loader0", "loader1", "loader0"]
    with delivered() as kept:  # gone themselves, but their iterators are under way
        one, other = iter(DataLoader(data, 4)), iter(DataLoader(data, 4))
        names = [kept.see(next(iterator)[1]).loader.name for iterator in (one, other, one, other)]
        assert names == ["loader0", "loader1", "loader0", "loader1"]


def test_samplers_of_the_scripts_are_told_apart() -> None:
    """Those of one kind, made anew, may be of other samples."""
    data, halves = Numbers(12), (range(6), range(6, 12))
    samplers = [SubsetRandomSampler(list(half)) for half in halves]
    with delivered() as kept:
        for epoch in range(2):
            for number, sampler in enumerate(samplers):
                assert seen(kept, DataLoader(data, 3, sampler=sampler)) == (f"loader{number}", {epoch})
        names = [seen(kept, DataLoader(data, 3, sampler=SubsetRandomSampler(list(half))))[0] for half in halves]
        assert names == ["loader2", "loader3"]
        ours = RandomSampler(data)
        names = [seen(kept, DataLoader(data, batch_sampler=[[1, 2], [3]]))[0] for _ in range(2)]
        assert names == ["loader4", "loader5"], "a list cannot be known again without being kept"
        assert [seen(kept, DataLoader(data, 3, sampler=ours)) for _ in range(2)] == [("loader6", {0}), ("loader6", {1})]


def test_subsets_made_anew_are_others() -> None:
    data = Numbers(12)
    with delivered() as kept:
        names = [seen(kept, DataLoader(Subset(data, places), 2))[0] for places in ([1, 2, 3], [4, 5, 6])]
    assert names == ["loader0", "loader1"]


def test_an_epoch_that_was_left_counts_if_it_was_trained_on() -> None:
    data, weight = Numbers(12), torch.zeros(2, 1, requires_grad=True)
    with watched() as kept:
        for _ in range(2):
            for number, (x, y) in enumerate(DataLoader(data, 4, shuffle=True)):
                F.mse_loss(x @ weight, y[:, None]).backward()
                if number == 1:
                    break
            for x, y in DataLoader(data, 4):
                F.mse_loss(x @ weight, y[:, None])
    assert [(row.epoch, row.identity) for row in kept.rows()] == [(0, "index")] * 2 + [(1, "index")] * 2


def test_nothing_of_the_scripts_is_kept_alive() -> None:
    with delivered() as kept:
        data = Numbers(4)
        inner, gone = Subset(data, [1, 0]), weakref.ref(data)
        seen(kept, DataLoader(inner, 2))
        del data, inner
        gc.collect()
        assert gone() is None
        assert seen(kept, DataLoader(Numbers(4), 2))[0] == "loader1"
