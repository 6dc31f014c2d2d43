"""Ten million sample records a minute from one process, through the real link into a real hub that follows them."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from onthefly.errors import Guard
from onthefly.link.link import Link
from onthefly.settings import Settings
from tests.conftest import FULL, wait_for
from tests.hub.agent import hello, records
from tests.reporting import note

if TYPE_CHECKING:
    from onthefly.protocol import Records
    from tests.conftest import Home

pytestmark = [pytest.mark.alone, FULL]

CALLS, ROWS, SAMPLES = 32, 128, 200_000
BLOCK = CALLS * ROWS
BLOCKS = 1000
NEEDED = 10_000_000 / 60
WAITING = 100
"""Blocks that may be on their way: a script waits for its steps, this test for the hub."""


def blocks() -> list[Records]:
    """Epochs in shuffled order, with the probability and margin of each sample, as blocks of 32 steps."""
    chance = np.random.default_rng(0)
    epochs = -(-BLOCKS * BLOCK // SAMPLES)
    order = np.concatenate([chance.permutation(SAMPLES) for _ in range(epochs)])
    made: list[Records] = []
    for block in range(BLOCKS):
        sample = order[block * BLOCK : (block + 1) * BLOCK]
        values = chance.random((3, BLOCK), dtype=np.float32)
        made.append(records(
            block * CALLS, CALLS, ROWS, epoch=np.full(CALLS, block * BLOCK // SAMPLES, "<i4").tobytes(),
            sample=sample.astype("<i8").tobytes(), sample_loss=values[0].tobytes(), confidence=values[1].tobytes(),
            margin=(values[2] - np.float32(0.5)).tobytes(),
        ))  # fmt: skip
    return made


@pytest.mark.timeout(300)
def test_ten_million_records_a_minute_reach_the_store(home: Home) -> None:
    made = blocks()
    home.start(sys.executable, "-m", "onthefly", "hub")
    home.hub()
    opened: list[str] = []
    link = Link(
        Settings(home.environment), hello(), Guard("the link", strict=True), on_command=lambda _: None,
        on_open=opened.append, on_lost=lambda error: pytest.fail(str(error)), gather=list,
    )  # fmt: skip
    link.start()
    try:
        wait_for("the hub", lambda: opened)
        start = time.perf_counter()
        for block in made:
            wait_for("room", lambda: len(link._outbox) + len(link._fresh) < WAITING)
            link.send(block)
        wait_for("all of it", lambda: link._outbox.empty() and not link._fresh)
        rate = BLOCKS * BLOCK / (time.perf_counter() - start)
    finally:
        link.close(10)
        link.abandon()
    asked = time.perf_counter()
    worst: list[dict[str, Any]] = home.get("sessions/abcdefgh/dynamics?order=margin&limit=20")
    answered = time.perf_counter() - asked
    session = home.get("sessions/abcdefgh")
    assert (session["samples"], session["backwards"]) == (BLOCKS * BLOCK, BLOCKS * CALLS)
    assert [row["margin"] for row in worst] == sorted(row["margin"] for row in worst)
    seconds = cpu_seconds(home.hub()["pid"])
    home.stop_hub()
    missing, sums = look_into_the_store(home)
    note("records a minute", millions=round(rate * 60 / 1e6, 1), dynamics_ms=round(1000 * answered),
         hub_microseconds=round(1e6 * seconds / (BLOCKS * BLOCK), 2))  # fmt: skip
    assert missing == 0
    wanted = sum(np.frombuffer(block.sample_loss, "<f4").sum(dtype=float) for block in made)
    assert sums == pytest.approx(wanted, rel=1e-9)
    assert rate > NEEDED, f"{rate:.0f} records/s"
    assert answered < 1.0, f"{answered:.2f} s"


def look_into_the_store(home: Home) -> tuple[int, float]:
    """How many of the rows are not there once, and the sum of all losses."""
    from onthefly.hub.store import Store

    store = Store(home.data / "sessions" / "abcdefgh" / "store.duckdb", "abcdefgh")
    with store.reading() as cursor:
        row = cursor.execute(
            "SELECT count(DISTINCT backward * 1000 + position), sum(loss::DOUBLE) FROM samples"
        ).fetchone()
    store.close()
    assert row is not None
    return BLOCKS * BLOCK - row[0], row[1]


def cpu_seconds(pid: int) -> float:
    """What that process has used."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
