"""A fork is what the script's own step makes of those samples, and the run that it left goes on as if it never was."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.protocol import Journaled
from onthefly.state import files
from tests.conftest import FULL
from tests.insight import scripts
from tests.insight.played import Asked, ask

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.dear

QUICK = ("gan", "lbfgs", "vae")
KINDS = [name.lower() for name in vars(scripts) if name.isupper() and name not in ("HEAD", "TAIL")]

SPECIALIST = """
import copy, json, sys, torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x, y = torch.randn(60, 6), torch.randint(0, 3, (60,))
net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3))
optimizer = torch.optim.Adam(net.parameters(), 0.01, weight_decay=0.01)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
valid_loader = DataLoader(TensorDataset(x[:30] + 0.1, y[:30]), batch_size=16)
step = 0
for epoch in range(4):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs), targets)
        loss.backward()
        optimizer.step()
        step += 1
        if len(sys.argv) > 1 and step == int(sys.argv[1]):
            # By hand what the fork at this moment does: half the rate, samples 5 to 44, 7 steps in its order.
            twin, random = copy.deepcopy((net, optimizer)), torch.get_rng_state()
            theirs, stepping = twin
            stepping.param_groups[0]["lr"] *= 0.5
            own, order, losses = torch.Generator().manual_seed(3), [], []
            while len(losses) < 7:
                if not order:
                    drawn = [5 + place for place in torch.randperm(40, generator=own).tolist()]
                    order = [drawn[0:13], drawn[13:26], drawn[26:40]]
                batch = order.pop(0)
                stepping.zero_grad()
                loss = F.cross_entropy(theirs(x[batch]), y[batch])
                loss.backward()
                stepping.step()
                losses.append(loss.item())
            torch.set_rng_state(random)
            state = {name: value.double().sum().item() for name, value in theirs.state_dict().items()}
            json.dump({"losses": losses, "state": state}, open(sys.argv[2], "w"))
        print(step, loss.item())
    scheduler.step()
