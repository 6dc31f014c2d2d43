"""Loops that try to mislead: what is recorded of them is each sample's own, or refused in words that explain it.

Each names the samples by their content, and computes what every one of them gives by itself, on the spot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.reporting import seen
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    Truth = tuple[list[int], torch.Tensor]
    """The samples of a backward call, and what each gives, with the script's reduction in mind."""

COUNT = 18
"""Not a multiple of a batch of 8: the last one has 2."""


class Case(NamedTuple):
    """A loop."""

    outcome: str
    """``index``, ``exact`` (no sample named), or words of the reason."""
    loss: Callable[[Any, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """``(network, x, y)``: what is back-propagated, and what each sample gives."""
    network: Callable[[], nn.Module]
    width: tuple[int, ...]
    """Of a sample."""


CASES: dict[str, Case] = {}


def case(
    outcome: str, network: Callable[[], nn.Module] = lambda: nn.Linear(6, 4), width: tuple[int, ...] = (6,)
) -> Callable[[Any], Any]:
    """Enter a loop."""

    def enter(loss: Any) -> Any:
        CASES[loss.__name__] = Case(outcome, loss, network, width)
        return loss

    return enter


@case("index", lambda: nn.ModuleList([nn.Linear(6, 4), nn.Linear(2, 6)]))
def variational(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """A variational autoencoder: summed cross entropy of the picture and a divergence by hand."""
    mean, log = net[0](x).chunk(2, 1)
    z = mean + torch.randn_like(log) * (0.5 * log).exp()
    target = x.sigmoid()
    picture = F.binary_cross_entropy_with_logits(net[1](z), target, reduction="none")
    divergence = -0.5 * (1 + log - mean.pow(2) - log.exp())
    loss = F.binary_cross_entropy_with_logits(net[1](z), target, reduction="sum") - 0.5 * torch.sum(
        1 + log - mean.pow(2) - log.exp()
    )
    return loss, picture.sum(1) + divergence.sum(1)


@case("they are not samples")
def contrastive(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Two views one below the other (SimCLR): twice as many rows as samples."""
    out = F.normalize(net(torch.cat([x, x + 0.1])), dim=1)
    similar = (out @ out.T).masked_fill(torch.eye(len(out), dtype=torch.bool), -9.0)
    return F.cross_entropy(similar, torch.arange(len(out)).roll(len(x))), y


@case("index")
def in_batch_ranking(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Each row against all of the batch: a square, whose rows are the samples."""
    out = net(x)
    scores = out @ (out * 0.5).T
    target = torch.arange(len(x))
    return F.cross_entropy(scores, target), F.cross_entropy(scores, target, reduction="none")


@case("index")
def margins_by_hand(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """An anchor against the next one of the batch: triplets made of the network's outputs."""
    out = net(x)
    other = out.roll(1, 0)
    each = F.relu((out - y[:, None]).pow(2).sum(1) - (out - other).pow(2).sum(1) + 1.0)
    return each.mean(), each


@case("exact")
def mixed_up(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Mixup: two targets for one output."""
    order = torch.arange(len(x)).flip(0)
    out = net(0.7 * x + 0.3 * x[order])
    loss = 0.7 * F.cross_entropy(out, y) + 0.3 * F.cross_entropy(out, y[order])
    each = 0.7 * F.cross_entropy(out, y, reduction="none") + 0.3 * F.cross_entropy(out, y[order], reduction="none")
    return loss, each


@case("exact")
def cut_in_place(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Cutmix: the pictures are written into."""
    order = torch.arange(len(x)).flip(0)
    x[:, :2] = x[order][:, :2]
    out = net(x)
    loss = F.cross_entropy(out, y) * 0.6 + F.cross_entropy(out, y[order]) * 0.4
    each = F.cross_entropy(out, y, reduction="none") * 0.6 + F.cross_entropy(out, y[order], reduction="none") * 0.4
    return loss, each


@case("index", lambda: nn.Conv2d(1, 4, 3, padding=1), (1, 8, 8))
def focal(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Focal loss by hand of a segmentation whose pictures are as wide as the batch is long."""
    target = (x[:, 0] > 0).long()
    out = net(x)
    nll = F.cross_entropy(out, target, reduction="none")
    each = (1 - (-nll).exp()) ** 2 * nll
    return each.mean(), each.flatten(1).mean(1)


@case("a quotient", lambda: nn.Conv2d(1, 1, 3, padding=1), (1, 8, 8))
def dice(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Dice of the whole batch: no sample has a share."""
    chance, target = net(x).sigmoid(), (x > 0).float()
    return 1 - 2 * (chance * target).sum() / (chance.sum() + target.sum()), y


@case("index", lambda: nn.Conv2d(1, 1, 3, padding=1), (1, 8, 8))
def dice_of_each(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    chance, target = net(x).sigmoid(), (x > 0).float()
    axes = (1, 2, 3)
    each = 1 - 2 * (chance * target).sum(axes) / (chance.sum(axes) + target.sum(axes))
    return each.mean(), each


@case("index", lambda: nn.ModuleList([nn.Linear(6, 4), nn.Linear(6, 4)]))
def distilled(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """A teacher's soft answers, and the labels."""
    with torch.no_grad():
        taught = F.softmax(net[1](x) / 2, 1)
    student = net[0](x)
    soft = F.kl_div(F.log_softmax(student / 2, 1), taught, reduction="batchmean") * 4
    hard = F.cross_entropy(student, y)
    each = F.kl_div(F.log_softmax(student / 2, 1), taught, reduction="none").sum(1) * 4 * 0.5
    return 0.5 * soft + 0.5 * hard, each + 0.5 * F.cross_entropy(student, y, reduction="none")


class Weighing(nn.Module):
    """A network with a learned weight for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.log = nn.Linear(6, 4), nn.Parameter(torch.tensor([0.1, -0.2]))


@case("does not read", Weighing)
def uncertain(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Several tasks, each weighed by a learned uncertainty (Kendall et al. 2018)."""
    out = net.net(x)
    first, second = F.cross_entropy(out, y), out.pow(2).mean()
    weights = (-net.log).exp()
    loss = (weights * torch.stack([first, second]) + net.log).sum()
    return loss, y


class Experts(nn.Module):
    """A gate, and as many experts as a batch has samples."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(6, 8), nn.Linear(6, 32)


@case("index", Experts)
def experts(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """A mixture of experts: the balance of the gate is of the whole batch, and has as many numbers as the batch."""
    gate = net.gate(x).softmax(1)
    out = (net.experts(x).view(-1, 8, 4) * gate[:, :, None]).sum(1)
    load = F.one_hot(gate.argmax(1), 8).float().mean(0)
    balance = (load * gate.mean(0)).sum() * 8
    return F.cross_entropy(out, y) + 0.01 * balance, F.cross_entropy(out, y, reduction="none")


@case("index", lambda: nn.ModuleList([nn.Linear(6, 4), nn.Linear(6, 4)]))
def mean_teacher(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Consistency with another network, of a disturbed input."""
    with torch.no_grad():
        steady = net[1](x + 0.1)
    out = net[0](x)
    loss = F.cross_entropy(out, y) + 3 * F.mse_loss(out.softmax(1), steady.softmax(1))
    far = F.mse_loss(out.softmax(1), steady.softmax(1), reduction="none").mean(1)
    return loss, F.cross_entropy(out, y, reduction="none") + 3 * far


@case("index")
def quantiles(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """The pinball loss of several quantiles, by hand."""
    parts = [torch.max(q * (y - net(x)[:, i]), (q - 1) * (y - net(x)[:, i])) for i, q in enumerate((0.1, 0.5, 0.9))]
    each = torch.stack(parts, 1).sum(1)
    return each.mean(), each


@case("index")
def physics(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """An equation's residual: the slope of the output by the input."""
    x.requires_grad_()
    out = net(x)
    (slope,) = torch.autograd.grad(out.tanh().sum(), x, create_graph=True)
    loss = F.cross_entropy(out, y) + 0.0 * slope.detach().sum()
    return loss, F.cross_entropy(out, y, reduction="none")


@case("not known to be samples")
def residual(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """A gradient penalty, differentiated twice."""
    x.requires_grad_()
    out = net(x).tanh()
    (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    return F.cross_entropy(out, y) + ((slope.norm(2, dim=1) - 1) ** 2).mean(), y


@case("index")
def masked_rows(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Only some rows count, by a factor."""
    keep = (y > 0).float()
    each = F.cross_entropy(net(x), y, reduction="none") * keep
    return each.sum() / len(x), each


class Steps(nn.Module):
    """A recurrent network."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.first, self.cells = nn.Linear(3, 4), nn.GRU(4, 4, batch_first=batch_first)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.first(x)
        return self.cells(out if self.cells.batch_first else out.transpose(0, 1))[0]


@case("index", lambda: Steps(batch_first=True), (8, 3))
def masked_steps(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Sequences of their own length: the mean over the steps that a mask lets through, each of four numbers."""
    mask = torch.arange(8) <= y[:, None]
    wrong = (net(x) - 1) ** 2
    each = (wrong * mask[:, :, None]).sum((1, 2)) / mask.sum(1)
    return (wrong * mask[:, :, None]).sum() / mask.sum(), each


@case("index", lambda: Steps(batch_first=False), (8, 3))
def filled_steps(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """The same, time first, with what is beyond the end filled with zeros."""
    beyond = (torch.arange(8) > y[:, None]).t()
    wrong = (net(x) - 1).abs().sum(2).masked_fill(beyond, 0.0)
    return wrong.sum() / (~beyond).sum(), wrong.sum(0) / (~beyond).sum(0)


@case("index")
def chosen_by_a_number(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """As Keras divides: where there is nothing, zero."""
    each = F.cross_entropy(net(x), y, reduction="none")
    count = torch.tensor(float(len(x)))
    return torch.where(count == 0, torch.zeros(()), each.sum() / count), each


@case("not known to be samples")
def selected_rows(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """A few rows have a label, all are pulled together: the few are not shared by all."""
    out, keep = net(x), y > 0
    return F.cross_entropy(out[keep], y[keep]) + F.mse_loss(out, y[:, None].expand(-1, 4).float()), y


@case("not known to be samples")
def disturbed(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """A disturbance that is learned for each sample, and held small: no penalty on parameters."""
    change = torch.full_like(x, 0.1).requires_grad_()
    return F.cross_entropy(net(x + change), y) + change.pow(2).mean(), y


@case("index")
def twice_reduced(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """The mean of what is one number already, as scripts for several devices take it."""
    out = net(x)
    return F.cross_entropy(out, y).mean() + torch.mean(F.mse_loss(out, y[:, None].expand(-1, 4).float())), (
        F.cross_entropy(out, y, reduction="none")
        + F.mse_loss(out, y[:, None].expand(-1, 4).float(), reduction="none").mean(1)
    )


@case("changed in place")
def swapped_in_place(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """The targets change places in the batch's tensor, and a second term does not follow."""
    true = x[:, :4].clone()
    y.copy_(y.flip(0))
    out = net(x.flip(0))
    return F.cross_entropy(out, y) + F.mse_loss(net(x), true), y


@case("index", lambda: nn.GRU(3, 4), (6, 3))
def recurrent_in_time(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Time first, and the last state, by hand."""
    out, _ = net(x.transpose(0, 1))
    each = -out[-1].log_softmax(1)[torch.arange(len(x)), y]
    return each.mean(), each


@case("exact", lambda: nn.ModuleList([nn.Linear(6, 4)]))
def one_by_one(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Each sample goes through the network alone."""
    out = torch.stack([net[0](row) for row in x])
    each = (out - 1).pow(2).sum(1)
    return each.mean(), each


@case("index")
def lowered_precision(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    out = net(x).bfloat16()
    return F.cross_entropy(out, y), F.cross_entropy(out, y, reduction="none")


class Linear(torch.autograd.Function):
    """A function of the script's own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return x.flip(0) @ weight.T

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        x, weight = ctx.saved_tensors
        return slopes[0].flip(0) @ weight, slopes[0].T @ x.flip(0)


@case("exact")
def own_function(net: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Which reverses the batch where nobody sees it: no row is named."""
    out: torch.Tensor = Linear.apply(x, net.weight)
    each = (out - 1).pow(2).mean(1)
    return each.mean(), each


@pytest.mark.parametrize("name", CASES)
def test_each_sample_has_its_own(name: str) -> None:
    outcome, loss, network, width = CASES[name]
    torch.manual_seed(1)
    data = TensorDataset(torch.randn(COUNT, *width), torch.randint(0, 4, (COUNT,)))
    numbers = {tuple(row): index for index, row in enumerate(data.tensors[0].flatten(1).tolist())}
    net, truths = network(), list[Any]()
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    with watched() as kept:
        for x, y in DataLoader(data, 8, shuffle=True):
            samples = [numbers[tuple(row)] for row in x.flatten(1).tolist()]
            optimizer.zero_grad()
            number, each = loss(net, x, y)
            number.backward()
            optimizer.step()
            truths.append((samples, each.detach()))
    rows = kept.rows()
    for row, (samples, each) in zip(rows, truths):
        if outcome not in ("index", "exact"):
            assert outcome in row.reason
            assert not row.losses
            continue
        assert (row.certificate, row.identity) == ("exact", "index" if outcome == "index" else "none"), row.reason
        assert row.samples == (samples if outcome == "index" else [-1] * len(samples))
        torch.testing.assert_close(torch.tensor(row.losses), each.float(), rtol=1e-5, atol=1e-6)
        if row.components:
            total = torch.stack([torch.tensor(part) for part in row.components.values()]).sum(0)
            torch.testing.assert_close(total, torch.tensor(row.losses), rtol=1e-5, atol=1e-6)
    told = (loss.__doc__ or name).partition(":")[0].partition("\n")[0].rstrip(".")
    seen("attack", f"{name.replace('_', ' ')} ({told[0].lower()}{told[1:]})", kept)
