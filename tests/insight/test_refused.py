"""What cannot be done is refused with its reason, or told as partial; and the run goes on as if nothing had been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.insight import scripts
from tests.insight.played import ask
from tests.insight.test_kinds import ON, played, unchanged

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.dear

LOOP = """
x, y = torch.randn(60, 8), torch.randint(0, 3, (60,))
net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
optimizer = torch.optim.SGD(net.parameters(), 0.1)
{before}
loader = DataLoader({data}, batch_size=10, shuffle=True)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        {step}
        loss.backward()
        optimizer.step()
        print(loss.item())

def brute():
    return []
"""
PLAIN = {"before": "", "data": "TensorDataset(x, y)", "step": "loss = F.cross_entropy(net(inputs), targets)"}

UNTRACEABLE = {
    "a value that leaves": (
        {"step": "out = net(inputs); scale = 2.0 if out.sum().item() > 0 else 1.0; "
                 "loss = F.cross_entropy(out, targets) * scale"},
        "left the tensors before the loss was there",
    ),
    "a state that is carried": (
        {"before": "class Carried: last = torch.zeros(3)",
         "step": "out = net(inputs); loss = F.cross_entropy(out + Carried.last, targets); Carried.last = out.data[0]"},
        "does not give real steps again",
    ),
    "no batch of a loader": (
        {"step": "loss = F.cross_entropy(net(x[:10]), y[:10])"}, "no loss was seen that depends on a batch",
    ),
    "a random number of Python's": (
        {"before": "import random", "step": "loss = F.cross_entropy(net(inputs * random.random()), targets)"},
        "does not give real steps again",
    ),
    "a tensor that is written to": (
        {"before": "total = torch.zeros(10, 3)",
         "step": "out = net(inputs); total.add_(out.detach()); loss = F.cross_entropy(out + total, targets)"},
        "writes into a tensor of the script's own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_a_step_that_cannot_be_traced(tmp_path: Path, name: str) -> None:
    changed, reason = UNTRACEABLE[name]
    asked = played(tmp_path, LOOP.format(**{**PLAIN, **changed}), ("scan", {}))
    done = asked.evaluations["scan_1"]
    assert reason in done.reason
    assert "register(test=fn, step=fn)" in done.reason
    assert (done.partial, done.verified, done.count) == (True, False, 0)
    assert asked.losses("scan_1") == {}


def test_a_value_that_leaves_afterwards_does_not_matter(tmp_path: Path) -> None:
    step = "loss = F.cross_entropy(net(inputs), targets); right = (net[4].weight.sum() > 0).item(); n = len(inputs)"
    asked = played(tmp_path, LOOP.format(**{**PLAIN, "step": step}), ("scan", {}))
    assert asked.evaluations["scan_1"].count == 60


def test_a_size_that_leaves_is_kept(tmp_path: Path) -> None:
    step = "loss = F.cross_entropy(net(inputs) + torch.zeros(len(inputs), 1), targets)"
    source = LOOP.format(**{**PLAIN, "step": step}).replace("batch_size=10", "batch_size=14")
    asked = played(tmp_path, source, ("scan", {}))
    done = asked.evaluations["scan_1"]
    assert not done.partial, done.reason
    assert asked.losses("scan_1").keys() == set(range(60)), "the short last batch is filled up"


BROKEN = """
class Broken(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, place):
        if place == 37 and len(taken) > 4 and Broken.fails:
            raise OSError("the disk is gone")
        return x[place], y[place]

