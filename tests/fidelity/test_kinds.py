"""Fidelity of every further kind of loss: smoothed and of probabilities, composites whose graph keeps no target."""

from __future__ import annotations

import gc
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import kl_div, l1_loss, poisson_nll_loss
from torch.utils.data import DataLoader, TensorDataset

from onthefly.capture import forms, leaves, noted, reading
from tests.fidelity.brute import Truth, dataset, train
from tests.reporting import seen
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    Loss = Callable[[torch.Tensor, torch.Tensor, str], torch.Tensor]

pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning")

WEIGHT = torch.tensor([0.3, 2.0, 1.0, 0.7])
"""Of the classes, or of the elements of a row."""


def weight(x: torch.Tensor) -> torch.Tensor:
    """The weights in the dtype of the loss."""
    return WEIGHT.to(x.dtype)


def variance(x: torch.Tensor) -> torch.Tensor:
    """A variance that depends on the model, and is the same for some."""
    return F.relu(x.roll(1, -1)) + 0.3


def smoothed(x: torch.Tensor, y: torch.Tensor, r: str, **options: Any) -> torch.Tensor:
    return F.cross_entropy(x, y, label_smoothing=0.1, reduction=r, **options)


def spread(x: torch.Tensor) -> torch.Tensor:
    """Logits [rows, classes, 3]."""
    return torch.stack([x, x * 2, -x], 2)


def log(x: torch.Tensor) -> torch.Tensor:
    return F.log_softmax(x, 1)


KINDS: dict[str, tuple[str, Loss]] = {
    "smooth_l1": ("value", lambda x, y, r: F.smooth_l1_loss(x, y, reduction=r)),
    "smooth_l1 beta": ("value", lambda x, y, r: F.smooth_l1_loss(x, y, reduction=r, beta=0.3)),
    "smooth_l1 module": ("single", lambda x, y, r: nn.SmoothL1Loss(reduction=r)(x[:, 0], y)),
    "smooth_l1 beta 0": ("value", lambda x, y, r: F.smooth_l1_loss(x, y, reduction=r, beta=0.0)),
    "huber": ("value", lambda x, y, r: F.huber_loss(x, y, reduction=r, delta=0.4)),
    "huber module": ("column", lambda x, y, r: nn.HuberLoss(reduction=r)(x[:, :1], y)),
    "mse single": ("single", lambda x, y, r: F.mse_loss(x[:, 0], y, reduction=r)),
    "bce": ("flag", lambda x, y, r: F.binary_cross_entropy(x.sigmoid(), y, reduction=r)),
    "bce weight": ("flag", lambda x, y, r: F.binary_cross_entropy(x.sigmoid(), y, weight(x), reduction=r)),
    "bce module": ("flag", lambda x, y, r: nn.BCELoss(reduction=r)(x.sigmoid(), y)),
    "smoothed": ("class", smoothed),
    "smoothed weight": ("class", lambda x, y, r: smoothed(x, y, r, weight=weight(x))),
    "smoothed ignore": ("class", lambda x, y, r: smoothed(x, y, r, ignore_index=2)),
    "smoothed weight ignore": ("class", lambda x, y, r: smoothed(x, y, r, weight=weight(x), ignore_index=1)),
    "smoothed wholly": ("class", lambda x, y, r: F.cross_entropy(x, y, label_smoothing=1.0, reduction=r)),
    "smoothed module": ("class", lambda x, y, r: nn.CrossEntropyLoss(label_smoothing=0.2, reduction=r)(x, y)),
    "probabilities": ("share", lambda x, y, r: F.cross_entropy(x, y, reduction=r)),
    "probabilities weight": ("share", lambda x, y, r: F.cross_entropy(x, y, weight(x), reduction=r)),
    "probabilities module": ("share", lambda x, y, r: nn.CrossEntropyLoss(reduction=r)(x, y)),
    "probabilities of pixels": ("pixels", lambda x, y, r: F.cross_entropy(spread(x), y, reduction=r)),
    "probabilities of pixels weight": ("pixels", lambda x, y, r: F.cross_entropy(spread(x), y, weight(x), reduction=r)),
    "l1": ("value", lambda x, y, r: F.l1_loss(x, y, reduction=r)),
    "l1 by name": ("column", lambda x, y, r: l1_loss(x[:, :1], y, reduction=r)),
    "l1 module": ("single", lambda x, y, r: nn.L1Loss(reduction=r)(x[:, 0], y)),
    "kl": ("share", lambda x, y, r: F.kl_div(log(x), y, reduction=r)),
    "kl by name": ("log share", lambda x, y, r: kl_div(log(x), y, reduction=r, log_target=True)),
    "kl module": ("share", lambda x, y, r: nn.KLDivLoss(reduction=r)(log(x), y)),
    "poisson": ("count", lambda x, y, r: F.poisson_nll_loss(x, y, reduction=r)),
    "poisson full": ("count", lambda x, y, r: poisson_nll_loss(x, y, full=True, reduction=r)),
    "poisson rates": ("count", lambda x, y, r: F.poisson_nll_loss(x.exp(), y, log_input=False, eps=1e-4, reduction=r)),
    "poisson module": ("count", lambda x, y, r: nn.PoissonNLLLoss(full=True, reduction=r)(x, y)),
    "gaussian": ("value", lambda x, y, r: F.gaussian_nll_loss(x, y, variance(x), reduction=r)),
    "gaussian full": (
        "value",
        lambda x, y, r: F.gaussian_nll_loss(x, y, variance(x), full=True, eps=0.5, reduction=r),
    ),
    "gaussian row": ("value", lambda x, y, r: F.gaussian_nll_loss(x, y, x[:, :1].exp(), reduction=r)),
    "gaussian vector": ("value", lambda x, y, r: F.gaussian_nll_loss(x, y, x[:, 0].exp().detach(), reduction=r)),
    "gaussian module": ("value", lambda x, y, r: nn.GaussianNLLLoss(reduction=r)(x, y, variance(x))),
}
if "float" in str(F.gaussian_nll_loss.__annotations__["var"]):  # since torch 2.7
    KINDS["gaussian number"] = ("value", lambda x, y, r: F.gaussian_nll_loss(x, y, 0.5, reduction=r))  # type: ignore[arg-type]


