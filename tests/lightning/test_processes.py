"""Lightning in processes of its own: pause, resume and stop from the command line; ranks that it starts itself."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.conftest import FULL, wait_for
from tests.lightning import scripts
from tests.loops import digest

if TYPE_CHECKING:
    from tests.conftest import Home

EPOCHS, BATCHES = 40, 8


def ctl(home: Home, name: str) -> dict[str, Any]:
    """``onthefly ctl last NAME``."""
    ended = home.python("-m", "onthefly", "ctl", "last", name, "--json")
    assert ended.code == 0, ended.err.decode() + ended.out.decode()
    return json.loads(ended.out)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["launcher", pytest.param("attach", marks=FULL)])
def test_paused_and_resumed_it_ends_with_the_same_bits(home: Home, way: str) -> None:
    (home.folder / "s.py").write_text(scripts.ENDLESS)
    plain = home.python("s.py", str(EPOCHS), "plain.pt")
    assert (plain.code, plain.err) == (0, b"")
    start, rest = (["-m", "onthefly", "s.py"], []) if way == "launcher" else (["s.py"], ["attach"])
    process = home.start(sys.executable, *start, str(EPOCHS), f"{way}.pt", *rest, ONTHEFLY_STRICT="1")
    name = "s.py" if way == "launcher" else "lit"
    wait_for("its steps", lambda: (now := home.session()) and now["name"] == name and now["step"] > 0)
    assert ctl(home, "pause")["status"] == "applied"
    held = home.wait_state("paused")["step"]
    assert 0 < held < EPOCHS * BATCHES
    assert ctl(home, "resume")["status"] == "applied"
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == plain.out.splitlines()[-1] == f"batches {EPOCHS * BATCHES}".encode()
    assert (b"label 0 test_1" in out) == (way == "attach")
    states = [torch.load(home.folder / f"{one}.pt", weights_only=True) for one in ("plain", way)]
    assert digest(states[0]) == digest(states[1])
    info = home.wait_state("ended")
    assert info["backwards"] == info["step"] == EPOCHS * BATCHES
    assert info["samples"] == EPOCHS * BATCHES * 8
    assert {"train_loss", "val_loss"} <= set(info["metrics"])
    assert (info["name"], info["run"]) == (name, "baseline" if way == "launcher" else "lit")
    assert [notice["text"] for notice in info["notices"]] == []


def test_stopped_it_ends_as_lightning_ends(home: Home) -> None:
    """Hooks for an exception run, no test does, and the exit code is 0."""
    told = scripts.ENDLESS.replace("how.fit(", "module.on_exception = print\nhow.fit(")
    (home.folder / "s.py").write_text(told)
    process = home.start(sys.executable, "s.py", "100000", "ours.pt", "attach")
    home.wait_step(1)
    assert ctl(home, "stop")["status"] == "applied"
    out, err = process.communicate(timeout=60)
    assert (process.returncode, b"label" in out) == (0, False), err
    assert not (home.folder / "ours.pt").exists()
    assert home.wait_state("stopped")["by"]


STRATEGIES = [
    pytest.param("ddp", marks=FULL),
    pytest.param("ddp_spawn", marks=FULL),
    pytest.param("ddp_fork", marks=FULL),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ranks_that_lightning_starts_are_one_session(home: Home, strategy: str) -> None:
    (home.folder / "s.py").write_text(scripts.RANKS)
    plain = home.python("s.py", strategy)
    sums = sorted(re.findall(rb"sum \d (\S+)", plain.out))
    assert sums
    for way, start in (("launcher", ["-m", "onthefly", "s.py", strategy]), ("attach", ["s.py", strategy, "attach"])):
        ours = home.python(*start, ONTHEFLY_STRICT="1", timeout=200)
        assert (plain.code, ours.code) == (0, 0), ours.err.decode()
        assert ours.err.count(b"onthefly: session") == 1
        assert sorted(re.findall(rb"sum \d (\S+)", ours.out)) == sums
        labels = sorted(re.findall(rb"label (\d) (\w+)", ours.out))
        assert labels == ([] if way == "launcher" else [(b"0", b"test_1"), (b"1", b"test_1")])
        home.wait_state("ended")
        info = wait_for("all of it", lambda: (now := home.session()) and now["backwards"] == 16 and now)
        assert len(home.get("sessions")["sessions"]) == (1 if way == "launcher" else 2)
        check(home, info, "rank 0" if way == "attach" or strategy != "ddp" else "")


def check(home: Home, info: dict[str, Any], first: str) -> None:
    """Both ranks are there under their names, with all that they trained on and logged."""
    # A set: where Lightning spawns or forks ranks, it does so anew for the test.
    training = sorted({(rank["rank"], rank["name"]) for rank in info["ranks"] if rank["trains"]})
    assert training == [(0, first), (1, "rank 1")]
    assert info["world_size"] == 2
    assert info["samples"] == 2 * 64
    rows = home.get("sessions/last/samples?format=json")
    for epoch in range(2):
        assert sorted(row["sample"] for row in rows if row["epoch"] == epoch) == list(range(64))
    assert {row["certificate"] for row in rows} == {"exact"}
    names = {(row["rank"], row["name"]) for row in home.get("sessions/last/metrics")}
    assert {(0, "train_loss"), (1, "train_loss"), (0, "val_loss")} <= names


@FULL  # ranks of torchrun are, on every push, in tests/ranks/test_agreed.py
def test_two_ranks_are_paused_at_one_step(home: Home) -> None:
    """By the one command, wherever each of them is; and both go on with what they had."""
    (home.folder / "s.py").write_text(scripts.TRAIN + """
def note(outputs, batch, batch_idx):
    with open(f"rank-{how.global_rank}", "a") as file:
        print(how.global_step, file=file)
if __name__ == "__main__":
    torch.manual_seed(0)
    module, how = Module(), trainer(strategy="ddp", devices=2, max_epochs=10**6)
    module.on_train_batch_end = note
    how.fit(module, loader(), loader())
""")  # fmt: skip
    process = home.start(sys.executable, "-m", "onthefly", "s.py", ONTHEFLY_STRICT="1")
    wait_for("both train", lambda: (now := home.session()) and sum(rank["trains"] for rank in now["ranks"]) == 2, 90)
    for _ in range(3):
        answer = ctl(home, "pause")
        assert answer["status"] == "applied"
        ranks = home.wait_state("paused")["ranks"]
        assert {rank["step"] for rank in ranks if rank["trains"]} == {answer["step"]}
        steps = [int((home.folder / f"rank-{rank}").read_text().split()[-1]) for rank in range(2)]
        assert steps == [answer["step"] - 1] * 2  # Lightning's own word of the step at which it is held comes after it
        assert ctl(home, "resume")["status"] == "applied"
    assert ctl(home, "stop")["status"] == "applied"
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert home.wait_state("stopped")["by"]
