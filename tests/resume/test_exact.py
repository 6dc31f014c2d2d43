"""Done when (issue 8): interrupted anywhere and resumed in a fresh process, a script ends as one that never was.

On every change three scripts, which is what 25 s of processor time allow, each resumed from one checkpoint of a run
that went on to its end (two processes a script); in the full tier all, killed and stopped at random places, also twice
within a few steps.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.conftest import FULL
from tests.reporting import note
from tests.resume.cases import CASES
from tests.resume.harness import EXACT, drawn, prove, prove_on
from tests.resume.running import LAUNCHED, Bench, end_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not LAUNCHED, reason="nothing can be resumed yet")

QUICK = {"trainer_class": 31, "while_iterator": 19, "workers_augment": 13}
"""And the pause point of the checkpoint."""

SEED = 8


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders of one hub for all."""
    folder = tmp_path_factory.mktemp("home")
    yield folder
    end_hub(folder)


@pytest.mark.parametrize("name", QUICK)
def test_a_resumed_script_ends_like_the_one_that_went_on(name: str, tmp_path: Path, home: Path) -> None:
    (result,) = prove_on(CASES[name], [QUICK[name]], tmp_path, home)
    assert (result.verdict, result.detail) == (EXACT, "")


@FULL
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_wherever_it_is_interrupted_it_is_exact_or_refused(name: str, tmp_path: Path, home: Path) -> None:
    case, chance = CASES[name], random.Random(f"{SEED} {name}")
    if case.missing:
        pytest.skip(case.missing)
    if case.seeded:
        with Bench(tmp_path / "plain", case, home) as bench:
            whole = bench.plain()
        chains = drawn(case, whole, chance)
        results = [prove(case, cuts, tmp_path / str(place), whole, home) for place, cuts in enumerate(chains)]
    else:
        results = prove_on(case, sorted(chance.sample(range(2, 28), 3)), tmp_path, home)
    note("resumed", **{name: ", ".join(result.verdict for result in results)})
    assert all(result.sound for result in results), results