@pytest.mark.parametrize(("reduction", "workers"), [("mean", 0), ("sum", 0), ("mean", 2)])
@pytest.mark.parametrize("name", KINDS)
def test_every_sample_of_every_kind(name: str, reduction: str, workers: int) -> None:
    kind, loss = KINDS[name]
    data = dataset(kind)
    truth = Truth(data)
    loader = DataLoader(data, 8, shuffle=True, num_workers=workers)
    rows = train(loader, loss, truth, lambda x, y: loss(x, y, reduction), rate=1e-3)
    truth.check(rows, summed=reduction == "sum")
    seen("loss", f"{name}, {reduction}{', two workers' if workers else ''}", rows)
    ignored = {"smoothed ignore": 2, "smoothed weight ignore": 1}.get(name)
    if ignored is not None:
        for row in rows:
            assert row.valid == [int(data.tensors[1][sample] != ignored) for sample in row.samples]


@pytest.mark.parametrize(("how", "dtype"), [
    ("mean", torch.float64), ("mean", torch.bfloat16), ("sum", torch.float64), ("sum", torch.bfloat16),
    ("mean()", torch.float32), ("sum()", torch.bfloat16), ("/4", torch.float32), ("neg", torch.float64),
])  # fmt: skip
@pytest.mark.parametrize("name", KINDS)
def test_every_reduction_and_tail(name: str, how: str, dtype: torch.dtype) -> None:
    kind, loss = KINDS[name]
    reduce: dict[str, Loss] = {
        "mean": lambda x, y, _: loss(x, y, "mean"),
        "sum": lambda x, y, _: loss(x, y, "sum"),
        "mean()": lambda x, y, _: loss(x, y, "none").mean(),
        "sum()": lambda x, y, _: loss(x, y, "none").sum(),
        "/4": lambda x, y, _: loss(x, y, "mean") / 4,
        "neg": lambda x, y, _: -(2 * loss(x, y, "none").mean()),
    }
    data = dataset(kind, 21, dtype)
    truth = Truth(data)
    rows = train(DataLoader(data, 8, shuffle=True), loss, truth, lambda x, y: reduce[how](x, y, ""), dtype, 1e-3)
    truth.check(rows, summed=how.startswith("sum"), factor={"/4": 0.25, "neg": -2.0}.get(how, 1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_under_autocast(name: str, dtype: torch.dtype) -> None:
    """Targets in float32; and in bfloat16, which autocast copies, so that most graphs keep another than the batch's."""
    kind, loss = KINDS[name]
    data = dataset(kind, 16, dtype)
    truth = Truth(data)
    rows = train(
        DataLoader(data, 8), loss, truth, lambda x, y: loss(x, y, "mean"), torch.bfloat16, rate=1e-3, autocast=True
    )
    cast = dtype == torch.bfloat16 and name.startswith(("smooth_l1", "huber", "mse", "bce", "probabilities"))
    truth.check(rows, identity="none" if cast and name != "smooth_l1 beta 0" else "index")


@pytest.mark.parametrize("name", ["smoothed", "probabilities weight", "huber", "l1"])
def test_hooks_on_saved_tensors_run_no_more_often(name: str) -> None:
    """Such a loss is left alone; the functions with slots keep what they need themselves."""
    kind, loss = KINDS[name]
    unpacked: list[int] = []

    def unpack(tensor: torch.Tensor) -> torch.Tensor:
        unpacked.append(1)
        return tensor

    def run() -> int:
        unpacked.clear()
        model = nn.Linear(6, 4)
        for x, y in DataLoader(dataset(kind, 16), 8):
            with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
                hooked = loss(model(x), y, "mean")
            hooked.backward()
        return len(unpacked)

    plain = run()
    assert plain
    with watched() as kept:
        assert run() == plain
    assert [row.certificate for row in kept.rows()] == ["exact" if name == "l1" else "none"] * 2


@pytest.mark.parametrize("how", ["function", "module", "by hand", "halved"])
def test_a_mean_over_rows_is_of_summed_rows(how: str) -> None:
    data = dataset("share")
    truth = Truth(data)
    ways: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "function": lambda x, y: F.kl_div(log(x), y, reduction="batchmean"),
        "module": lambda x, y: nn.KLDivLoss(reduction="batchmean")(log(x), y),
        "by hand": lambda x, y: F.kl_div(log(x), y, reduction="sum") / len(x),
        "halved": lambda x, y: F.kl_div(log(x), y, reduction="batchmean") / 2,
    }
    rows = train(DataLoader(data, 8, shuffle=True), KINDS["kl"][1], truth, ways[how])
    truth.check(rows, summed=True, factor=0.5 if how == "halved" else 1.0)
    factor = 0.5 if how == "halved" else 1.0
    for row, each in zip(rows, truth.losses):
        assert row.loss == pytest.approx(each.sum().item() * factor / len(each), rel=1e-5)


def test_probabilities_by_hand() -> None:
    """The way they were written before torch took them as targets."""
    data = dataset("share")
    ways: list[tuple[Callable[[Any, Any], torch.Tensor], bool]] = [
        (lambda x, y: -(y * log(x)).sum(1).mean(), False),
        (lambda x, y: -(log(x) * y).sum(dim=-1).mean(), False),
        (lambda x, y: (-(y * log(x)).sum(-1)).sum(), True),
        (lambda x, y: -(y * log(x)).sum(), True),
    ]
    for way, summed in ways:
        truth = Truth(data)
        truth.check(train(DataLoader(data, 8), KINDS["probabilities"][1], truth, way), summed=summed)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", [name for name in KINDS if name != "gaussian vector"])
def test_batches_of_one(name: str, size: int) -> None:
    """The last batch, too, where a row and the weights of the classes have one shape."""
    kind, loss = KINDS[name]
    data = dataset(kind, 5)
    truth = Truth(data)
    ignoring = "ignore" in name and size == 1
    for how in ("sum",) if ignoring else ("mean", "sum"):  # the mean over no target is NaN
        truth = Truth(data)
        rows = train(DataLoader(data, size), loss, truth, lambda x, y, how=how: loss(x, y, how))  # type: ignore[misc]
        truth.check(rows, summed=how == "sum")


def test_smoothed_probabilities_have_values_without_an_index() -> None:
    """Torch changes the target first, so that the graph keeps another one than the batch's."""
    data = dataset("share")
    for reduction in ("mean", "sum"):
        truth = Truth(data)
        rows = train(DataLoader(data, 8), smoothed, truth, lambda x, y, r=reduction: smoothed(x, y, r))  # type: ignore[misc]
        truth.check(rows, identity="none")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_shape_and_option(draw: st.DataObject) -> None:
    pick = draw.draw
    rows, classes = pick(st.integers(2, 9), "rows"), pick(st.integers(2, 5), "classes")
    beyond = pick(st.sampled_from([(), (1,), (3,), (2, 2)]), "further axes")
    dtype = pick(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), "dtype")
    positive = st.floats(0.01, 3)
    flag = st.booleans()
    one, two, three = pick(positive, "first"), pick(flag, "second"), pick(flag, "third")
    weights = torch.linspace(0.5, 2, classes, dtype=dtype) if two else None
    kinds: dict[str, Loss] = {
        "smooth_l1": lambda x, y, r: F.smooth_l1_loss(x, y, reduction=r, beta=one),
        "huber": lambda x, y, r: F.huber_loss(x, y, reduction=r, delta=one),
        "l1": lambda x, y, r: F.l1_loss(x, y, reduction=r),
        "kl": lambda x, y, r: F.kl_div(log(x), y, reduction=r, log_target=two),
        "poisson": lambda x, y, r: F.poisson_nll_loss(x if two else x.exp(), y + 1, two, three, None, one, None, r),
        "gaussian": lambda x, y, r: F.gaussian_nll_loss(x, y, x.exp(), two, one, r),
        "probabilities": lambda x, y, r: F.cross_entropy(x, y, weights, reduction=r),
    }
    name = pick(st.sampled_from([*kinds, "smoothed"]), "kind")
    loss = kinds.get(name, lambda x, y, r: F.cross_entropy(
        x, y, weights, reduction=r, label_smoothing=min(one, 1.0), ignore_index=0 if three else -100))  # fmt: skip
    reduction = pick(st.sampled_from(["mean", "sum", "mean()", "sum()"]), "reduction")
    shape = (rows, classes) if name == "smoothed" else (rows, classes, *beyond)
    source = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    target = torch.rand(shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    if name == "smoothed":
        target = torch.arange(1, rows + 1) % classes
    with watched() as kept:
        for (y,) in DataLoader(TensorDataset(target), rows):
            computed = loss(source.mul(1.0), y, reduction.removesuffix("()") if "()" not in reduction else "none")
            (
                computed.mean() if reduction == "mean()" else computed.sum() if reduction == "sum()" else computed
            ).backward()
        with torch.no_grad():
            each = loss(source, target, "none").reshape(rows, -1)
    value = each.reshape(-1) if each.shape[1] == 1 else each.sum(1) if reduction.startswith("sum") else each.mean(1)
    (row,) = kept.rows()
    if name == "poisson" and rows == classes:
        assert "a square" in row.reason, "with a target that is not the batch's, either axis may be that of the samples"
        return
    assert torch.equal(torch.tensor(row.losses), value.float()), row.reason
    assert row.certificate == "exact"
    assert row.samples == ([-1] * rows if name == "poisson" else list(range(rows))), "a sum is another target"


@pytest.mark.parametrize("name", KINDS)
def test_the_certificate_of_every_kind_is_earned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are off by a thousandth are not called exact."""
    for reader in (reading.OperatorReader, forms.SmoothedReader, forms.ProbabilityReader, noted.Noted):
        read = reader.read

        def off(*given: Any, read: Any = read) -> Any:
            target, elements, *rest = read(*given)
            return (target, elements * 1.001, *rest)

        monkeypatch.setattr(reader, "read", off)
    parts = leaves.Leaf.parts
    monkeypatch.setattr(leaves.Leaf, "parts", lambda *given: parts(*given) * 1.001)
    kind, loss = KINDS[name]
    model = nn.Linear(6, 4)
    with watched() as kept:
        for x, y in DataLoader(dataset(kind), 8):
            loss(model(x), y, "mean").backward()
    assert {row.certificate for row in kept.rows()} == {"approximate"}


def other_weights(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return 0.9 * F.cross_entropy(x, y) + 0.1 * -log(x).sum(1).mean()


@pytest.mark.parametrize("way", [
    other_weights,
    lambda x, y: F.cross_entropy(x, y) + F.cross_entropy(x, y),
    lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1) + F.cross_entropy(x, y, label_smoothing=0.1),
    lambda x, y: -(log(x) * torch.ones(len(x), 4) * torch.ones(len(x), 4)).sum(1).mean(),
    lambda x, y: -(log(x) * torch.ones(4)).sum(),
    lambda x, y: -(log(x) * torch.ones(len(x), 4)).sum(0).mean(),
    lambda x, y: -(log(x) * torch.ones(len(x), 4)).sum(1, keepdim=True).mean(),
    lambda x, y: -(log(x) * torch.ones(len(x), 4)).sum(1)[:2].mean(),
    lambda x, y: (F.huber_loss(x, x.detach() + 1, reduction="none") * torch.ones_like(x)).mean(),
    lambda x, y: (x - 1).abs().mean(),
    lambda x, y: F.l1_loss(x, x.detach() + 1, reduction="none")[:2].mean(),
])  # fmt: skip
def test_trees_that_are_only_alike_are_not_misread(way: Callable[[Any, Any], torch.Tensor]) -> None:
    """Each sample's value is what the same way gives for it alone, or there is none."""
    torch.manual_seed(0)
    model, data = nn.Linear(6, 4), dataset("class")
    with watched() as kept:
        for x, y in DataLoader(data, 8):
            way(model(x), y).backward()
    for row in kept.rows():
        assert (len(row.losses) == 0) == (row.certificate == "none")
        for sample, loss in zip(row.samples, row.losses):
            x, y = data.tensors
            alone = way(model(x[sample : sample + 1]), y[sample : sample + 1])
            assert loss == pytest.approx(alone.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["l1", "kl", "poisson", "gaussian"])
def test_nothing_is_kept_after_backward(name: str) -> None:
    kind, loss = KINDS[name]
    model = nn.Linear(6, 4)
    losses = []
    with watched() as kept:
        for x, y in DataLoader(dataset(kind, 16), 8):
            result = model(x)
            target = y.clone()
            losses.append(loss(result, target, "mean"))
            gone = weakref.ref(target), weakref.ref(result)
            losses[-1].backward()
            del result, target
            gc.collect()
            assert [ref() for ref in gone] == [None, None]
    assert [row.certificate for row in kept.rows()] == ["exact"] * 2


def test_a_list_of_losses_keeps_no_more_than_a_few() -> None:
    x = torch.randn(8, 4, requires_grad=True).view(8, 4)
    targets = [torch.randn(8, 4) for _ in range(noted.MAX_OPEN + 5)]
    gone = [weakref.ref(target) for target in targets]
    with watched() as kept:
        losses = [F.l1_loss(x, target) for target in targets]
        del targets
        assert [ref() is None for ref in gone] == [True] * 5 + [False] * noted.MAX_OPEN
        losses[0].backward()
        losses[-1].backward(retain_graph=True)
        losses[-1].backward()
    first, second, third = kept.rows()
    assert first.reason == noted.CROWDED
    assert (second.certificate, third.reason) == ("exact", noted.READ)


def test_operands_changed_in_place_are_not_read() -> None:
    """The graph of L1 keeps no target, so that a script may write into it before backward."""
    model = nn.Linear(6, 4)
    with watched() as kept:
        for x, y in DataLoader(dataset("value", 16), 8):
            loss = F.l1_loss(model(x), y)
            y.zero_()
            loss.backward()
    assert [row.reason for row in kept.rows()] == [noted.CHANGED] * 2


def test_a_stretched_target_has_no_values() -> None:
    """[rows] against [rows, 1], a well-known mistake: no row of the square is a sample's."""
    model = nn.Linear(6, 4)
    with watched() as kept, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for x, y in DataLoader(dataset("single", 16), 8):
            F.l1_loss(model(x)[:, :1], y).backward()
            torch.poisson_nll_loss(model(x)[:, :1], y, True, False, 1e-8, 1).backward()
    assert ["a square" in row.reason for row in kept.rows()] == [True] * 4
