"""What follows a rewind is what followed the first time, or the rewind is refused and nothing has changed."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
import torch

from tests.conftest import FULL
from tests.state.rewinding import Played, expect_refused, expect_same, snapped
from tests.state.scripts import REFUSED, SCRIPTS, START

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.dear

QUICK = (
    "augmented", "workers", "trainer", "steps", "lbfgs", "scaler", "globals", "several", "generator", "replacement",
    "adversarial", "gan", "under way",
)  # fmt: skip
"""Those that are played on every change; the full tier plays all of them, from anywhere to anywhere."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def written(folder: Path, source: str) -> Path:
    path = folder / "script.py"
    path.write_text(START + source)
    return path


@pytest.mark.parametrize("name", QUICK)
def test_goes_on_as_before(name: str, tmp_path: Path) -> None:
    expect_same(written(tmp_path, SCRIPTS[name]), 3, 7)


def test_a_function_that_had_no_attributes_has_none_again(tmp_path: Path) -> None:
    expect_same(written(tmp_path, SCRIPTS["globals"]), 0, 3)


@FULL
@pytest.mark.parametrize("name", SCRIPTS)
def test_goes_on_as_before_from_anywhere(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, SCRIPTS[name])
    plain = Played().run(path)
    chance = random.Random(f"{os.environ['ONTHEFLY_SEED']} {name}")
    for _ in range(8):
        taken = chance.randrange(0, 9)
        back = chance.randrange(taken + 1, 11)
        if name == "gan":  # whose first optimizer steps while a graph waits
            taken, back = taken | 1, back | 1
        if taken < back:
            expect_same(path, taken, back, plain)


@pytest.mark.parametrize("name", ["trainer", "lbfgs", "several", "workers"])
def test_taking_one_changes_nothing(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, SCRIPTS[name])
    plain, other = Played().run(path), snapped(path, 1, 4, 5, 10)
    assert (other.hashes, other.output, other.drawn) == (plain.hashes, plain.output, plain.drawn)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    source, taken, back, *words = REFUSED[name]
    expect_refused(written(tmp_path, source), taken, back, *words)
