"""Fidelity: every record equals brute force (``reduction="none"``) bit for bit, at the right index; or says why not."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Subset, TensorDataset

from onthefly.capture import certificate
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.watching import Row

Loss = "Callable[[torch.Tensor, torch.Tensor, str], torch.Tensor]"

WEIGHT = torch.tensor([0.3, 2.0, 1.0, 0.7])


def nll(x: torch.Tensor, y: torch.Tensor, reduction: str) -> torch.Tensor:
    return F.nll_loss(F.log_softmax(x, 1), y, reduction=reduction)


def ignoring(x: torch.Tensor, y: torch.Tensor, reduction: str) -> torch.Tensor:
    return F.cross_entropy(x, y, weight=WEIGHT, ignore_index=2, reduction=reduction)


LOSSES: dict[str, tuple[str, Callable[[torch.Tensor, torch.Tensor, str], torch.Tensor]]] = {
    "cross_entropy": ("class", lambda x, y, r: F.cross_entropy(x, y, reduction=r)),
    "module": ("class", lambda x, y, r: nn.CrossEntropyLoss(reduction=r)(x, y)),
    "weighted": ("class", lambda x, y, r: F.cross_entropy(x, y, weight=WEIGHT, reduction=r)),
    "ignore_index": ("class", ignoring),
    "nll": ("class", nll),
    "mse": ("value", lambda x, y, r: F.mse_loss(x, y, reduction=r)),
    "bce": ("flag", lambda x, y, r: F.binary_cross_entropy_with_logits(x, y, reduction=r)),
    "bce_weighted": (
        "flag",
        lambda x, y, r: F.binary_cross_entropy_with_logits(x, y, weight=WEIGHT, pos_weight=WEIGHT * 2, reduction=r),
    ),
}


def dataset(kind: str, count: int = 53) -> TensorDataset:
    generator = torch.Generator().manual_seed(7)
    targets: Any = {
        "class": torch.randint(0, 4, (count,), generator=generator),
        "value": torch.randn(count, 4, generator=generator),
        "flag": torch.rand(count, 4, generator=generator).round(),
    }[kind]
    return TensorDataset(torch.randn(count, 6, generator=generator), targets)


class Truth:
    """What a loop knows of itself: the loss of each sample, computed beside it, and which sample it is."""

    def __init__(self, data: TensorDataset) -> None:
        self._rows = {tuple(row): index for index, row in enumerate(data.tensors[0].tolist())}
        self.indices: list[list[int]] = []
        self.losses: list[torch.Tensor] = []

    def add(self, x: torch.Tensor, each: torch.Tensor) -> None:
        self.indices.append([self._rows[tuple(row)] for row in x.tolist()])
        self.losses.append(each.detach().reshape(len(x), -1).clone())

    def check(self, rows: list[Row], *, factor: float = 1.0, summed: bool = False) -> None:
        assert len(rows) == len(self.losses)
        for row, indices, each in zip(rows, self.indices, self.losses):
            assert row.samples == indices
            value = each.reshape(-1) if each.shape[1] == 1 else (each.sum(1) if summed else each.mean(1))
            assert torch.equal(torch.tensor(row.losses), value * factor)
            assert row.certificate == "exact"
            assert row.identity == "index"


def train(
    loader: DataLoader[Any], loss: Callable[..., torch.Tensor], truth: Truth, reduce: Callable[..., torch.Tensor]
) -> list[Row]:
    """Two epochs; ``reduce(x, y)`` is what the script back-propagates."""
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watched() as kept:
        for _ in range(2):
            for x, y in loader:
                optimizer.zero_grad()
                with torch.no_grad():
                    truth.add(x, loss(model(x), y, "none"))
                reduce(model(x), y).backward()
                optimizer.step()
    return kept.rows()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_sample_of_every_loss(name: str, reduction: str, workers: int) -> None:
    kind, loss = LOSSES[name]
    data = dataset(kind)
    truth = Truth(data)
    loader = DataLoader(data, 8, shuffle=True, num_workers=workers)
    rows = train(loader, loss, truth, lambda x, y: loss(x, y, reduction))
    truth.check(rows, summed=reduction == "sum")
    assert [row.epoch for row in rows] == [0] * 7 + [1] * 7
    if name == "ignore_index":
        assert 0 in {valid for row in rows for valid in row.valid}


@pytest.mark.parametrize("name", LOSSES)
def test_reduced_by_hand(name: str) -> None:
    kind, loss = LOSSES[name]
    data = dataset(kind)
    for summed in (False, True):
        truth = Truth(data)

        def reduce(x: torch.Tensor, y: torch.Tensor, summed: bool = summed) -> torch.Tensor:
            each = loss(x, y, "none")
            return each.sum() if summed else each.mean()

        truth.check(train(DataLoader(data, 8), loss, truth, reduce), summed=summed)


@pytest.mark.parametrize("tail", ["/4", "*0.5", "0.25*", "neg"])
def test_the_scalar_tail(tail: str) -> None:
    data = dataset("class")
    truth = Truth(data)
    tails: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], float]] = {
        "/4": (lambda loss: loss / 4, 0.25),
        "*0.5": (lambda loss: loss * 0.5, 0.5),
        "0.25*": (lambda loss: torch.tensor(0.25) * loss, 0.25),
        "neg": (lambda loss: -loss, -1.0),
    }
    step, factor = tails[tail]
    rows = train(DataLoader(data, 8), LOSSES["cross_entropy"][1], truth, lambda x, y: step(F.cross_entropy(x, y)))
    truth.check(rows, factor=factor)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_nesting_sampler_and_batch_size(draw: st.DataObject) -> None:
    data = dataset("class", count=draw.draw(st.integers(5, 40), "count"))
    nested: Any = data
    for depth in range(draw.draw(st.integers(0, 3), "depth")):
        kept = draw.draw(st.lists(st.integers(0, len(nested) - 1), min_size=4, max_size=30), f"subset {depth}")
        nested = Subset(nested, draw.draw(st.sampled_from([kept, torch.tensor(kept), tuple(kept)]), "as"))  # type: ignore[arg-type]
    size = draw.draw(st.integers(1, 9), "batch size")
    if draw.draw(st.booleans(), "batch sampler"):
        loader: DataLoader[Any] = DataLoader(nested, batch_sampler=BatchSampler(RandomSampler(nested), size, False))
    else:
        loader = DataLoader(nested, size, shuffle=draw.draw(st.booleans(), "shuffle"))
    loss = LOSSES["cross_entropy"][1]
    truth = Truth(data)
    truth.check(train(loader, loss, truth, lambda x, y: loss(x, y, "mean")))


@pytest.mark.parametrize("shared", [False, True])
def test_reused_buffers_are_read_at_their_own_time(shared: bool) -> None:
    """A script that writes each batch's targets into one buffer (NumPy's, too) and clobbers them afterwards."""
    data = dataset("class", 256)
    held = torch.from_numpy(np.empty(8, dtype=np.int64)) if shared else torch.empty(8, dtype=torch.int64)
    model = nn.Linear(6, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    truth = Truth(data)
    with watched() as kept:
        for x, y in DataLoader(data, 8, shuffle=True):
            target = held.copy_(y)
            truth.add(x, F.cross_entropy(model(x), target, reduction="none"))
            loss = F.cross_entropy(model(x), target)
            loss.backward()
            optimizer.step()
            held.numpy()[:] = 3
            loss.detach().mul_(0)
    for row, each in zip(kept.rows(), truth.losses):
        assert torch.equal(torch.tensor(row.losses), each.reshape(-1))
        assert (row.certificate, row.identity) == ("exact", "none")


def test_a_target_changed_before_backward_is_not_exact() -> None:
    """Memory shared with NumPy changes behind torch's back: the loss is not reproduced, and the record says so."""
    model = nn.Linear(6, 4)
    with watched() as kept:
        for x, y in DataLoader(dataset("class", 64), 8):
            loss = F.cross_entropy(model(x), y)
            y.numpy()[:] = 0
            loss.backward()
    assert {row.certificate for row in kept.rows()} == {"approximate"}


