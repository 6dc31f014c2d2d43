"""Confidence and margin of each sample, against the definitions: probability of the class, its logit less the next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from onthefly.capture.margins import Margins
from tests.watching import Kept, watched

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHT = torch.tensor([0.3, 2.0, 1.0, 0.7])

LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cross entropy": F.cross_entropy,
    "nll": lambda output, y: F.nll_loss(output.log_softmax(1), y),
    "weighted": lambda output, y: F.cross_entropy(output, y, weight=WEIGHT),
    "smoothed": lambda output, y: F.cross_entropy(output, y, label_smoothing=0.2),
    "sum, scaled": lambda output, y: F.cross_entropy(output, y, reduction="sum") / 7,
    "two terms": lambda output, y: F.cross_entropy(output, y) + 0.1 * F.mse_loss(output, F.one_hot(y, 4).float()),
    "ignored": lambda output, y: F.cross_entropy(output, y, ignore_index=2),
}


def definition(output: torch.Tensor, y: torch.Tensor, ignored: int) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for logits, target in zip(output.tolist(), y.tolist()):
        if target == ignored:
            found.append((math.nan, math.nan))
            continue
        others = [logit for place, logit in enumerate(logits) if place != target]
        whole = sum(math.exp(logit) for logit in logits)
        found.append((math.exp(logits[target]) / whole, logits[target] - max(others)))
    return found


@pytest.mark.parametrize("name", LOSSES)
def test_every_sample(name: str) -> None:
    torch.manual_seed(0)
    count = 8 * (300 if name == "cross entropy" else 20) + 3  # once more calls than a buffer takes
    data = TensorDataset(torch.randn(count, 6), torch.randint(0, 4, (count,)))
    model, truth = nn.Linear(6, 4), list[tuple[float, float]]()
    with watched() as kept:
        for x, y in DataLoader(data, 8, shuffle=True):
            output = model(x)
            truth += definition(output.detach(), y, 2 if name == "ignored" else -1)
            LOSSES[name](output, y).backward()
    rows = kept.rows()
    found = [pair for row in rows for pair in zip(row.confidence, row.margin)]
    assert len(found) == len(truth)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(truth), rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("classes", [2, 2000])
def test_few_and_many_classes(classes: int) -> None:
    """More scores than a buffer takes are worked off at once."""
    torch.manual_seed(0)
    model, truth = nn.Linear(6, classes), list[tuple[float, float]]()
    data = TensorDataset(torch.randn(40, 6), torch.randint(0, classes, (40,)))
    with watched() as kept:
        for x, y in DataLoader(data, 16):
            output = model(x)
            truth += definition(output.detach(), y, -1)
            F.cross_entropy(output, y).backward()
    found = [pair for row in kept.rows() for pair in zip(row.confidence, row.margin)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(truth), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight", [None, torch.rand(200) + 0.5])
@pytest.mark.parametrize("size", [16, 64])
def test_classes_that_are_bytes(size: int, weight: torch.Tensor | None) -> None:
    """As the files of MNIST have them; -100, the class to be ignored, is 156 as a byte."""
    torch.manual_seed(0)
    inputs, classes = torch.randn(150, 6), torch.randint(0, 200, (150,), dtype=torch.uint8)
    classes[::3] = 156

    def run(targets: torch.Tensor) -> Kept:
        torch.manual_seed(1)
        model = nn.Linear(6, 200)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        data = TensorDataset(inputs, targets)
        with watched(ONTHEFLY_STRICT="1") as kept:
            for _ in range(3):
                for x, y in DataLoader(data, size):
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), y, weight=weight).backward()
                    optimizer.step()
                with torch.no_grad():
                    for x, y in DataLoader(data, size):
                        F.cross_entropy(model(x), y, weight=weight)
        return kept

    found, wanted = run(classes), run(classes.long())
    for one, other in ((found.rows(), wanted.rows()), (found.validation(), wanted.validation())):
        assert len(one) == len(other) == 3 * -(-150 // size)
        for name in ("losses", "confidence", "margin", "samples", "certificate", "identity", "valid", "loss"):
            assert [getattr(row, name) for row in one] == [getattr(row, name) for row in other], name
        assert {row.certificate for row in one} == {"exact"}
        assert all(math.isfinite(value) for row in one for value in row.margin)
    assert found.metric("valid/accuracy") == wanted.metric("valid/accuracy") != []


def silent(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(output, F.one_hot(y, 4).float())


@pytest.mark.parametrize("loss", [silent, lambda output, y: F.cross_entropy(output[:, :, None], y[:, None])])
def test_where_there_are_no_classes_of_samples_there_is_none(loss: Any) -> None:
    with watched() as kept:
        for x, y in DataLoader(TensorDataset(torch.randn(16, 6), torch.randint(0, 4, (16,))), 8):
            loss(nn.Linear(6, 4)(x), y).backward()
    assert all(not row.confidence and not row.margin for row in kept.rows())
    assert all(len(row.losses) == 8 for row in kept.rows())


def test_room_made_in_inference_mode_is_written_to_outside_of_it() -> None:
    scores, targets = torch.randn(5, 3).log_softmax(1), torch.arange(5) % 3
    mixed, plain = Margins(), Margins()
    with torch.inference_mode():
        assert mixed.note(scores.clone(), targets.clone()) == 0
    assert mixed.note(scores, targets) == 1
    with torch.inference_mode():
        assert mixed.note(scores.clone(), targets.clone()) == 2
    assert [plain.note(scores, targets) for _ in range(3)] == [0, 1, 2]
    one, other = (made.take().of(range(3), [1, 1, 1]) for made in (mixed, plain))
    assert all(one[name].tolist() == other[name].tolist() for name in ("confidence", "margin"))
