"""Validation losses of the script's own loop, by sample, against brute force; and what is no validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.reporting import seen
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.watching import Kept

    Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def numbered(count: int, seed: int, words: int = 0) -> TensorDataset:
    """Inputs that tell their index, classes as targets (of each word, some to be ignored)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=generator)
    x[:, 0] = torch.arange(count) / 100
    y = torch.randint(0, 4, (count, words) if words else (count,), generator=generator)
    if words:
        y[torch.rand(count, words, generator=generator) < 0.3] = -100
        y[:, 0] = 1
    return TensorDataset(x, y)


class Model(nn.Module):
    """Remembers which samples it was evaluated on."""

    def __init__(self, words: int = 0) -> None:
        super().__init__()
        self.layer, self.words = nn.Linear(6, 4 * max(words, 1)), words
        self.evaluated: list[tuple[list[int], torch.Tensor]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layer(x)
        if self.words:
            out = out.view(len(x), 4, self.words)
        if not torch.is_grad_enabled():
            self.evaluated.append(([round(value * 100) for value in x[:, 0].tolist()], out.clone()))
        return out


def plain(model: Model, loader: DataLoader[Any], loss: Loss) -> None:
    with torch.no_grad():
        for x, y in loader:
            loss(model(x), y).item()


def inferred(model: Model, loader: DataLoader[Any], loss: Loss) -> None:
    with torch.inference_mode():
        for x, y in loader:
            loss(model(x), y).item()


@torch.no_grad()
def decorated(model: Model, loader: DataLoader[Any], loss: Loss) -> None:
    for batch in loader:
        loss(model(batch[0]), batch[1])


def within(model: Model, loader: DataLoader[Any], loss: Loss) -> None:
    for x, y in loader:
        with torch.no_grad():
            out = model(x)
            loss(out, y)


def one_ahead(model: Model, loader: DataLoader[Any], loss: Loss) -> None:
    batches = iter(loader)
    with torch.no_grad():
        batch = next(batches, None)
        while batch is not None:
            following = next(batches, None)
            loss(model(batch[0]), batch[1])
            batch = following


def cast(model: Model, loader: DataLoader[Any], loss: Loss) -> None:
    with torch.no_grad():
        for x, y in loader:
            loss(model(x.double().float()), y.int().long())


def total(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.nll_loss(output.log_softmax(1), y, reduction="sum")


def weighted(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(output, y, weight=torch.tensor([0.5, 1.0, 2.0, 0.1]), label_smoothing=0.1)


def vector(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(output, y, reduction="none").mean()


def squared(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.MSELoss()(output, F.one_hot(y, 4).float())


EACH: dict[Loss, Loss] = {
    F.cross_entropy: lambda output, y: F.cross_entropy(output, y, reduction="none"),
    total: lambda output, y: F.cross_entropy(output, y, reduction="none"),
    vector: lambda output, y: F.cross_entropy(output, y, reduction="none"),
    weighted: lambda output, y: F.cross_entropy(
        output, y, weight=torch.tensor([0.5, 1.0, 2.0, 0.1]), label_smoothing=0.1, reduction="none"),
    squared: lambda output, y: (output - F.one_hot(y, 4)).pow(2).mean(1),
}  # fmt: skip


def run(evaluate: Any, loss: Loss, *, workers: int = 0, words: int = 0, shuffle: bool = False) -> tuple[Kept, Model]:
    torch.manual_seed(0)
    model = Model(words)
    training = DataLoader(numbered(24, 1, words), 8, shuffle=True)
    validation = DataLoader(numbered(21, 2, words), 8, shuffle=shuffle, num_workers=workers)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watched() as kept:
        for _ in range(2):
            model.train()
            for x, y in training:
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()
            model.eval()
            evaluate(model, validation, loss)
    return kept, model


def check(kept: Kept, model: Model, loss: Loss, data: TensorDataset) -> None:
    """Every evaluated batch is recorded, with its samples; and the metrics are of whole passes."""
    rows = kept.validation()
    assert len(rows) == len(model.evaluated)
    values, right, counted = list[float](), 0, 0
    for row, (samples, output) in zip(rows, model.evaluated):
        targets = data.tensors[1][samples]
        each = EACH[loss](output, targets).reshape(len(samples), -1)
        valid = targets.reshape(len(samples), -1).ne(-100)
        expected = each.sum(1) / valid.sum(1) if valid.shape == each.shape else each.mean(1)
        assert (row.identity, row.samples, row.certificate) == ("index", samples, "exact")
        torch.testing.assert_close(torch.tensor(row.losses), expected.float(), rtol=1e-5, atol=1e-6)
        values += row.losses
        right += int((output.argmax(1) == targets).sum())
        counted += int(valid.sum())
    size = len(values) // 2
    assert kept.metric("valid/loss") == pytest.approx([sum(values[:size]) / size, sum(values[size:]) / size], rel=1e-5)
    if loss is not squared:
        assert sum(kept.metric("valid/accuracy")) / 2 == pytest.approx(right / counted)


@pytest.mark.parametrize("evaluate", [plain, inferred, decorated, within, one_ahead, cast])
def test_every_way_to_write_the_loop(evaluate: Any) -> None:
    kept, model = run(evaluate, F.cross_entropy)
    check(kept, model, F.cross_entropy, numbered(21, 2))
    assert [row.epoch for row in kept.validation()] == [0] * 3 + [1] * 3
    assert [row.step for row in kept.validation()] == [3] * 3 + [6] * 3
    seen("validation", f"validation, {evaluate.__name__.replace('_', ' ')}", kept.validation())


@pytest.mark.parametrize("loss", EACH)
def test_every_kind_of_loss(loss: Loss) -> None:
    kept, model = run(plain, loss, shuffle=True)
    check(kept, model, loss, numbered(21, 2))


def test_workers() -> None:
    kept, model = run(plain, F.cross_entropy, workers=2)
    check(kept, model, F.cross_entropy, numbered(21, 2))


def test_words() -> None:
    """Averaged over the words of each sample that count."""
    kept, model = run(plain, F.cross_entropy, words=5)
    check(kept, model, F.cross_entropy, numbered(21, 2, 5))
    assert {tuple(row.valid) for row in kept.validation()} == {
        tuple(numbered(21, 2, 5).tensors[1][samples].ne(-100).sum(1).tolist()) for samples, _ in model.evaluated
    }


@pytest.mark.parametrize("first", [False, True])
def test_what_is_computed_beside_a_training_step_is_no_validation(first: bool) -> None:
    model, optimizer = nn.Linear(6, 4), None
    with watched() as kept:
        for x, y in DataLoader(numbered(24, 1), 8):
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            if first:
                with torch.no_grad():
                    F.cross_entropy(model(x), y)
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            with torch.no_grad():
                F.cross_entropy(model(x), y)
                F.mse_loss(model(x), torch.zeros(len(x), 4))
    assert len(kept.rows()) == 3
    assert kept.validation() == []
    assert kept.metric("valid/loss") == []


def test_the_training_data_evaluated() -> None:
    model, loader = nn.Linear(6, 4), DataLoader(numbered(24, 1), 8)
    with watched() as kept:
        for x, y in loader:
            F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for x, y in loader:
                F.cross_entropy(model(x), y)
    assert [row.samples for row in kept.validation()] == [list(range(start, start + 8)) for start in (0, 8, 16)]
    assert len(kept.metric("valid/loss")) == 1


def test_a_loss_of_several_functions_is_not_guessed() -> None:
    with watched() as kept, torch.no_grad():
        for x, y in DataLoader(numbered(24, 1), 8):
            out = x[:, :4]
            (F.cross_entropy(out, y) + 0.1 * F.mse_loss(out, F.one_hot(y, 4).float())).item()
    assert {row.certificate for row in kept.validation()} == {"none"}
    assert all("several loss functions" in row.reason for row in kept.validation())
    assert kept.metric("valid/loss") == []


def test_two_loaders() -> None:
    """Validation and test: each pass is a value of its own."""
    model = nn.Linear(6, 4)
    sets = [DataLoader(numbered(count, count), 8) for count in (16, 10)]
    with watched() as kept:
        for x, y in DataLoader(numbered(24, 1), 8):
            F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for loader in sets:
                for x, y in loader:
                    F.cross_entropy(model(x), y)
            means = [F.cross_entropy(model(loader.dataset.tensors[0]), loader.dataset.tensors[1]).item()  # type: ignore[attr-defined]
                     for loader in sets]  # fmt: skip
    assert kept.metric("valid/loss") == pytest.approx(means[:1])
    assert kept.metric("valid/loss/1") == pytest.approx(means[1:])


class Stream(Dataset[Any]):
    """Targets that are the sample's number."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return torch.full((6,), float(index)), torch.tensor([float(index)])


def test_nothing_is_held_of_a_validation_for_long() -> None:
    import weakref

    gone: list[weakref.ref[torch.Tensor]] = []

    def batches() -> Iterator[Any]:
        for x, y in DataLoader(Stream(), 4):
            gone.append(weakref.ref(x))
            yield x, y

    with watched(), torch.no_grad():
        evaluated = [F.mse_loss(x[:, :1], y).item() for x, y in batches()]
        assert evaluated == [0.0] * 3
        F.mse_loss(torch.zeros(3, 1), torch.ones(3, 1))
        assert [ref() is None for ref in gone[:2]] == [True, True]
