"""Row 34: ranks that die, a hub that dies, and ranks that do not do the same; nobody is held for ever."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import FULL, running, wait_for
from tests.ranks.job import ACCUMULATED, Job
from tests.ranks.test_agreed import end_as_plain

if TYPE_CHECKING:
    from tests.conftest import Home


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=FULL)])
@pytest.mark.parametrize("state", ["paused", pytest.param("pausing", marks=FULL), pytest.param("running", marks=FULL)])
def test_a_dead_rank_is_named_and_nobody_is_left(home: Home, state: str, rank: int) -> None:
    job = Job(home, 2)
    job.wait_training()
    pid = job.pids()[rank]
    if state == "paused":
        job.do("pause")
        job.held()
    elif state == "pausing":  # one that does not answer the proposal, and dies then
        os.kill(pid, signal.SIGSTOP)
        job.post("pause", "p")
        job.home.wait_state("pausing")
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    job.wait_end(35.0)
    assert job.process.returncode != 0
    wait_for("the end of the session", lambda: (home.session() or {})["state"] in ("crashed", "stopped", "ended"))
    assert time.monotonic() - begun < 35
    told = [notice["text"] for notice in home.wait_state("crashed", "stopped", "ended")["notices"]]
    assert any(text.startswith(f"rank {rank} is gone") for text in told), told


@FULL
@pytest.mark.parametrize("state", ["paused", "running", "pausing"])
def test_a_hub_that_is_killed_leaves_nobody_undecided(home: Home, state: str) -> None:
    """The ranks start another one, which knows who is paused, and training ends with the bits of the plain run."""
    job = Job(home, 2)
    job.wait_training()
    hub = home.hub()["pid"]
    if state == "paused":
        job.do("pause")
        job.held()
    elif state == "pausing":  # one rank holds undecided, the other does not answer
        os.kill(job.pids()[1], signal.SIGSTOP)
        job.post("pause", "p")
        home.wait_state("pausing")
    os.kill(hub, signal.SIGKILL)
    wait_for("its end", lambda: not running(hub))
    if state == "pausing":
        os.kill(job.pids()[1], signal.SIGCONT)
    wait_for("another hub", lambda: (home.hub_file() or {}).get("pid") not in (None, hub), 30)
    wait_for("both ranks in it", lambda: (now := home.session()) is not None
             and [rank["connected"] for rank in now["ranks"] if rank["trains"]] == [True, True])  # fmt: skip
    if state == "paused":
        job.held()
        job.do("resume")
    begun = min(steps[-1] for steps in job.written())
    wait_for("its steps", lambda: min(steps[-1] for steps in job.written()) > begun + 20)
    job.do("pause")
    job.held()
    job.do("resume")
    end_as_plain(job, {})


@FULL
def test_gradients_that_are_accumulated_at_different_speeds(home: Home) -> None:
    """A step has four backward calls, three of them without a collective; one rank takes three times as long."""
    job = Job(home, 2, ACCUMULATED, uneven=2)
    job.wait_training()
    for _ in range(5):
        assert job.do("pause")["step"] == job.held()
        job.do("resume")
    end_as_plain(job, {})


@FULL
@pytest.mark.parametrize("cycles", [20])
def test_ranks_without_a_collective_in_their_steps(home: Home, cycles: int) -> None:
    """Nothing but us keeps the fast one from running ahead of the slow one by ever more steps."""
    job = Job(home, 2, ddp=False, uneven=3)
    job.wait_training()
    lr: dict[int, float] = {}
    for number in range(cycles):
        assert job.do("pause")["step"] == job.held()
        answer = job.do("set", name="lr", value=0.1 / (number + 2))
        lr[answer["step"]] = 0.1 / (number + 2)
        job.do("resume")
    end_as_plain(job, lr)


@FULL
def test_one_that_has_ended_holds_nobody(home: Home) -> None:
    """The fast one is through while the slow one trains: what it has accepted is not waited for."""
    job = Job(home, 2, ddp=False, uneven=8, ends=400)
    job.wait_training()
    wait_for("the end of one", lambda: "ended" in {rank["state"] for rank in home.get("sessions/last")["ranks"]})
    answer = job.do("pause")
    assert len(job.written()[1]) == answer["step"] < 400
    job.do("resume")
    job.wait_end()
    assert job.process.returncode == 0
    assert job.written() == [list(range(400))] * 2


@FULL
def test_checkpoint_and_rewind_of_all_ranks(home: Home) -> None:
    """Each in its own process and folder, all at one step: what follows has the bits of the first time."""
    job = Job(home, 2)
    job.wait_training()
    refused = job.send("subset", mode="exclude", samples=[1])
    assert refused["status"] == "refused"
    assert refused["reason"].endswith("a subset would give them batches of different number, and hang the job")
    job.do("pause")
    made = job.do("checkpoint")
    name = made["result"]["checkpoint"]
    assert name == f"baseline-{made['step']}"
    wait_for("its files", lambda: [
        row["state"] for row in home.get("sessions/last")["controls"]["checkpoints"]] == ["durable"])  # fmt: skip
    folder = home.data / "sessions" / home.get("sessions/last")["id"]
    assert (folder / "checkpoints" / name / "manifest.json").exists()
    assert (folder / "rank1" / "checkpoints" / name / "manifest.json").exists()
    job.do("step", steps=7)
    wait_for("its steps", lambda: home.get("sessions/last")["state"] == "paused" and job.held() == made["step"] + 7)
    back = job.do("rewind")
    assert back["result"] == {"checkpoint": name, "step": made["step"], "epoch": 0}
    job.do("resume")
    wait_for("more steps", lambda: min(steps[-1] for steps in job.written()) > made["step"] + 20)
    stop = job.do("stop")
    job.wait_end()
    again = list(range(made["step"] + 7))
    assert [steps[: len(again)] for steps in job.written()] == [again] * 2
    assert [steps[len(again) :] for steps in job.written()] == [list(range(made["step"], stop["step"]))] * 2
    assert job.plain(stop["step"], {}).code == 0
    assert job.states() == job.states("plain")