"""

NARROW = {"samples": list(range(5, 45)), "steps": 7, "seed": 3}


def forked(folder: Path, source: str, fork: dict[str, Any], then: list[tuple[str, dict[str, Any]]], *argv: str) -> Any:
    """The script, forked at its fifth pause point, then these commands; and plainly."""
    at = {2: [("pause", {}), ("fork", fork)], 4: [*then, ("resume", {})]}
    return ask(folder, source, at, *argv)


def fork_of(asked: Asked) -> dict[str, Any]:
    """What the journal says of the fork."""
    (entry,) = [one.entry for one in asked.messages if isinstance(one, Journaled) and one.entry.name == "fork"]
    return entry.after


def test_a_fork_takes_the_steps_of_a_loop_by_hand(tmp_path: Path) -> None:
    brute = tmp_path / "brute.json"
    rate = 0.01 * 0.99 * 0.5  # the scheduler has stepped once
    fork = {**NARROW, "settings": {"lr": rate}}
    asked, _ = forked(tmp_path, SPECIALIST, fork, [("switch", {"run": "baseline"})], "5", str(brute))
    by_hand = json.loads(brute.read_text())
    calls = asked.run.losses()["fork1"][:7]
    assert [loss for _, _, loss, _ in calls] == by_hand["losses"]
    assert [step for step, *_ in calls] == list(range(5, 12))
    assert sorted(sample for call in calls[:3] for sample in call[3]) == NARROW["samples"]
    assert fork_of(asked) == {"run": "fork1", "steps": 7, "samples": 40}


def test_the_scripts_loop_goes_on_with_the_fork(tmp_path: Path) -> None:
    asked, plain = forked(tmp_path, SPECIALIST, NARROW, [])
    calls = asked.run.losses()
    assert [step for step, *_ in calls["fork1"]] == list(
        range(5, 5 + 7 + 11)
    )  # seven of its own, and the script's rest
    assert len(asked.run.out.splitlines()) == len(plain.out.splitlines()) == 16
    assert asked.run.out.splitlines()[:4] == plain.out.splitlines()[:4]
    assert asked.run.out.splitlines()[5:] != plain.out.splitlines()[5:]
    # The rest of the epoch; the next one's order is drawn by torch's generator, which dropout has used in the fork.
    assert [samples for *_, samples in calls["fork1"][7:10]] == _rest(tmp_path)


def _rest(folder: Path) -> list[list[int]]:
    """Samples of the batches after the fifth, of a run that is only watched: the fork takes none of them away."""
    again = folder / "again"
    again.mkdir()
    asked, _ = ask(again, SPECIALIST, {})
    return [samples for *_, samples in asked.run.losses()["baseline"][5:8]]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind in QUICK else [FULL]) for kind in KINDS])
def test_the_run_that_was_left_goes_on_as_if_there_were_no_fork(tmp_path: Path, kind: str) -> None:
    source = scripts.HEAD + getattr(scripts, kind.upper()) + scripts.TAIL
    at: Any = {place: [("switch", {"run": "baseline"}), ("resume", {})] for place in range(3, 9)}  # wherever it is held
    at[2] = [("pause", {}), ("fork", {"steps": 3, "optimizer": 0})]
    asked, plain = ask(tmp_path, source, at)
    assert asked.answers[1].status == "applied", asked.answers[1]
    switched = [answer.step for answer in asked.answers if answer.result.get("run") == "baseline"]
    assert len(switched) == 1, asked.answers
    assert fork_of(asked)["steps"] == 3
    assert asked.run.out == plain.out
    assert asked.run.hashes == plain.hashes


def test_runs_are_left_and_taken_up_in_turn(tmp_path: Path) -> None:
    turns = [
        ("fork", {**NARROW, "name": "second", "settings": {"lr": 0.1}}), ("switch", {"run": "fork1"}),
        ("fork", {"epochs": 2, "samples": [1, 2, 3]}), ("switch", {"run": "second"}), ("switch", {"run": "baseline"}),
    ]  # fmt: skip
    asked, plain = forked(tmp_path, SPECIALIST, NARROW, turns)
    assert [answer.status for answer in asked.answers] == ["applied"] * 8
    assert asked.run.out == plain.out
    assert asked.run.hashes == plain.hashes
    calls = asked.run.losses()
    assert {run: len(found) for run, found in calls.items()} == {"baseline": 16, "fork1": 7, "second": 7, "fork2": 2}
    branches = {one.branch.run: one.branch for one in asked.messages if getattr(one, "branch", None) is not None}
    assert {run: branch.parent for run, branch in branches.items()} == {
        "fork1": "baseline", "second": "fork1", "fork2": "fork1"
    }  # fmt: skip
    assert branches["second"].changes == {"lr": 0.1}
    assert branches["fork1"].budget == "7 steps"
    assert branches["fork2"].step == 12


def test_a_fork_from_a_checkpoint_begins_there(tmp_path: Path) -> None:
    brute = tmp_path / "brute.json"
    fork = {**NARROW, "checkpoint": "early", "optimizer": 0, "settings": {"lr": 0.01 * 0.99 * 0.5}}
    at = {  # after the checkpoint come the seven steps by hand
        4: [("checkpoint", {"name": "early"})], 12: [("pause", {}), ("fork", fork)],
        14: [("switch", {"run": "baseline"}), ("resume", {})],
    }  # fmt: skip
    asked, plain = ask(tmp_path, SPECIALIST, at, "5", str(brute))
    assert asked.run.hashes == plain.hashes
    assert [loss for _, _, loss, _ in asked.run.losses()["fork1"]] == json.loads(brute.read_text())["losses"]


REFUSED = {
    "empty selection": ({"select": "worst=1", "samples": []}, "holds no sample"),
    "no such sample": ({"samples": [4000]}, "none of these samples"),
    "missing checkpoint": ({"checkpoint": "nowhere"}, "no checkpoint 'nowhere'"),
    "no such loader": ({"loader": "other"}, "no loader 'other'"),
    "no such optimizer": ({"optimizer": 3}, "no optimizer 3"),
    "no budget": ({"steps": 0}, "steps"),
    "negative time": ({"minutes": -1.0}, "minutes"),
    "a name twice": ({"name": "baseline"}, "a run 'baseline' already"),
    "processes": ({"parallel": True}, "not in this version"),
}


def test_what_cannot_be_forked_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    asked_for = [("fork", given) for given, _ in REFUSED.values()]
    asked, plain = ask(tmp_path, SPECIALIST, {2: [("pause", {}), *asked_for, ("resume", {})]})
    for (what, (_, reason)), answer in zip(REFUSED.items(), asked.answers[1:]):
        assert answer.status == "refused", (what, answer)
        assert reason in answer.reason, (what, answer)
    assert asked.answers[-1].status == "applied"
    assert asked.run.hashes == plain.hashes
    assert asked.run.out == plain.out
    assert list(asked.run.losses()) == ["baseline"]


def test_a_setting_that_is_none_ends_the_fork_before_it_began(tmp_path: Path) -> None:
    asked, plain = forked(tmp_path, SPECIALIST, {**NARROW, "settings": {"lr": 0.1, "speed": 3.0}}, [])
    said = [one.reason for one in asked.messages if type(one).__name__ == "StateChanged" and one.state == "paused"]
    assert any("no parameter group has a number called 'speed'" in reason for reason in said), said
    assert asked.run.hashes == plain.hashes
    assert asked.run.out == plain.out
    assert asked.run.commander.controls().runs == []


def test_a_fork_whose_loss_is_not_finite_any_more_says_so(tmp_path: Path) -> None:
    asked, plain = forked(tmp_path, SPECIALIST, {**NARROW, "steps": 4000, "settings": {"lr": 1e38}},
                          [("switch", {"run": "baseline"})])  # fmt: skip
    branch = [one.branch for one in asked.messages if getattr(one, "branch", None) is not None][-1]
    assert "not finite any more" in branch.verdict
    assert asked.run.hashes == plain.hashes


def test_a_run_that_is_not_there_cannot_be_switched_to(tmp_path: Path) -> None:
    asked, plain = ask(tmp_path, SPECIALIST, {2: [("pause", {}), ("switch", {"run": "fork9"}), ("resume", {})]})
    assert asked.answers[1].status == "refused"
    assert "no run 'fork9'" in asked.answers[1].reason
    assert asked.run.hashes == plain.hashes


def test_on_a_full_disk_a_fork_is_in_memory_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(parent: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "prepare", full)
    asked, plain = forked(tmp_path, SPECIALIST, NARROW, [("switch", {"run": "baseline"})])
    assert asked.answers[-2].status == "applied", asked.answers
    assert asked.run.hashes == plain.hashes
    rows = asked.run.commander.controls().checkpoints
    assert {row.state for row in rows} == {"failed"}
    assert all("No space left on device" in row.fault for row in rows)


def test_a_run_is_taken_up_where_it_was_left_although_the_loop_went_on(tmp_path: Path) -> None:
    at: Any = {
        2: [("pause", {}), ("fork", {**NARROW, "settings": {"lr": 0.05}})], 4: [("resume", {})],
        5: [("pause", {}), ("switch", {"run": "baseline"}), ("resume", {})],
    }  # fmt: skip
    asked, plain = ask(tmp_path, SPECIALIST, at)
    assert [answer.status for answer in asked.answers] == ["applied"] * 6, asked.answers
    assert asked.run.hashes[5:] == plain.hashes[4:]
    lines = plain.out.splitlines()
    assert asked.run.out.splitlines() == [*lines[:4], *asked.run.out.splitlines()[4:5], *lines[4:]]
    assert [step for step, *_ in asked.run.losses()["baseline"]] == list(range(16))


def test_a_run_of_an_earlier_epoch_cannot_be_taken_up_in_place(tmp_path: Path) -> None:
    at: Any = {
        2: [("pause", {}), ("fork", NARROW)], 4: [("resume", {})],
        9: [("pause", {}), ("switch", {"run": "baseline"}), ("resume", {})],
    }  # fmt: skip
    asked, _ = ask(tmp_path, SPECIALIST, at)
    assert [answer.status for answer in asked.answers] == [
        "applied",
        "applied",
        "applied",
        "applied",
        "refused",
        "applied",
    ]
    assert asked.answers[4].reason
    assert list(asked.run.losses()) == ["baseline", "fork1"]
    assert len(asked.run.out.splitlines()) == 16


AUGMENTED = SPECIALIST.replace(
    "loader = DataLoader(TensorDataset(x, y)",
    """
