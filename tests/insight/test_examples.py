"""Every example, scanned and tested in its middle: as brute force over the same model and data, and not disturbed."""

from __future__ import annotations

import copy
import gc
import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import pytest
import torch
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader

from tests.actions.played import plain, play
from tests.conftest import REPOSITORY
from tests.insight.played import Asked
from tests.insight.test_kinds import unchanged

if TYPE_CHECKING:
    from pathlib import Path

    from tests.actions.played import Commands

pytestmark = pytest.mark.dear

FULL = os.environ.get("ONTHEFLY_FULL") == "1"


class Example(NamedTuple):
    """What is asked of one."""

    loss: Callable[..., torch.Tensor]
    """Of each sample, with ``reduction="none"``."""
    trained: str
    """The variable of ``main`` with what it is trained on: a loader or a data set."""
    tested: str
    """And with what it is tested on; empty: there is none that could be found."""
    arguments: tuple[str, ...] = ("--epochs", "2")
    factor: float = 1.0
    """What the script's step makes of a loss."""
    how: str = ""
    """A test is made, where not by a recipe."""


EXAMPLES = {
    "digits": Example(F.cross_entropy, "train_loader", "valid_loader"),
    "tabular": Example(F.mse_loss, "train_loader", "valid_loader"),
    "text": Example(F.cross_entropy, "train_loader", "valid_loader", ("--epochs", "1")),
    "trainer_quickstart": Example(F.cross_entropy, "train", "test"),
    "trainer_accumulation": Example(F.cross_entropy, "train", "valid", factor=0.25),
    "lightning_quickstart": Example(F.cross_entropy, "train_loader", "valid_loader", how="validation_step"),
    "lightning_test_label": Example(F.mse_loss, "train", ""),
}
QUICK = ("tabular", "trainer_accumulation")

PAUSED = 8
"""The pause point at which it is held."""


class Kept:
    """The model of a script that runs plainly, after each of its steps, and its data."""

    def __init__(self, path: Path, example: Example) -> None:
        self._path, self._example = str(path), example
        self._nets: list[Any] = []
        self._data: dict[str, Any] = {}

    def keep(self, *_: Any) -> None:
        """A hook of the optimizer's."""
        frame = sys._getframe()  # pyright: ignore[reportPrivateUsage]
        while frame.f_code.co_name != "main" or frame.f_code.co_filename != self._path:
            assert frame.f_back is not None
            frame = frame.f_back
        model = frame.f_locals["model"]
        self._nets.append(copy.deepcopy(model.net if hasattr(model, "training_step") else model))
        self._data = {name: frame.f_locals[name] for name in (self._example.trained, self._example.tested) if name}

    def brute(self, name: str, step: int) -> dict[int, float]:
        """The loss of each sample of that loader or data set, by its index in the root data set, after that step."""
        net, given = self._nets[step - 1].eval(), self._data[name]
        dataset: Any
        dataset, size = (given.dataset, given.batch_size) if isinstance(given, DataLoader) else (given, 16)
        with torch.no_grad():
            each = [self._example.loss(net(x), y, reduction="none") for x, y in DataLoader(dataset, size)]
        losses = torch.cat(each).flatten() * self._example.factor
        return dict(zip(getattr(dataset, "indices", range(len(dataset))), losses.tolist()))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EXAMPLES if FULL else QUICK)
def test_an_example_s_losses_are_those_of_brute_force(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for module in ("sklearn.datasets", *(["lightning"] if name.startswith("lightning") else [])):
        importlib.import_module(module)  # which draws random numbers
    example, path = EXAMPLES[name], REPOSITORY / "examples" / f"{name}.py"
    kept = Kept(path, example)
    hook: Any = register_optimizer_step_post_hook(kept.keep)
    try:
        undisturbed = plain(path, *example.arguments)
    finally:
        hook.remove()
    gc.collect()  # the script's Trainer: a process has one
    commands: Commands = {place: [("test", {}), ("resume", {})] for place in range(PAUSED + 1, PAUSED + 9)}
    commands[PAUSED] = [("pause", {}), ("scan", {})]
    asked = Asked(play(path, *example.arguments, folder=tmp_path / "data", at=commands))
    unchanged(asked, undisturbed)
    scan = asked.evaluations["scan_1"]
    assert (scan.verified, scan.partial) == (True, False), scan
    assert re.fullmatch(r"recipe, reproduced ([3-9]) of \1", scan.how), scan.how
    assert asked.losses("scan_1") == pytest.approx(kept.brute(example.trained, scan.step), rel=1e-5, abs=1e-6)
    if not example.tested:
        assert any("no loader to test on" in answer.reason for answer in asked.answers), asked.answers
        return
    test = asked.test
    assert (test.how, test.verified, test.partial) == (example.how or scan.how, True, False), test
    assert asked.losses(test.label) == pytest.approx(kept.brute(example.tested, test.step), rel=1e-5, abs=1e-6)
