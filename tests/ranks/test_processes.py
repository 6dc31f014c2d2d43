"""Row 33 and the ranks of a job: every process that trains is in the one session, under its name; no other is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import FULL, children, running, wait_for
from tests.ranks import scripts

if TYPE_CHECKING:
    from tests.conftest import Ended, Home

TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
CALLS, SAMPLES = 8, 128
"""Of each process that trains."""


def run(home: Home, script: str, *command: str, processes: int = 2) -> tuple[Ended, dict[str, Any]]:
    """Run a script under us, in the way given; how it ended, and its session, when all that trained are in it."""
    (home.folder / "s.py").write_text(script)
    ended = home.run(sys.executable, "-m", "onthefly", *command, ONTHEFLY_STRICT="1")
    assert ended.code == 0, ended.err.decode()
    home.wait_state("ended")
    # Where the hub was up later than they ended, it reads what each of them left on disk, one after the other.
    return ended, wait_for(
        "all of it", lambda: (now := home.session()) and now["backwards"] == CALLS * processes and now
    )


def trained(session: dict[str, Any]) -> list[tuple[int, str]]:
    """Number and name of the processes that trained, all of which have ended as they should."""
    ranks = [rank for rank in session["ranks"] if rank["trains"]]
    assert {rank["state"] for rank in session["ranks"]} == {"ended"}
    assert all(rank["step"] == CALLS for rank in ranks)
    return sorted((rank["rank"], rank["name"]) for rank in ranks)


def assert_complete(home: Home, session: dict[str, Any], processes: int) -> None:
    """All calls of all processes are there once, with every sample's index."""
    assert session["backwards"] == CALLS * processes
    assert session["samples"] == SAMPLES * processes
    rows = home.get("sessions/last/samples")
    by_rank: dict[int, list[tuple[int, int]]] = {}
    for row in rows:
        by_rank.setdefault(row["rank"], []).append((row["backward"], row["sample"]))
    assert len(by_rank) == processes
    for found in by_rank.values():
        assert [call for call, _ in found] == [call for call in range(CALLS) for _ in range(16)]
        assert sorted(sample for _, sample in found) == sorted([*range(64), *range(64)])


def test_ranks_of_torchrun_are_one_session(home: Home) -> None:
    ended, session = run(home, scripts.TORCHRUN, "run", "--", TORCHRUN, "--nproc_per_node", "2", "s.py")
    assert ended.err.count(b"onthefly: session") == 1
    assert trained(session) == [(0, "rank 0"), (1, "rank 1")]
    assert session["world_size"] == 2
    assert_complete(home, session, 2)
    names = {row["name"] for row in home.get("sessions/last/metrics") if row["rank"] == 1}
    assert {"loss", "lr", "step_ms"} <= names
    log = "".join(entry["text"] for entry in home.get("sessions/last/logs")["entries"])
    assert "trained 0" in log
    assert "trained 1" in log


def test_spawned_ranks(home: Home) -> None:
    _, session = run(home, scripts.SPAWNED_RANKS, "s.py")
    assert trained(session) == [(0, "rank 0"), (1, "rank 1")]
    assert_complete(home, session, 2)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=FULL), pytest.param("forkserver", marks=FULL)])
def test_hogwild_children_are_named(home: Home, method: str) -> None:
    _, session = run(home, scripts.HOGWILD, "s.py", method)
    assert sorted(name for _, name in trained(session)) == ["Process-1", "Process-2"]
    assert_complete(home, session, 2)


def test_a_child_of_os_fork(home: Home) -> None:
    _, session = run(home, scripts.FORKED, "s.py")
    (_, first), (_, second) = trained(session)
    assert first == ""
    assert second.startswith("process ")
    assert_complete(home, session, 2)


@FULL
def test_children_that_do_not_train_are_nobodys_business(home: Home) -> None:
    ended, session = run(home, scripts.IDLE, "s.py", processes=1)
    plain = home.python("s.py")
    assert ended.out == plain.out
    assert trained(session) == [(0, "")]


@pytest.mark.parametrize("protected", [True, pytest.param(False, marks=FULL)])
def test_forked_workers_hold_nothing_of_ours(home: Home, protected: bool) -> None:
    """A worker lives on for 5 s after its script was killed; its copy of our socket would hide that from the hub."""
    without = "" if protected else "import onthefly.link.link as l; l.Link.abandon = lambda self: None\n"
    endless = scripts.TRAIN.replace("range(2)", "range(100000)")
    (home.folder / "s.py").write_text(f"{endless}{without}train(0, nn.Linear(6, 4), rows=100000, workers=2)\n")
    process = home.start(sys.executable, "-m", "onthefly", "s.py")
    home.wait_step(5)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.wait(10)
    assert home.wait_state("crashed")["reason"] == "the process is gone"
    assert any(running(pid) for pid in workers) == protected