class Noisy(torch.utils.data.Dataset):
    def __len__(self):
        return len(x)

    def __getitem__(self, index):
        return x[index] + 0.1 * torch.randn(6), y[index]

loader = DataLoader(Noisy()""",
)


@pytest.mark.parametrize("later", [False, True])
def test_augmented_batches_are_never_another_runs(tmp_path: Path, later: bool) -> None:
    switch: list[tuple[str, dict[str, Any]]] = [("switch", {"run": "baseline"}), ("resume", {})]
    at: Any = {2: [("pause", {}), ("fork", NARROW)], 4: switch}
    if later:  # the script has fetched a batch for the fork, with its random numbers
        at = {**at, 4: [("resume", {})], 5: [("pause", {}), *switch]}
    asked, plain = ask(tmp_path, AUGMENTED, at)
    answer = next(one for one in asked.answers if one.status == "refused" or one.result.get("run") == "baseline")
    assert answer.status == ("refused" if later else "applied"), answer
    assert ("random numbers" in answer.reason) == later
    assert (asked.run.hashes == plain.hashes) != later


FAILING = AUGMENTED.replace("x[index] + 0.1 * torch.randn(6)", "self.counted(x[index])").replace(
    "    def __len__",
    """
    count = 0

    def counted(self, row):
        self.count += 1
        if self.count > 241:  # the whole training takes 240
            raise OSError("the disk is gone")
        return row

    def __len__""",
)


def test_data_that_fail_end_a_fork_and_nothing_has_changed(tmp_path: Path) -> None:
    asked, plain = forked(tmp_path, FAILING, {"epochs": 30}, [])
    said = [one.reason for one in asked.messages if type(one).__name__ == "StateChanged" and one.state == "paused"]
    assert any("the fork was not made: the fork failed: OSError: the disk is gone" in reason for reason in said), said
    assert asked.run.hashes == plain.hashes
    assert asked.run.out == plain.out
    branch = [one.branch for one in asked.messages if getattr(one, "branch", None) is not None][-1]
    assert branch.run == "fork1"
    assert branch.verdict.startswith("it failed: the fork failed: OSError: the disk is gone")


DRAWING = AUGMENTED.replace("torch.randn(6)", "torch.randn(6, generator=self.own)").replace(
    "    def __len__", "    own = torch.Generator().manual_seed(5)\n\n    def __len__"
)


COUNTING = FAILING.replace("> 241", "> 2400").replace("return row", "return row + 0.01 * (self.count % 7)")


@pytest.mark.parametrize(
    "source", [COUNTING, DRAWING.replace("    own =", "    def __init__(self):\n        self.own =")]
)
def test_a_data_set_draws_and_counts_on_as_if_there_were_no_fork(tmp_path: Path, source: str) -> None:
    at: Any = {2: [("pause", {}), ("fork", NARROW)], 4: [("switch", {"run": "baseline"}), ("scan", {}), ("resume", {})]}
    asked, plain = ask(tmp_path, source, at)
    assert [answer.status for answer in asked.answers] == ["applied"] * 5, asked.answers
    assert asked.run.hashes == plain.hashes
    assert asked.run.out == plain.out
