"""Purity: commands that change nothing, at random moments from another thread, change nothing."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.protocol import Command
from tests import loops
from tests.actions.desk import Commander, desk
from tests.actions.played import plain, play
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.dear

FULL = os.environ.get("ONTHEFLY_FULL") == "1"
COUNT = 100 if FULL else 25
"""Commands for each script."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "digits": ("--epochs", "2", "--workers", "2"),
    "tabular": ("--epochs", "3", "--workers", "0"),
    "text": ("--epochs", "1"),
    "trainer_quickstart": ("--epochs", "3"),
    "trainer_accumulation": ("--epochs", "3"),
    "lightning_quickstart": ("--epochs", "2"),
    "lightning_test_label": ("--epochs", "3"),
}
QUICK = ("tabular", "trainer_accumulation")

LOOPS = (
    "lbfgs_on_batches", "gan", "accumulation", "scaled", "bf16", "two_optimizers", "workers",
)  # fmt: skip

LEFT_OUT = ("deletes_its_batch", "lets_go_of_its_batch", "profiled")
"""Watching changes the first; the batches since a checkpoint are kept; the last prints the time of day."""


def harmless(chance: random.Random, number: int) -> tuple[str, dict[str, Any]]:
    """A command that leaves training alone."""
    name = chance.choice(["pause", "pause", "resume", "resume", "step", "checkpoint", "later", "keep", "watch", "clip"])
    if name == "step":
        return name, {"steps": chance.randint(1, 4)}
    if name == "later":
        return "pause", chance.choice([{"when": "loss < -1 or step >= 3"}, {"epoch": 1}, {"step": number}])
    if name == "keep":
        return name, {"every": chance.choice([0, 0, 7]), "on_pause": chance.random() < 0.2, "memory": 1 << 26}
    if name == "watch":
        alarm = chance.choice(["nonfinite-grad", "nonfinite-param", "loss-spike", "grad-explosion"])
        return name, {"alarm": alarm, "action": chance.choice(["log", "off"])}
    return name, {}


@contextlib.contextmanager
def storm(commander: Commander, count: int, seed: str) -> Generator[None, None, None]:
    """So many harmless commands from another thread; at last whatever holds the script is taken back."""
    over, chance = threading.Event(), random.Random(seed)

    def send(number: int, name: str, args: dict[str, Any]) -> None:
        command = Command(n=number, id=f"storm {number}", name=name, args=args, by="storm")
        commander.kept.session._control.take(command)

    def submit() -> None:
        for number in range(count):
            send(number, *harmless(chance, number))
            if over.wait(chance.choice([0.0, 0.001, 0.004])):
                break
        for number, (name, args) in enumerate(
            [("cancel", {}), ("keep", {"every": 0, "on_pause": False}), ("resume", {})]
        ):
            send(count + number, name, args)

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def served(commander: Commander, least: int) -> None:
    """All were answered once, none failed, and that many were done."""
    answers = commander.answers()
    ids = [answer.id for answer in answers]
    assert len(set(ids)) == len(ids)
    assert not [answer for answer in answers if answer.status == "failed"]
    assert len([answer for answer in answers if answer.status == "applied"]) >= least, [a.reason for a in answers]


@pytest.mark.parametrize("name", EXAMPLES if FULL else QUICK)
def test_an_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("sklearn.datasets", *(["lightning"] if name.startswith("lightning") else [])):
        importlib.import_module(module)  # which draws random numbers
    path = REPOSITORY / "examples" / f"{name}.py"
    expected = plain(path, *EXAMPLES[name])
    ours = play(path, *EXAMPLES[name], folder=tmp_path,
                during=lambda commander: storm(commander, COUNT, f"{os.environ['ONTHEFLY_SEED']} {name}"))  # fmt: skip
    assert ours.hashes == expected.hashes
    assert ours.out == expected.out
    served(ours.commander, COUNT // 3)


@pytest.mark.parametrize("name", [name for name in loops.LOOPS if name not in LEFT_OUT] if FULL else LOOPS)
def test_a_loop(name: str, tmp_path: Path) -> None:
    expected = loops.run(name)
    seed = f"{os.environ['ONTHEFLY_SEED']} {name}"
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander, storm(commander, COUNT, seed):
        ours = loops.run(name)
    assert ours == expected
    served(commander, name in LOOPS)
