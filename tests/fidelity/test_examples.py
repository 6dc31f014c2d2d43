"""The examples' records against brute force: each loss to the bit, each index by what the model was given."""

from __future__ import annotations

import runpy
import sys
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import nn

from tests.conftest import FULL, REPOSITORY
from tests.fidelity.brute_force import BruteForce
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable


def digits() -> torch.Tensor:
    data: Any = load_digits()
    return torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16


def text() -> torch.Tensor:
    """Windows of 24 characters, every sixth."""
    whole = "\n".join(topics[name] for name in sorted(topics))[:60_000]
    characters = sorted(set(whole))
    return torch.tensor([characters.index(character) for character in whole[:54_000]]).unfold(0, 24, 6)


def tabular() -> torch.Tensor:
    data: Any = load_diabetes()
    return torch.tensor(data.data, dtype=torch.float32) * len(data.data) ** 0.5


EXAMPLES: dict[str, tuple[Callable[[], torch.Tensor], int, int, int]] = {
    "digits": (digits, 2, 45, 1437),
    "text": (text, 1, 282, 8996),
    "tabular": (tabular, 3, 23, 354),
}
"""The inputs by index, how many epochs are run, the steps of one, and its samples."""


@pytest.mark.parametrize(
    ("example", "workers"),
    [("digits", "0"), ("digits", "2"), ("tabular", "0"), ("tabular", "2"), pytest.param("text", "2", marks=FULL)],
)
def test_every_sample(
    example: str, workers: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs_of, epochs, steps, samples = EXAMPLES[example]
    monkeypatch.setattr(sys, "argv", [f"{example}.py", "--epochs", str(epochs), "--workers", workers])
    main = runpy.run_path(str(REPOSITORY / "examples" / f"{example}.py"))["main"]
    truth = BruteForce(monkeypatch)
    given: list[torch.Tensor] = []

    def looks(module: nn.Module, inputs: Any) -> None:
        """The first module that runs with gradients after a backward call is the model."""
        if torch.is_grad_enabled() and len(given) == len(truth.calls):
            given.append(inputs[0].clone())

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    handle = nn.modules.module.register_module_forward_pre_hook(looks)  # type: ignore[arg-type]
    try:
        with watched() as kept:
            main()
    finally:
        handle.remove()
        torch.set_num_threads(threads)
    rows, known = kept.rows(), inputs_of()
    truth.check(rows, names_known=False)
    assert len(rows) == len(given) == epochs * steps
    for number, (row, inputs) in enumerate(zip(rows, given)):
        assert torch.equal(known[row.samples], inputs)
        assert (row.certificate, row.identity) == ("exact", "index")
        assert (row.step, row.epoch) == (number, number // steps)
    for epoch in range(epochs):
        assert len({sample for row in rows if row.epoch == epoch for sample in row.samples}) == samples
    assert capsys.readouterr().out.count("epoch") == epochs
