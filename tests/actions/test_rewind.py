"""Back to a checkpoint and on to the end, through the session: as if nothing had happened; and a journal replayed."""

from __future__ import annotations

import importlib
import os
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.actions.played import plain, play
from tests.conftest import REPOSITORY
from tests.state.scripts import START

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.dear


FULL = os.environ.get("ONTHEFLY_FULL") == "1"

EXAMPLES: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "digits": (45, 1, ("--epochs", "2", "--workers", "2")),
    "tabular": (23, 1, ("--epochs", "3")),
    "text": (282, 1, ("--epochs", "1")),
    "trainer_quickstart": (38, 1, ("--epochs", "2")),
    "trainer_accumulation": (46, 4, ("--epochs", "2")),
    "lightning_quickstart": (45, 1, ("--epochs", "2")),
    "lightning_test_label": (23, 1, ("--epochs", "2")),
}
"""Steps of an epoch, backward calls of a step, arguments."""
QUICK = ("tabular",)

STREAM = """
class Numbers(IterableDataset):
    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        for i in range(info.id if info else 0, 96, info.num_workers if info else 1):
            yield torch.full((6,), float(i)) / 96 + torch.randn(6) * 0.01, i % 4
"""
MAPPED = """
class Augmented(Dataset):
    def __len__(self):
        return 96
    def __getitem__(self, i):
        return torch.full((6,), float(i)) / 96 + torch.randn(6) * 0.1 + random.random(), i % 4
"""
LOOP = """
model = net()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=60)
def main():
    for epoch in range(2):
        total = 0.0
        for x, y in LOADER:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        print(epoch, total)
main()
"""
SCRIPTS = {
    "augmented, two workers": MAPPED + LOOP.replace("LOADER", "DataLoader(Augmented(), 4, True, num_workers=2)"),
    "a stream": STREAM + LOOP.replace("LOADER", "DataLoader(Numbers(), 4)"),
    "a stream of two workers": STREAM + LOOP.replace("LOADER", "DataLoader(Numbers(), 4, num_workers=2)"),
}


def expect_same(path: Path, arguments: tuple[str, ...], folder: Path, taken: int, back: int, calls: int = 1) -> None:
    """A checkpoint after step ``taken``, a rewind after step ``back``: what follows is what followed the first time."""
    expected = play(path, *arguments, folder=folder)
    k = back - taken
    again = play(path, *arguments, folder=folder, at={
        taken: [("checkpoint", {"name": "here"})],
        back: [("pause", {}), ("rewind", {"checkpoint": "here"}), ("resume", {})],
    })  # fmt: skip
    assert [answer.status for answer in again.commander.answers()] == ["applied"] * 4, again.commander.answers()
    assert again.hashes == expected.hashes[:back] + expected.hashes[taken:]
    (run,) = expected.losses().values()
    first, second = again.losses().values()
    assert list(again.losses())[1] == "rewind1"
    # The records of the run up to the rewind, then those from the checkpoint on: steps, losses, samples.
    assert first == run[: (back + 1) * calls]
    assert second == run[(taken + 1) * calls :]
    assert f"after the rewind: {k} of {k} steps bit-identical" in again.commander.kept.notices()


@pytest.mark.parametrize("name", EXAMPLES if FULL else QUICK)
def test_an_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("sklearn.datasets", *(["lightning"] if name.startswith("lightning") else [])):
        importlib.import_module(module)  # which draws random numbers
    steps, calls, arguments = EXAMPLES[name]
    chance = random.Random(f"{os.environ['ONTHEFLY_SEED']} {name}")
    taken = steps + chance.randrange(0, steps - 6) if name != "text" else chance.randrange(3, steps - 6)
    back = chance.randrange(taken + 1, taken - taken % steps + steps - 2)
    expect_same(REPOSITORY / "examples" / f"{name}.py", arguments, tmp_path, taken, back, calls)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script(name: str, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(START + SCRIPTS[name])
    expect_same(path, (), tmp_path, 28, 37)


REPLAYED = {
    2: [("subset", {"mode": "exclude", "samples": [3, 5, 90]})],
    5: [("set", {"name": "lr", "value": 0.01})],
    8: [("checkpoint", {"name": "here"})],
    12: [("clip", {"norm": 0.3})],
    15: [("pause", {}), ("rewind", {"checkpoint": "here"}), ("resume", {})],
    21: [("freeze", {"pattern": "0.weight"})],
    33: [("trial", {"steps": 3, "name": "set", "args": {"name": "lr", "value": 0.5}})],
    39: [("choose", {"keep": "KEEP"}), ("resume", {})],
    43: [("unfreeze", {})],
}
"""Pause points that were passed; the two ways of the trial, of three steps each, end at 36 and 39."""


@pytest.mark.parametrize("keep", ["with", "without", "neither"] if FULL else ["with"])
@pytest.mark.parametrize("workers", [0, 2] if FULL else [0])
def test_a_journal_makes_the_same_run_again(keep: str, workers: int, tmp_path: Path) -> None:
    """A rewind, a subset and a trial in the middle; what was taken back is not replayed."""
    path = tmp_path / "script.py"
    loader = f"DataLoader(Augmented(), 4, shuffle=True, num_workers={workers})"
    path.write_text(START + MAPPED + LOOP.replace("LOADER", loader))
    commands: Any = {
        point: [(name, {key: keep if value == "KEEP" else value for key, value in args.items()}) for name, args in each]
        for point, each in REPLAYED.items()
    }
    changed = play(path, folder=tmp_path / "first", at=commands)
    assert not [answer.reason for answer in changed.commander.answers() if answer.status != "applied"]
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in changed.commander.journal()))
    again = play(path, folder=tmp_path / "second", ONTHEFLY_REPLAY=str(journal))
    assert not [text for text in again.commander.kept.notices() if "not repeated" in text]
    assert again.hashes[-1] == changed.hashes[-1]
    assert again.out == changed.out
    assert plain(path).hashes[-1] != changed.hashes[-1]