Broken.fails = False
"""


def test_a_data_set_that_raises_half_way(tmp_path: Path) -> None:
    source = LOOP.format(**{**PLAIN, "before": BROKEN}) + "\n"
    source = source.replace("loader = DataLoader", "other = DataLoader(Broken(), batch_size=10)\nloader = DataLoader")
    source = source.replace("print(loss.item())", "after_step(net); Broken.fails = True; print(loss.item())")
    source = source.replace("len(taken) > 4 and ", "")
    asked = played(tmp_path, source.replace("def brute():", "def brute(*states):"), ("scan", {"loader": "other"}))
    done = asked.evaluations["scan_1"]
    assert done.partial
    assert done.reason == "after 30 samples: OSError: the disk is gone"
    assert asked.column("scan_1", "sample", "q") == list(range(30))
    assert done.how.startswith("recipe, reproduced 3 of 3")


def test_out_of_memory(tmp_path: Path) -> None:
    source = BROKEN.replace('OSError("the disk is gone")', 'torch.OutOfMemoryError("tried to allocate 2 TiB")')
    source = LOOP.format(**{**PLAIN, "before": source}).replace("len(taken) > 4 and ", "")
    source = source.replace(
        "loader = DataLoader", "other = DataLoader(Broken(), batch_size=10)\nloader = DataLoader", 1
    )
    source = source.replace("print(loss.item())", "Broken.fails = True; print(loss.item())")
    done = played(tmp_path, source, ("scan", {"loader": "other"})).evaluations["scan_1"]
    assert done.reason.startswith("out of memory after 30 samples (OutOfMemoryError: tried to allocate 2 TiB)")


def test_what_is_refused_at_once(tmp_path: Path) -> None:
    source = LOOP.format(**PLAIN)
    asked, plain = ask(tmp_path, scripts.HEAD + source + scripts.TAIL, {
        1: [("scan", {})],
        2: [("pause", {}), ("test", {}), ("scan", {"loader": "nothing"}), ("scan", {"checkpoint": "nothing"}),
            ("test", {"using": "registered"}), ("scan", {"samples": [77]}), ("resume", {})],
        **ON,
    })  # fmt: skip
    unchanged(asked, plain)
    told = [(answer.status, answer.reason) for answer in asked.answers]
    assert told[0] == ("refused", "a scan is made at a pause")
    assert told[2][1] == "there is no loader to test on but the one that is trained on"
    assert told[3][1] == "there is no loader 'nothing'"
    assert "no checkpoint" in told[4][1]
    assert "no loader to test on" in told[5][1]
    assert told[6][1] == "none of these samples is in loader0"
    assert asked.evaluations == {}


def test_the_end_comes_first(tmp_path: Path) -> None:
    source = LOOP.format(**PLAIN)
    asked, plain = ask(tmp_path, scripts.HEAD + source, {17: [("pause", {}), ("scan", {})]})
    unchanged(asked, plain)
    assert asked.evaluations["scan_1"].reason == "the script ended before its steps were done"


def test_cancelled_half_way(tmp_path: Path) -> None:
    before = """
from onthefly import sessions
from onthefly.protocol import Command

class Watched(TensorDataset):
    cancels = False

    def __getitem__(self, place):
        if place == 37 and Watched.cancels:
            sessions.current()._control.take(Command(n=99, id="99", name="cancel", args={}, by="bob"))
        return super().__getitem__(place)

other = DataLoader(Watched(x, y), batch_size=10)
"""
    source = LOOP.format(**{**PLAIN, "before": before}).replace("print(loss", "Watched.cancels = True; print(loss")
    asked, plain = ask(tmp_path, source_of(source), {2: [("pause", {}), ("scan", {"loader": "other"})], **ON})
    unchanged(asked, plain)
    done = asked.evaluations["scan_1"]
    assert (done.partial, done.reason, done.count) == (True, "cancelled after 30 samples", 30)
    assert next(answer for answer in asked.answers if answer.id == "99").result == {"cancelled": "scan_1"}


def test_cancelled_while_it_waits_for_steps(tmp_path: Path) -> None:
    asked, plain = ask(tmp_path, source_of(LOOP.format(**PLAIN)), {
        **ON, 2: [("pause", {}), ("scan", {})], 3: [("cancel", {})], 5: [("pause", {"step": 9}), ("cancel", {})],
    })  # fmt: skip
    unchanged(asked, plain)
    assert asked.evaluations == {}
    results = [answer.result for answer in asked.answers]
    assert {"cancelled": "scan_1"} in results


def source_of(loop: str) -> str:
    """With what stands above it."""
    return scripts.HEAD + loop
