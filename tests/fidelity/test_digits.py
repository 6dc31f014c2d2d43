"""The example's records against brute force: three epochs, every sample's loss to the bit, every index by its image."""

from __future__ import annotations

import runpy
import sys
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from tests.conftest import DIGITS
from tests.watching import watched


@pytest.mark.parametrize("workers", ["0", "2"])
def test_three_epochs(workers: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    images = torch.tensor(load_digits().images, dtype=torch.float32) / 16  # type: ignore[union-attr]
    index_of = {image.numpy().tobytes(): index for index, image in enumerate(images)}
    assert len(index_of) == len(images), "an image tells its index"
    monkeypatch.setattr(sys, "argv", ["digits.py", "--epochs", "3", "--workers", workers])
    example = runpy.run_path(str(DIGITS))
    forward, functional = example["Net"].forward, example["F"]
    cross_entropy = functional.cross_entropy
    seen: list[tuple[list[int], torch.Tensor]] = []
    batch: list[int] = []

    def looks(model: Any, inputs: torch.Tensor) -> torch.Tensor:
        batch[:] = [index_of[image.numpy().tobytes()] for image in inputs]
        return forward(model, inputs)

    def counts(logits: torch.Tensor, labels: torch.Tensor, **options: Any) -> torch.Tensor:
        if torch.is_grad_enabled():
            with torch.no_grad():
                seen.append((list(batch), cross_entropy(logits, labels, reduction="none")))
        return cross_entropy(logits, labels, **options)

    monkeypatch.setattr(example["Net"], "forward", looks)
    monkeypatch.setattr(functional, "cross_entropy", counts)
    with watched() as kept:
        example["main"]()
    rows = kept.rows()
    assert len(rows) == len(seen) == 3 * 45
    for number, (row, (indices, losses)) in enumerate(zip(rows, seen)):
        assert row.samples == indices
        assert torch.equal(torch.tensor(row.losses), losses)
        assert (row.certificate, row.identity) == ("exact", "index")
        assert (row.step, row.epoch) == (number, number // 45)
    for epoch in range(3):
        assert len({sample for row in rows if row.epoch == epoch for sample in row.samples}) == 1437
    assert capsys.readouterr().out.count("epoch") == 3
