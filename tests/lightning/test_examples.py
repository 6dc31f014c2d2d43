"""The examples for Lightning, and those of the long description of ``onthefly-ai`` 0.1.4: they run as they stand."""

from __future__ import annotations

import csv
import sys

import torch

from tests.conftest import REPOSITORY, Home
from tests.loops import digest


def test_the_quickstart_is_recorded_and_trains_as_without_us(home: Home) -> None:
    script = str(REPOSITORY / "examples" / "lightning_quickstart.py")
    off = home.run(sys.executable, script, "--epochs", "2", "--save", "off.ckpt", ONTHEFLY_DISABLE="1")
    ours = home.run(sys.executable, script, "--epochs", "2", "--save", "ours.ckpt", ONTHEFLY_STRICT="1")
    assert (off.code, ours.code) == (0, 0), ours.err.decode()
    assert ours.out == off.out
    assert ours.err.count(b"onthefly: ") == 1
    states = [torch.load(home.folder / f"{name}.ckpt", weights_only=False) for name in ("off", "ours")]
    assert digest(states[0]["state_dict"]) == digest(states[1]["state_dict"])
    assert digest(states[0]["optimizer_states"]) == digest(states[1]["optimizer_states"])
    info = home.wait_state("ended")
    assert (info["project"], info["name"], info["backwards"], info["samples"]) == (
        "digits", "lightning-quickstart", 90, 2874)  # fmt: skip
    assert {"train_loss", "val_loss", "val_accuracy", "lr"} <= set(info["metrics"])
    assert info["notices"] == []


def test_the_test_names_its_file_by_the_label(home: Home) -> None:
    script = str(REPOSITORY / "examples" / "lightning_test_label.py")
    ended = home.run(sys.executable, script, "--epochs", "2", ONTHEFLY_STRICT="1")
    assert ended.code == 0, ended.err.decode()
    (file,) = (home.folder / "predictions").iterdir()
    assert file.name == "predictions_test_1.csv"
    with file.open(encoding="utf-8") as opened:
        assert len(list(csv.DictReader(opened))) == 88
    info = home.wait_state("ended")
    assert {"train_loss", "test_loss"} <= set(info["metrics"])


DESCRIBED = """
import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from onthefly import attach_lightning

class Lit(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(32, 2)
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch, _):
        loss = self.loss(self.net(batch[0]), batch[1])
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-4)

loader = DataLoader(TensorDataset(torch.randn(256, 32), torch.randint(0, 2, (256,))), batch_size=128, shuffle=True)
model = Lit()
trainer = L.Trainer(max_epochs=3, log_every_n_steps=1)
attach_lightning(trainer=trainer, model=model, project="demo", run_name="lightning-baseline", train_loader=loader,
                 val_loader=loader, loss_fn=model.loss, do_test_after=True)
trainer.fit(model, loader)
"""


def test_a_call_like_the_one_described_runs_through(home: Home) -> None:
    """With a test that cannot be: no ``test_step``, no loader for it."""
    (home.folder / "s.py").write_text(DESCRIBED)
    ended = home.python("s.py", ONTHEFLY_STRICT="1")
    assert ended.code == 0, ended.err.decode()
    assert ended.err.count(b"onthefly: no test will run after training: Lit has no test_step") == 1
    info = home.wait_state("ended")
    assert (info["run"], info["backwards"]) == ("lightning-baseline", 6)
    assert "script/loss" in info["metrics"]
    assert len(info["notices"]) == 1
