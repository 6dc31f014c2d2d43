"""Every way to start a script, with every way to end: all that can be seen is as under plain Python."""

from __future__ import annotations

import itertools
import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.parity.endings import ENDINGS
from tests.parity.running import FULL, Tally, both, differences
from tests.parity.seen import SEEN
from tests.parity.ways import WAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Home

pytestmark = pytest.mark.dear

SEED = int(os.environ.get("ONTHEFLY_SEED") or time.time())
SAMPLE = 1500 if FULL else len(WAYS)
"""In brief each way once, and whichever endings come to meet them."""


def sample(seed: int, size: int) -> list[tuple[str, str]]:
    """``size`` combinations; ways and endings come round in turn, so that all classes come before one is repeated."""
    chance = random.Random(seed)
    ways, endings = list(WAYS), list(ENDINGS)
    chance.shuffle(ways)
    chance.shuffle(endings)
    pairs = zip(itertools.cycle(ways), itertools.cycle(endings))
    return list(dict.fromkeys(itertools.islice(pairs, size)))


CASES = sample(SEED, SAMPLE)


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    """What is told to the report."""
    counted = Tally()
    yield counted
    counted.write(SEED)


@pytest.mark.parametrize(("way", "ending"), CASES)
def test_a_script_is_as_under_plain_python(here: Home, tally: Tally, way: str, ending: str) -> None:
    how = WAYS[way]
    arguments = how.lay(here.folder, SEEN + ENDINGS[ending] + "\n")
    plain, ours = both(here, arguments, how.environment, options=how.options, shell=how.shell)
    found = differences(plain, ours)
    tally.add(way, ending, found)
    assert not found, "\n".join([f"seed {SEED}", *found])
