"""Row 34: real ranks of torchrun act at one step, and end as they would without us."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import FULL, wait_for
from tests.ranks.job import Job

if TYPE_CHECKING:
    from tests.conftest import Home


def end_as_plain(job: Job, lr: dict[int, float]) -> None:
    """Stop it, and compare it with the plain run of as many steps."""
    stop = job.do("stop")
    err = job.wait_end()
    assert job.process.returncode == 0, err.decode()
    written = job.written()
    assert written == [list(range(stop["step"]))] * job.ranks
    plain = job.plain(stop["step"], lr)
    assert plain.code == 0, plain.err.decode()
    assert job.states() == job.states("plain")
    if job.given["ddp"]:
        assert len(set(job.weights())) == 1
    session = job.home.wait_state("stopped")
    assert [text for notice in session["notices"] if not (text := notice["text"]).startswith("the loss of step")] == []


def cycle(job: Job, chance: random.Random, lr: dict[int, float]) -> None:
    """Held somewhere by one of the ways to be, changed on the way or while held, and let go."""
    if chance.random() < 0.3:
        value = round(chance.uniform(0.01, 0.2), 4)
        lr[job.do("set", name="lr", value=value)["step"]] = value
    if chance.random() < 0.2:
        planned = job.home.get("sessions/last")["step"] + chance.randint(20, 60)
        if job.send("pause", step=planned)["status"] == "applied":  # else it has come already
            assert job.held() == planned
    answer = job.do("pause")
    held = job.held()
    assert answer["step"] == held
    if chance.random() < 0.3:
        steps = chance.randint(1, 7)
        job.do("step", steps=steps)
        wait_for("its steps", lambda: job.home.get("sessions/last")["state"] == "paused" and job.held() == held + steps)
    if chance.random() < 0.3:
        value = round(chance.uniform(0.01, 0.2), 4)
        answer = job.do("set", name="lr", value=value)
        lr[answer["step"]] = value
        assert answer["step"] == job.held()
    job.do("resume")
    job.home.wait_state("running")
    reached = held + chance.randint(1, 30)
    wait_for("that step", lambda: min(steps[-1] for steps in job.written()) >= reached)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("ranks", "cycles"), [(2, 4), pytest.param(2, 100, marks=FULL), pytest.param(4, 100, marks=FULL)]
)
def test_all_ranks_are_held_at_one_step(home: Home, ranks: int, cycles: int) -> None:
    chance = random.Random(cycles + ranks)
    job = Job(home, ranks)
    job.wait_training()
    lr: dict[int, float] = {}
    for _ in range(cycles):
        cycle(job, chance, lr)
    end_as_plain(job, lr)


@pytest.mark.parametrize(
    ("timeout", "pause"), [pytest.param(2.0, 5.0, marks=FULL), pytest.param(4.0, 10.0, marks=FULL)]
)
def test_a_pause_outlasts_the_timeout_of_the_group(home: Home, timeout: float, pause: float) -> None:
    """What only one rank sees pauses all of them; nothing is pending in the group while they are held."""
    job = Job(home, 2, timeout=timeout, spike=[1, 400])
    job.wait_training()
    planned = job.do("pause", when="loss > 50")
    assert planned["result"]["planned"] == "loss > 50"
    session = job.home.wait_state("paused")
    assert (session["by"], session["reason"]) == ("ana", "loss > 50 was reached")
    held = job.held()
    assert 400 < held < 500
    since = session["since"]
    wait_for("so long a pause", lambda: time.time() - since > pause, pause + 5)
    assert job.held() == held
    job.do("resume")
    end_as_plain(job, {})
