"""A job of ``torchrun`` that writes down each step of each rank, and the commands that are sent to it."""

from __future__ import annotations

import json
import sys
import urllib.error
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tests.conftest import Ended, running, wait_for
from tests.loops import digest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from tests.conftest import Home

TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
ENDLESS = 10**9

PARTS = """
import contextlib, datetime, json, os, random, sys, time, torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

given = json.loads(sys.argv[1])
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=given["timeout"]))
rank = dist.get_rank()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Linear(8, 4))
plain = model
if given["ddp"]:
    model = nn.parallel.DistributedDataParallel(model)
torch.manual_seed(rank)
data = TensorDataset(torch.randn(4096, 6), torch.randint(0, 4, (4096,)))
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
pace = random.Random(rank)  # ranks differ in speed, and nothing else is drawn from this
log = os.open(f"{given['name']}-{rank}.steps", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

def say(step):
    for value in [given["lr"][str(step)]] if str(step) in given["lr"] else []:
        for group in optimizer.param_groups:
            group["lr"] = value
    os.write(log, b"%d %d\\n" % (step, os.getpid()))
    time.sleep(pace.random() * given["pace"] * (1 + rank * given["uneven"]))

def keep():
    state = [plain.state_dict(), optimizer.state_dict(), torch.get_rng_state()]
    torch.save(state, f"{given['name']}-{rank}.pt")
"""

EACH_STEP = """
def train():
    step = 0
    while True:
        for x, y in DataLoader(data, 8, shuffle=True):
            if step == given["steps"]:
                return
            say(step)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y) + 100 * (given["spike"] == [rank, step])
            loss.backward()
            optimizer.step()
            step += 1
"""

ACCUMULATED = """
def train():
    step = 0
    while True:
        for number, (x, y) in enumerate(DataLoader(data, 8, shuffle=True)):
            if number % 4 == 0:
                if step == given["steps"]:
                    return
                say(step)
                optimizer.zero_grad()
            last = number % 4 == 3
            with contextlib.nullcontext() if last else model.no_sync():
                F.cross_entropy(model(x), y).backward()
            if last:
                optimizer.step()
                step += 1
"""

END = """
try:
    train()
finally:  # after a stop too
    keep()
"""


class Job:
    """Ranks that train under us until they are stopped, and the plain run of as many steps."""

    def __init__(self, home: Home, ranks: int, script: str = EACH_STEP, **given: Any) -> None:
        self.home = home
        self.ranks = ranks
        self.given: dict[str, Any] = {
            "ddp": True, "timeout": 60.0, "pace": 0.004, "uneven": 0, "lr": {}, "spike": [], **given,
        }  # fmt: skip
        (home.folder / "s.py").write_text(PARTS + script + END)
        self.process = self._start("ours", self.given.pop("ends", ENDLESS), "-m", "onthefly", "run", "--")

    def _start(self, name: str, steps: int, *before: str) -> subprocess.Popen[bytes]:
        given = json.dumps({**self.given, "name": name, "steps": steps})
        how = [TORCHRUN, "--nproc_per_node", str(self.ranks), "--monitor-interval", "0.1", "s.py", given]
        return self.home.start(*([sys.executable, *before] if before else []), *how, ONTHEFLY_STRICT="1")

    def plain(self, steps: int, lr: Mapping[int, float]) -> Ended:
        """The same training without us; ``lr``: from these steps on."""
        self.given["lr"] = lr
        process = self._start("plain", steps)
        out, err = process.communicate(timeout=100)
        return Ended(process.returncode, out, err)

    def wait_training(self, step: int = 3) -> dict[str, Any]:
        """Until all ranks have taken steps, as the hub knows."""

        def trains() -> Any:
            now = self.home.session()
            ranks = [] if now is None else [rank for rank in now["ranks"] if rank["trains"] and rank["step"] >= step]
            return now if len(ranks) == self.ranks else None

        return wait_for("all ranks train", trains, 60)

    def post(self, command: str, identifier: str, /, **args: Any) -> dict[str, Any] | None:
        """Send a command, and wait no longer than the hub does; None: no hub took it."""
        try:
            return self.home.post(
                "sessions/last/commands", {"id": identifier, "name": command, "args": args, "by": "ana"}
            )
        except (urllib.error.URLError, ConnectionError):
            return None

    def send(self, command: str, /, **args: Any) -> dict[str, Any]:
        """Send a command, and what became of it."""
        identifier = str(uuid.uuid4())
        return wait_for(
            f"an answer to {command}",
            lambda: (answer := self.post(command, identifier, **args)) and answer["status"] != "accepted" and answer,
        )

    def do(self, command: str, /, **args: Any) -> dict[str, Any]:
        """Send a command that all ranks must do."""
        answer = self.send(command, **args)
        assert answer["status"] == "applied", answer
        return answer

    def written(self, name: str = "ours") -> list[list[int]]:
        """The steps that each rank has begun."""
        return [
            [int(line.split()[0]) for line in self._file(name, rank).read_text().splitlines()]
            for rank in range(self.ranks)
        ]

    def _file(self, name: str, rank: int) -> Path:
        return self.home.folder / f"{name}-{rank}.steps"

    def pids(self) -> list[int]:
        """The processes of the ranks."""
        return [int(self._file("ours", rank).read_text().split()[1]) for rank in range(self.ranks)]

    def held(self) -> int:
        """All are paused, as each says itself; the number of steps that all of them have finished."""
        session = self.home.wait_state("paused")
        ranks = [rank for rank in session["ranks"] if rank["trains"]]
        assert [rank["state"] for rank in ranks] == ["paused"] * self.ranks
        last = {steps[-1] + 1 for steps in self.written()}
        assert len(last) == 1, f"held after different steps: {last}"
        assert {rank["step"] for rank in ranks} == last
        return last.pop()

    def states(self, name: str = "ours") -> list[str]:
        """What each rank has kept at its end, bit for bit."""
        return [digest(torch.load(self.home.folder / f"{name}-{rank}.pt")) for rank in range(self.ranks)]

    def weights(self, name: str = "ours") -> list[str]:
        """The weights alone, which ranks have in common."""
        return [digest(torch.load(self.home.folder / f"{name}-{rank}.pt")[0]) for rank in range(self.ranks)]

    def wait_end(self, seconds: float = 35.0) -> bytes:
        """Until no process of the job is left; what it wrote to its standard error."""
        pids = self.pids()
        _, err = self.process.communicate(timeout=seconds)
        assert not any(running(pid) for pid in pids)
        return err
