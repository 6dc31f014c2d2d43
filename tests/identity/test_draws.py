"""Samples that a script draws itself have the index it drew them by, or none; brute force tells which is right."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.watching import Row

N, B = 40, 8
X = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N).float()[:, None]
"""A target tells its sample."""
LABELS = torch.randint(0, 4, (N,), generator=torch.Generator().manual_seed(1))
TABLES = torch.randn(10, 1), torch.randn(10, 1)

Pair = tuple[Tensor, Tensor]


def cut(keys: Callable[[Tensor], Any], x: Tensor = X, y: Tensor = Y) -> Callable[[Tensor], Pair]:
    def batch(places: Tensor) -> Pair:
        key = keys(places)
        return x.index_select(0, key), y.index_select(0, key)

    return batch


def _indexed(keys: Callable[[Tensor], Any]) -> Callable[[Tensor], Pair]:
    return lambda places: (X[keys(places)], Y[keys(places)])


def _selected(places: Tensor) -> Pair:
    return X.index_select(0, places), torch.index_select(Y, 0, places)


def _shuffled(places: Tensor) -> Pair:
    x, y = X.index_select(0, places), Y.index_select(0, places)
    return x[2:6], y[2:6]


def _composed(places: Tensor) -> Pair:
    train = torch.arange(N - 1, -1, -1)
    x, y = X.index_select(0, train), Y.index_select(0, train)
    key = N - 1 - places
    return x.index_select(0, key), y.index_select(0, key)


def _through_a_table(places: Tensor) -> Pair:
    table = torch.arange(N).flip(0).contiguous()
    key = table.index_select(0, N - 1 - places)
    return X.index_select(0, key), Y.index_select(0, key)


def _end(places: Tensor) -> Pair:
    x, y, key = X[4:], Y[4:], places[places >= 4] - 4
    return x.index_select(0, key), y.index_select(0, key)


KNOWN: dict[str, Callable[[Tensor], Pair]] = {
    "tensor": cut(lambda places: places),
    "int": cut(lambda places: places.int()),
    "selected": _selected,
    "a cut of a shuffle": _shuffled,
    "a cut of a cut": _composed,
    "an index from a table": _through_a_table,
    "the end of the data": _end,
    "flat": cut(lambda places: places, X.view(N, 2, 3).view(N, 6), Y.view(N, 1)),
}


def _looked_up(places: Tensor) -> Pair:
    """Centres of classes as targets, of labels that nobody saw being drawn."""
    return X.index_select(0, places), TABLES[0].index_select(0, (places + 1) % 10)


def _looked_up_twice(places: Tensor) -> Pair:
    """Of classes that happen to be different for each sample: only the inputs tell that these are no samples."""
    x, y = X.index_select(0, places), torch.tensor([(3 * place) % 10 for place in range(B)])
    mean, _ = TABLES[0].index_select(0, y), TABLES[1].index_select(0, y)
    return x, mean


def _alone(places: Tensor) -> Pair:
    return X.index_select(0, places), torch.tensor(Y.numpy()[places.numpy()])


def _changed(places: Tensor) -> Pair:
    x, y = X.index_select(0, places), Y.index_select(0, places)
    x += 1
    y += 1
    return x, y


UNKNOWN: dict[str, Callable[[Tensor], Pair]] = {
    "looked up": _looked_up,
    "looked up twice": _looked_up_twice,
    "alone": _alone,
    "changed": _changed,
    "strided": cut(lambda places: places[places < 20], X[::2], Y[::2]),
    "twice the same": cut(lambda places: torch.cat([places[:4], places[:4]])),
    "indexed": _indexed(lambda places: places),
    "masks": _indexed(lambda places: torch.zeros(N, dtype=torch.bool).index_fill(0, places, True)),
    "rows": lambda places: (X[places[None]][0], Y[places[None]][0]),
}


def trained(batch: Callable[[Tensor], Pair], *, after: bool = False) -> tuple[list[Row], list[list[int]]]:
    """What is recorded of an epoch, and the samples in truth; after a loader was iterated, or before."""
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    truth = []
    with watched() as kept:
        if after:
            for _ in DataLoader(TensorDataset(X, Y), B):
                pass
        shuffled = torch.randperm(N)
        for start in range(0, N, B):
            x, y = batch(shuffled[start : start + B])
            F.mse_loss(model(x), y).backward()
            truth.append([int(sample) for sample in y.flatten().tolist()])
    return kept.rows(), truth


@pytest.mark.parametrize("name", KNOWN)
def test_the_index_is_the_scripts(name: str) -> None:
    rows, truth = trained(KNOWN[name])
    assert [row.samples for row in rows] == truth
    assert {(row.certificate, row.identity, row.epoch) for row in rows} == {("exact", "index", 0)}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_may_be_no_draw_has_no_index(name: str) -> None:
    rows, _ = trained(UNKNOWN[name])
    assert {(row.certificate, row.identity) for row in rows} == {("exact", "none")}


def test_after_a_loader_nothing_is_followed() -> None:
    before = Tensor.index_select, DataLoader.__iter__
    rows, _ = trained(KNOWN["tensor"], after=True)
    assert {(row.certificate, row.identity) for row in rows} == {("exact", "none")}
    assert (Tensor.index_select, DataLoader.__iter__) == before
    with watched():
        assert Tensor.index_select is not before[0]
        for _ in DataLoader(TensorDataset(X, Y), B):
            assert Tensor.index_select is before[0], "an item of a data set is not to pay for it"
            assert "index_select" not in vars(Tensor)


def test_what_is_looked_up_by_labels_is_of_their_samples() -> None:
    weights = torch.rand(4)
    with watched() as kept:
        model, key = nn.Linear(6, 4), torch.randperm(N)[:B]
        x, y = X.index_select(0, key), LABELS.index_select(0, key)
        F.cross_entropy(model(x), y).backward()
        F.mse_loss(model(x)[:, 0], weights.index_select(0, y)).backward()
    assert [row.samples for row in kept.rows()] == [key.tolist()] * 2


def test_nothing_is_kept() -> None:
    with watched():
        data = torch.randn(N, 3)
        key = torch.tensor([1, 2])
        one, other = data.index_select(0, key), data.index_select(0, key)
        gone = [weakref.ref(tensor) for tensor in (data, one, other)]
        del data, one, other
        gc.collect()
        assert [reference() for reference in gone] == [None] * 3
