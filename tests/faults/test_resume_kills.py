"""Issue 8: ``kill -9`` of the script, of the hub, or of both at random moments, and on the way back; then ``--resume``.

The script trains under ``--autosave`` with a log file, a csv and prints. Where it has a checkpoint it is resumed, by
``--resume last`` in a fresh process, with a new hub where that was killed; killed again, in half of the cases before it
has come to its step; and in the end its files, and the lines that it printed last, are those of a run that nobody
disturbed. What the hub had told of the session before the kill is there after it, and every checkpoint can be read.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.bundle import folder
from onthefly.state.files import read_form
from tests.conftest import FULL, running, wait_for
from tests.reporting import note

if TYPE_CHECKING:
    import subprocess

    from tests.conftest import Home

SCRIPT = """
import csv, logging, sys, time
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

out = Path(sys.argv[1])
out.mkdir(exist_ok=True)
logging.basicConfig(filename=out / "log.txt", level=logging.INFO, format="%(message)s")
torch.manual_seed(0)
data = TensorDataset(torch.randn(64, 4), torch.arange(64) % 2)
loader = DataLoader(data, 8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))
optimizer = torch.optim.Adam(model.parameters(), 0.01)
rows = csv.writer(open(out / "rows.csv", "w", newline=""))
step = 0
for epoch in range(8):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        time.sleep(float(sys.argv[2]))
        step += 1
        total += loss.item()
        print(f"step {step} {loss.item().hex()}", flush=True)
        logging.info("step %d", step)
    rows.writerow([epoch, total])
    torch.save(model.state_dict(), out / "model.pt")
    (out / f"epoch{epoch}.txt").write_text(str(total))
print("done", total)
"""

SEED = int(os.environ["ONTHEFLY_SEED"])
BREAK = b"\n"
MODES = ("script", "hub", "both", "prefix")


class Trainer:
    """One script, killed and resumed until it ends."""

    def __init__(self, home: Home, name: str) -> None:
        self.home = home
        self.out = home.folder / name
        self.said: list[str] = []
        (home.folder / "train.py").write_text(SCRIPT)

    def plain(self) -> str:
        """What it prints if nobody disturbs it."""
        ended = self.home.python("train.py", str(self.out), "0")
        assert ended.code == 0, ended.err
        return ended.out.decode()

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Begin, or go on."""
        command = [sys.executable, "-m", "onthefly", "run", "--autosave", "0.2s", *options, "--"]
        log = self.home.folder / f"said{len(self.said)}"
        self.said.append(str(log))
        shell = f'exec "$@" > {log} 2> {log}.err'
        words = [*command, sys.executable, "train.py", str(self.out), "0.03"]
        return self.home.start("/bin/sh", "-c", shell, "sh", *words, ONTHEFLY_STRICT="1")

    def printed(self, number: int = -1) -> str:
        """Whole lines that one of the processes has printed."""
        with open(self.said[number], encoding="utf-8") as file:
            return "".join(line for line in file if line.endswith("\n"))

    def errors(self, number: int = -1) -> str:
        """What it said on standard error."""
        with open(self.said[number] + ".err", encoding="utf-8") as file:
            return file.read()

    def checkpoints(self) -> list[Path]:
        """Those on the disk."""
        found = sorted(self.home.data.glob("sessions/*/checkpoints"))
        return [parent / name for parent in found for name in folder.names(parent)]


def kill(trainer: Trainer, process: subprocess.Popen[bytes], mode: str) -> None:
    """End it, the hub, or both, as no process can prevent."""
    hub = trainer.home.hub_file()
    if mode in ("hub", "both") and hub is not None and running(hub["pid"]):
        os.kill(hub["pid"], signal.SIGKILL)
        wait_for("the hub's end", lambda: not running(hub["pid"]))
    process.kill()  # with the hub alone killed it may go on, but not to its end: it is ended a moment later
    process.wait()


def different(path: Path, wanted: bytes) -> str:
    """Where a file is not as it has to be, in a sentence; empty: nowhere."""
    found = path.read_bytes() if path.exists() else b""
    if found == wanted:
        return ""
    lines = zip(found.split(BREAK), wanted.split(BREAK))
    line = next((number for number, (one, other) in enumerate(lines) if one != other), -1)
    return f"{path.name}, {len(found)} bytes for {len(wanted)}, in line {line}: {found.split(BREAK)[line:][:3]}"


def one(home: Home, mode: str, chance: random.Random) -> dict[str, Any]:
    """One chain of kills and resumes; what was found."""
    trainer = Trainer(home, "out")
    whole = trainer.plain()
    files = {path.name: path.read_bytes() for path in trainer.out.iterdir()}
    for path in trainer.out.iterdir():
        path.unlink()
    process = trainer.start()
    wait_for("a checkpoint", trainer.checkpoints, 60)
    wait_for("something that is told", lambda: home.get("sessions/last/backwards"), 60)
    time.sleep(chance.uniform(0, 0.8))  # the moment is what is drawn
    told = home.get("sessions/last/backwards")
    kill(trainer, process, mode)
    if mode == "prefix":
        process = trainer.start("--resume", "last")
        wait_for("the prefix", lambda: list(home.data.glob("sessions/*/resumes/backup-*")), 60)
        time.sleep(chance.uniform(0, 3))
        process.kill()
        process.wait()
    process = trainer.start("--resume", "last")
    assert process.wait(100) == 0, trainer.errors()
    wrong = [different(trainer.out / name, files[name]) for name in files]
    wrong = [said for said in wrong if said]
    wrong += [path.name for path in trainer.out.iterdir() if path.name not in files]
    if not whole.endswith(trainer.printed()) or "onthefly: resumed at step" not in trainer.errors():
        wrong.append("prints")
    for path in trainer.checkpoints():
        read_form(path)  # which raises, if it is damaged
    rows = {(row["run"], row["backward"]): row["loss"] for row in home.get("sessions/last/backwards")}
    lost = [row for row in told if rows.get((row["run"], row["backward"])) != row["loss"]]
    notices = [notice["text"] for notice in home.get("sessions/last")["notices"] if "damaged" in notice["text"]]
    return {"wrong": wrong, "lost": len(lost), "told": len(told), "damaged": notices, "said": trainer.said}


def proved(home: Home, mode: str, number: int) -> None:
    """Assert all of it."""
    found = one(home, mode, random.Random(f"{SEED} {mode} {number}"))
    said = [Path(f"{log}.err").read_text(encoding="utf-8")[-600:] for log in found["said"]]
    good = (found["wrong"], found["lost"], found["damaged"]) == ([], 0, [])
    assert good, "\n".join([f"seed {SEED}, {mode} {number}", *found["wrong"], str(found), *said])
    assert found["told"] > 0


@FULL
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", MODES)
def test_a_killed_script_goes_on_and_ends_as_one_that_was_not(home: Home, mode: str) -> None:
    proved(home, mode, 0)


@FULL
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(1, 50))
@pytest.mark.parametrize("mode", MODES)
def test_many_are(home: Home, mode: str, number: int) -> None:
    proved(home, mode, number)
    note("F1", resumed={mode: number})
