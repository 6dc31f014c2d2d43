"""What the READMEs of the system that we succeed show, completed with model and data, runs as it stands.

Its long description is read from its own package, which is fetched when the tests run; nothing of it is kept here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from scripts import chromium, node
from tests.conftest import FULL, REPOSITORY, Home, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Ended

PACKAGE = "onthefly-ai==0.1.4"
SEED = REPOSITORY.parent / "shared" / "seed-readme.md"
DASHBOARD = REPOSITORY / "extension" / "dashboard"
NAMES = ("baseline", "lightning-baseline")
BROWSER = bool(chromium.find()) and (REPOSITORY / "extension" / "node_modules").exists()

PARTS = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from onthefly import Trainer

def loader(count):
    inputs = torch.randn(count, 6)
    return DataLoader(TensorDataset(inputs, (inputs.sum(1) > 0).long()), 16, shuffle=True)

torch.manual_seed(0)
train_loader, val_loader, test_loader = loader(256), loader(64), loader(64)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
loss_fn = nn.CrossEntropyLoss()
"""
"""Model and data for blocks that leave them out."""

LIGHTNING_PARTS = (
    PARTS
    + """
import lightning as L

class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net, self.loss = model, loss_fn

    def training_step(self, batch, number):
        return self.loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

model = Module()
trainer = L.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, accelerator="cpu")
"""
)

TESTED = """
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import lightning as L
from onthefly import attach_lightning
{block}
class Whole(LitGAN):
    results_prefix = "gan"
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 2)
    def training_step(self, batch, number):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])
    def test_step(self, batch, number):
        self.log("tested", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))
    def on_test_end(self):
        super().on_test_end()
        label = os.environ.get("ONTHEFLY_TEST_LABEL", "test_latest")
        Path(self.results_prefix + "_" + label + ".csv").write_text("tested")
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
data = DataLoader(TensorDataset(torch.randn(64, 6), torch.randint(0, 2, (64,))), 16)
module = Whole()
trainer = L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
attach_lightning(trainer=trainer, model=module, project="demo", run_name="gan", train_loader=data, test_loader=data,
                 loss_fn=nn.functional.cross_entropy, do_test_after=True)
trainer.fit(module, data)
"""

RANKS = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--run-name")
args = parser.parse_args()
torch.distributed.init_process_group("gloo")
sampler = torch.utils.data.DistributedSampler(train_loader.dataset)
train_loader = DataLoader(train_loader.dataset, 16, sampler=sampler)
model = nn.parallel.DistributedDataParallel(model)
Trainer(project="demo", run_name=args.run_name, max_epochs=2).fit(
    model=model, optimizer=optimizer, loss_fn=loss_fn, train_loader=train_loader)
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The long description in that package's metadata."""
    folder = tmp_path_factory.mktemp("package")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{PACKAGE} cannot be had: no answer within 90 s")
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"{PACKAGE} cannot be had: {done.stderr.decode()[-200:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return wheel.read(name).decode()


def blocks(text: str, language: str = "python") -> list[str]:
    """The code blocks of a README in that language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(home: Home, code: str, *, launched: bool = False) -> Ended:
    """Run a completed block to its end."""
    (home.folder / "train.py").write_text(code)
    options = ("-m", "onthefly") if launched else ()
    ended = home.run(sys.executable, *options, "train.py")
    assert ended.code == 0, ended.err.decode()
    return ended


def session_of(home: Home, name: str) -> dict[str, Any]:
    """The ended session of that name."""
    return wait_for(
        f"the end of {name}",
        lambda: next((s for s in home.get("sessions")["sessions"] if (s["name"], s["state"]) == (name, "ended")), None),
    )


class Filled(NamedTuple):
    """Where both minimal scripts have run, and the page that was open before them: its exit code and what it says."""

    home: Home
    page: int | None
    said: str


@pytest.fixture(scope="module")
def filled(description: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Both scripts, one after the other, without the launcher; beside an open page, if there is a browser."""
    home = Home(tmp_path_factory.mktemp("filled"))
    page = opened(home) if BROWSER else None
    try:
        for place, name in enumerate(NAMES):
            run(home, blocks(description)[place])
            session_of(home, name)
        said, _ = page.communicate(timeout=115) if page else ("", "")
        yield Filled(home, page.returncode if page else None, said)
    finally:
        if page:
            page.kill()
        home.close()


