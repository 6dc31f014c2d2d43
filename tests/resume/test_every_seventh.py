"""Row 30: cut at every 7th step, with 0 and 2 workers, shuffled and not; each cut is resumed in a fresh process.

The optimizers and schedulers of the row are in ``test_pairs.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import FULL
from tests.reporting import note
from tests.resume.cases import CASES
from tests.resume.harness import EXACT, prove_on
from tests.resume.running import LAUNCHED

if TYPE_CHECKING:
    from pathlib import Path

STEPS, EVERY = 33, 7

pytestmark = pytest.mark.skipif(not LAUNCHED, reason="nothing can be resumed yet")


@FULL
@pytest.mark.timeout(600)
@pytest.mark.parametrize("order", ["shuffled", "in order"])
@pytest.mark.parametrize("workers", [0, 2])
def test_row_30_every_seventh_step_is_a_place_to_go_on_from(workers: int, order: str, tmp_path: Path) -> None:
    case = CASES["seventh"]._replace(given=(str(workers), order))
    cuts = range(EVERY, STEPS, EVERY)
    results = prove_on(case, list(cuts), tmp_path)
    assert [(result.verdict, result.detail) for result in results] == [(EXACT, "")] * len(cuts)
    note("resumed", **{f"every 7th, {workers} workers, {order}": len(results)})
