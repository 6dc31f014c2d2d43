"""Fidelity: every record equals brute force (``reduction="none"``) bit for bit, at the right index; or says why not."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Subset, TensorDataset

from onthefly.capture import certificate, group
from onthefly.instruments import data as instrument
from onthefly.protocol import Records
from tests.fidelity.brute import Truth, dataset, train
from tests.reporting import seen
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    seen("loss", f"{name.replace('_', ' ')}, {reduction}{', two workers' if workers else ''}", rows)
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
    seen("loss", f"cross entropy, then {tail}", rows)


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
    for row, indices in zip(kept.rows(), truth.indices):
        assert (row.certificate, row.samples) == ("exact", indices), "the model's input tells them"


def test_a_target_changed_before_backward_is_not_exact() -> None:
    """Memory shared with NumPy changes behind torch's back: the loss is not reproduced, and the record says so."""
    model = nn.Linear(6, 4)
    with watched() as kept:
        for x, y in DataLoader(dataset("class", 64), 8):
            loss = F.cross_entropy(model(x), y)
            y.numpy()[:] = 0
            loss.backward()
    assert {row.certificate for row in kept.rows()} == {"approximate"}


class Labels(torch.Tensor):
    """A data set's own kind of tensor, which sees every operator it goes through."""

    seen = 0

    @classmethod
    def __torch_function__(cls, *given: Any) -> Any:
        cls.seen += 1
        return super().__torch_function__(*given)


class Counting(torch.overrides.TorchFunctionMode):
    """A mode that sees every operator."""

    seen = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += 1
        return func(*args, **(kwargs or {}))


def test_nobody_sees_our_operators() -> None:
    """Neither a tensor subclass nor a torch-function mode, and the losses are read all the same."""

    def run() -> tuple[int, int]:
        Labels.seen, model, mode = 0, nn.Linear(6, 4), Counting()
        for x, y in DataLoader(dataset("class", 32), 8):
            labels = y.as_subclass(Labels)
            F.cross_entropy(model(x), labels).backward()
            (F.cross_entropy(model(x), labels) / 2).backward()
            with torch._C.DisableTorchFunctionSubclass():
                plain_loss = F.cross_entropy(model(x), labels)
            plain_loss.backward()
            torch.autograd.backward(F.cross_entropy(model(x), labels))
            with mode:
                F.cross_entropy(model(x), y).backward()
                torch.autograd.backward(F.cross_entropy(model(x), y))
        return Labels.seen, mode.seen

    plain = run()
    with watched() as kept:
        assert run() == plain
    rows = kept.rows()
    assert len(rows) == 24
    assert {row.certificate for row in rows} == {"exact"}


def test_saved_tensors_hooks_run_no_more_often() -> None:
    """A loss whose tensors are saved through hooks is left alone; those before and after it are read."""
    unpacked: list[int] = []

    def unpack(tensor: torch.Tensor) -> torch.Tensor:
        unpacked.append(1)
        return tensor

    def run() -> int:
        unpacked.clear()
        model = nn.Linear(6, 4)
        for x, y in DataLoader(dataset("class", 16), 8):
            F.cross_entropy(model(x), y).backward()
            with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
                hooked = F.cross_entropy(model(x), y)
            hooked.backward()
            by_node: Any = F.cross_entropy(model(x), y)
            by_node.grad_fn._raw_saved_self.register_hooks(lambda tensor: tensor, unpack)
            by_node.grad_fn._raw_saved_target.register_hooks(lambda tensor: tensor, unpack)
            (by_node * 2).backward()
        return len(unpacked)

    plain = run()
    with watched() as kept:
        assert run() == plain
    assert [row.certificate for row in kept.rows()] == ["exact", "none", "none"] * 2


def ahead(loader: DataLoader[Any]) -> Iterator[Any]:
    """As accelerate and Hugging Face's Trainer do it: one batch is fetched ahead."""
    batches = iter(loader)
    now = next(batches)
    for later in batches:
        yield now
        now = later
    yield now


def popped(loader: DataLoader[Any]) -> Iterator[Any]:
    """Batches that are dictionaries, whose labels the script takes out."""
    for batch in loader:
        yield batch.pop("x"), batch.pop("y")


def validated(loader: DataLoader[Any]) -> Iterator[Any]:
    """Another loader runs over its data between fetching a batch and computing its loss."""
    for batch in loader:
        for _ in DataLoader(dataset("class", 24), 8):
            pass
        yield batch


class Named(torch.utils.data.Dataset[Any]):
    """The same data, as dictionaries."""

    def __init__(self, data: TensorDataset) -> None:
        self._data = data

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return dict(zip("xy", self._data[index]))

    def __len__(self) -> int:
        return len(self._data)


@pytest.mark.parametrize("order", [ahead, popped, validated, lambda loader: list(loader)[-5:]])
def test_the_right_batch_in_whatever_order(order: Callable[[Any], Any]) -> None:
    data = dataset("class")
    truth = Truth(data)
    loader: Any = DataLoader(Named(data) if order is popped else data, 8, shuffle=True)
    model = nn.Linear(6, 4)
    with watched() as kept:
        for x, y in order(loader):
            truth.add(x, F.cross_entropy(model(x), y, reduction="none"))
            F.cross_entropy(model(x), y).backward()
    truth.check(kept.rows())