def opened(home: Home) -> subprocess.Popen[str]:
    """A page that waits for both."""
    address = home.run(sys.executable, "-m", "onthefly", "dashboard", "--url").out.decode().strip()
    command = (shutil.which("node") or "node") if node.from_path() else node.from_wheel()[0][0]
    page = subprocess.Popen(
        [command, "e2e/fills.mjs", address, str(REPOSITORY / "screenshots"), *NAMES],
        cwd=DASHBOARD, env={**home.environment, "CHROMIUM": chromium.find()}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, stdin=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert page.stdout is not None
    assert page.stdout.readline() == "open\n"
    return page


def assert_recorded(home: Home, name: str, *metrics: str) -> None:
    """All of a minimal script is there."""
    session = session_of(home, name)
    assert (session["project"], session["name"], session["run"]) == ("demo", name, name)
    assert (session["step"], session["samples"]) == (72, 3 * 3072)
    assert set(metrics) <= set(session["metrics"])
    rows = home.get(f"sessions/{session['id']}/samples?limit=1000000")
    assert {(row["certificate"], row["identity"]) for row in rows} == {("exact", "index")}
    assert len({row["sample"] for row in rows}) == 3072


METRICS = [(0, ["val_loss", "test_loss"]), (1, ["val_loss"])]


@pytest.mark.parametrize(("place", "metrics"), METRICS)
def test_the_minimal_scripts(filled: Filled, place: int, metrics: list[str]) -> None:
    assert_recorded(filled.home, NAMES[place], *metrics)


@FULL
@pytest.mark.parametrize(("place", "metrics"), METRICS)
def test_the_minimal_scripts_under_the_launcher(home: Home, description: str, place: int, metrics: list[str]) -> None:
    run(home, blocks(description)[place], launched=True)
    assert_recorded(home, NAMES[place], *metrics)


@pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine, or npm ci has not run")
def test_their_dashboard_fills(filled: Filled) -> None:
    """A page that was open before the scripts start shows both, one after the other."""
    assert filled.page == 0, filled.said


def test_gradient_accumulation(home: Home, description: str) -> None:
    block = blocks(description)[2]
    for name in ("model", "optimizer", "loss_fn", "train_loader", "val_loader"):
        assert f"{name}=..." in block
        block = block.replace(f"{name}=...", f"{name}={name}")
    run(home, PARTS + block)
    session = home.wait_state("ended")
    assert (session["step"], session["backwards"], session["samples"]) == (20, 80, 5 * 256)


def test_the_label_of_a_test(home: Home, description: str) -> None:
    run(home, TESTED.format(block=blocks(description)[3]))
    assert (home.folder / "gan_test_1.csv").exists()
    assert "tested" in home.wait_state("ended")["metrics"]


@FULL  # four ranks; two of them meet in tests/test_sessions.py
def test_ranks(home: Home, description: str) -> None:
    command = next(block for block in blocks(description, "bash") if "torchrun" in block).split()
    (home.folder / "train.py").write_text(PARTS + RANKS)
    ended = home.run(sys.executable, "-m", "torch.distributed.run", "--standalone", *command[1:])
    assert ended.code == 0, ended.err.decode()
    session = home.wait_state("ended")
    assert session["name"] == "ddp-baseline"
    assert (session["backwards"], len(session["ranks"])) == (4 * 2 * 4, 4)
    rows = home.get(f"sessions/{session['id']}/samples?limit=1000000&epoch=1:2")
    assert sorted(row["sample"] for row in rows) == list(range(256))


@pytest.mark.skipif(not SEED.exists(), reason="the README of the system that we succeed is not beside this checkout")
@pytest.mark.parametrize(
    ("place", "parts", "name"), [(0, PARTS, "baseline"), (1, LIGHTNING_PARTS, "lightning-baseline")]
)
def test_the_blocks_of_the_other_readme(home: Home, place: int, parts: str, name: str) -> None:
    run(home, parts + blocks(SEED.read_text(encoding="utf-8"))[place])
    session = home.wait_state("ended")
    assert (session["project"], session["name"]) == ("demo", name)
    assert session["samples"] == session["epoch"] * 256 + 256
