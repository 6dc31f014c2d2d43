"""Row 20, figure F1: what the hub acknowledged survives ``kill -9`` of the script, and of script and hub together."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import FULL, REPOSITORY
from tests.reporting import note

if TYPE_CHECKING:
    from tests.conftest import Home

SEED = 20
MANY = bool(os.environ.get("ONTHEFLY_FULL"))
KILLS = {"trainer": 200 if MANY else 4, "both": 60 if MANY else 2}


def kill(home: Home, count: int, *mode: str) -> dict[str, Any]:
    """Kill so many; what was found."""
    ended = home.run(
        sys.executable, "-m", "tests.faults.killing", str(count), str(SEED), *mode, timeout=900,
        PYTHONPATH=str(REPOSITORY), ONTHEFLY_STRICT="1",
    )  # fmt: skip
    assert ended.code == 0, ended.err.decode()
    return json.loads(ended.out)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["both", pytest.param("trainer", marks=FULL)])
def test_nothing_acknowledged_is_lost(home: Home, mode: str) -> None:
    found = kill(home, KILLS[mode], mode)
    note("F1", **{mode: found})
    assert found["acknowledged"] > 10 * found["kills"], "the kills came before anything was acknowledged"
    assert (found["lost"], found["wrong"]) == (0, 0), found


@FULL
@pytest.mark.timeout(900)
def test_a_hub_that_acknowledges_too_early_is_found_out(home: Home) -> None:
    assert kill(home, 10, "both", "lying")["lost"] > 0