REFUSALS: dict[str, tuple[Callable[[Any, Any], torch.Tensor], str]] = {
    "two losses": (lambda x, y: F.cross_entropy(x, y) + F.cross_entropy(-x, y), "AddBackward0"),
    "a sum by hand": (lambda x, y: (x**2).mean(), "PowBackward0"),
    "label smoothing": (lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1), "which this version does not read"),
    "a penalty on weights": (lambda x, y: F.mse_loss(x.new_ones(3, requires_grad=True), x.new_zeros(3)), "not samples"),
    "a vector": (lambda x, y: F.cross_entropy(x, y, reduction="none")[:1], "does not read"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_not_read_says_why(name: str) -> None:
    make, reason = REFUSALS[name]
    model = nn.Linear(6, 4)
    with watched() as kept:
        for x, y in DataLoader(dataset("class"), 8):
            make(model(x), y).backward()
    for row in kept.rows():
        assert row.certificate == "none"
        assert reason in row.reason
        assert len(row.losses) == 0
    assert any(reason in notice for notice in kept.notices())


def test_rows_without_proof_have_no_index() -> None:
    model = nn.Linear(6, 4)
    data = dataset("class")

    def shuffled(samples: list[Any]) -> Any:
        random.Random(0).shuffle(samples)
        return torch.utils.data.default_collate(samples)

    cases: list[tuple[DataLoader[Any], Callable[[torch.Tensor], torch.Tensor]]] = [
        (DataLoader(data, 8, collate_fn=shuffled), lambda y: y),
        (DataLoader(data, 8), lambda y: y.flip(0)),
        (DataLoader(data, 8), lambda y: y.clone()),
    ]
    for loader, change in cases:
        with watched() as kept:
            for x, y in loader:
                F.cross_entropy(model(x), change(y)).backward()
        for row in kept.rows():
            assert row.identity == "none"
            assert set(row.samples) == {-1}
            assert row.certificate == "exact"
        assert any("no index" in notice for notice in kept.notices())


def test_nan_and_infinite_losses_are_recorded_as_they_are() -> None:
    data = dataset("value")
    with watched() as kept:
        for x, y in DataLoader(data, 8):
            poisoned = x[:, :4].clone().requires_grad_()
            (F.mse_loss(poisoned * float("inf"), y)).backward()
    assert any(value != value or abs(value) == float("inf") for row in kept.rows() for value in row.losses)


def test_the_certificate_is_earned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that do not add up to the loss are never called exact."""
    from onthefly.capture.reading import NllReader

    measure = NllReader.measure

    def off(*given: Any) -> Any:
        target, rows, values, *rest = measure(*given)
        return (target, rows, values * 1.001, *rest)

    monkeypatch.setattr(NllReader, "measure", off)
    model = nn.Linear(6, 4)
    with watched() as kept:
        for x, y in DataLoader(dataset("class"), 8):
            F.cross_entropy(model(x), y).backward()
    assert {row.certificate for row in kept.rows()} == {"approximate"}
    assert all(row.error != 0 for row in kept.rows())


def test_a_total_alone_is_no_proof() -> None:
    """The reproduction test sees a loss that is not this operator's, although the total is within tolerance."""
    nan, inf = float("nan"), float("inf")
    for numbers, expected in (
        ((1.0, 1.0, 1.0, 1.0), certificate.EXACT),
        ((1.0, 1.0 + 1e-9, 1.0, 1.0), certificate.APPROXIMATE),
        ((1.0, 1.0, 1.0 + 1e-5, 1.0), certificate.APPROXIMATE),
        ((nan, nan, nan, nan), certificate.EXACT),
        ((nan, 1.0, nan, nan), certificate.APPROXIMATE),
        ((inf, inf, inf, inf), certificate.EXACT),
        ((inf, -inf, inf, inf), certificate.APPROXIMATE),
    ):
        assert certificate.judge(*numbers, 1e-7).certificate == expected