def test_persistent_workers_keep_their_indices() -> None:
    data = dataset("class")
    truth = Truth(data)
    loader: DataLoader[Any] = DataLoader(data, 8, shuffle=True, num_workers=2, persistent_workers=True)
    truth.check(train(loader, LOSSES["cross_entropy"][1], truth, lambda x, y: F.cross_entropy(x, y)))


def test_an_iterator_of_somebodys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes its indices past our hook: the script runs, its losses have no index."""
    model = nn.Linear(6, 4)
    with watched() as kept:
        monkeypatch.setattr(
            instrument._SingleProcessDataLoaderIter, "_next_index",
            lambda iterator: next(iterator._sampler_iter), raising=False,
        )  # fmt: skip
        for x, y in DataLoader(dataset("class", 16), 8):
            F.cross_entropy(model(x), y).backward()
        monkeypatch.undo()
    assert {(row.certificate, row.identity) for row in kept.rows()} == {("exact", "none")}


def test_streams_have_losses_and_places() -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(dataset("class", 20))

    model = nn.Linear(6, 4)
    with watched() as kept:
        for x, y in DataLoader(Stream(), 8):
            F.cross_entropy(model(x), y).backward()
    assert [len(row.losses) for row in kept.rows()] == [8, 8, 4]
    assert [sample for row in kept.rows() for sample in row.samples] == list(range(20))
    assert {(row.certificate, row.identity) for row in kept.rows()} == {("exact", "stream")}


def test_numbers_that_come_later_make_the_same_records() -> None:
    """On an accelerator scalars stay tensors until a block is sent; here, both kinds are written out and compared."""
    values = [torch.tensor([0.5, 1.5, 0.0]), torch.tensor([2.0, 0.25, 1.0])]
    masks = [torch.tensor([True, True, False]), torch.tensor([True, True, True])]
    calls: list[Any] = []
    for later in (False, True):
        number: Any = torch.tensor if later else float
        calls.append([
            group.Call(0, 0, 0, 7, None, number(1.0), "", 3, values[0], number(1.0), number(2.0), masks[0], None),
            group.Call(1, 1, 0, 8, None, number(3.25), "", 3, values[1], number(3.25), 1, 1, bytes(24)),
            group.Call(2, 1, 0, 9, None, number(4.0), "why"),
        ])  # fmt: skip
    now, later = ([part.records("run") for part in group.groups(some)] for some in calls)
    assert now == later
    read, unread = now
    assert list(read.certificate) == [0, 0]
    assert list(read.valid) == list(array("i", [1, 1, 0, 1, 1, 1]).tobytes())
    assert (list(unread.certificate), unread.reasons) == ([2], ["why"])


def test_calls_that_are_not_read_do_not_pile_up() -> None:
    """No optimizer steps, and each call is of two tensors: sent all the same while the script runs."""
    weight = torch.ones(2, requires_grad=True)
    with watched() as kept:
        for _ in range(300):
            torch.autograd.backward([weight.sum(), weight.mean()])
        assert any(isinstance(message, Records) for message in kept.messages)
    assert len(kept.rows()) == 300


REFUSALS: dict[str, tuple[Callable[[Any, Any], torch.Tensor], str]] = {
    "a product of losses": (lambda x, y: F.cross_entropy(x, y) * F.cross_entropy(-x, y), "product of losses"),
    "a root": (lambda x, y: F.mse_loss(x, x.detach() + 1).sqrt(), "square root"),
    "another statistic": (lambda x, y: x.std(), "StdBackward0"),
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
    seen("loss", name, kept)


def test_rows_without_proof_have_no_index() -> None:
    model = nn.Linear(6, 4)
    data = dataset("class")

    def shuffled(samples: list[Any]) -> Any:
        random.Random(0).shuffle(samples)
        return torch.utils.data.default_collate(samples)

    cases: list[tuple[DataLoader[Any], Callable[[torch.Tensor], torch.Tensor]]] = [
        (DataLoader(data, 8, collate_fn=shuffled), lambda y: y),
        (DataLoader(data, 8), lambda y: y.flip(0)),
        (DataLoader(data, 8), lambda y: y[torch.randperm(len(y))]),
    ]
    for loader, change in cases:
        with watched() as kept:
            for x, y in loader:
                F.cross_entropy(model(change(x)), change(y)).backward()
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
    from onthefly.capture.leaves import OperatorLeaf
    from onthefly.capture.reading import NllReader

    read, each = NllReader.read, OperatorLeaf.each

    def off(*given: Any) -> Any:
        target, elements, *rest = read(*given)
        return (target, elements * 1.001, *rest)

    monkeypatch.setattr(NllReader, "read", off)
    monkeypatch.setattr(OperatorLeaf, "each", lambda *given: each(*given) * 1.001)
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
