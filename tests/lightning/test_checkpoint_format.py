"""Issue 8, plain formats out: a checkpoint of a Lightning run as a file that Lightning reads and goes on from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from onthefly.bundle import folder
from onthefly.errors import ExitCode
from onthefly.state import lightning as ours
from onthefly.state.export import as_lightning
from onthefly.state.form import Form, Place
from onthefly.state.objects import find
from tests.conftest import FULL

if TYPE_CHECKING:
    from tests.conftest import Home

pytestmark = pytest.mark.dear

MODULE = """
import sys
import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import DataLoader, TensorDataset

class Lit(L.LightningModule):
    def __init__(self, width, rate=0.01):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

    def training_step(self, batch, number):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), self.hparams.rate)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    def on_train_epoch_start(self):
        print("epoch", self.current_epoch, "step", self.global_step)

def loader():
    torch.manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(64, 4), torch.arange(64) % 2), 8)

def trainer(epochs):
    return L.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                     enable_model_summary=False, accelerator="cpu")
"""
TRAIN = "from lit import *\nlit = Lit(width=6, rate=0.02)\ntrainer(3).fit(lit, loader())\n"
GO_ON = """
from lit import *
plain = torch.load("model.pt", weights_only=True)
lit = Lit.load_from_checkpoint("model.ckpt")
assert dict(lit.hparams) == {"width": 6, "rate": 0.02}, lit.hparams
assert all(torch.equal(value, plain["model"][name]) for name, value in lit.state_dict().items())
again = trainer(3)
again.fit(Lit(width=6, rate=0.02), loader(), ckpt_path="model.ckpt", weights_only=True)
print("total", again.global_step, int(next(iter(again.optimizers[0].state.values()))["step"]))
print("rate", again.optimizers[0].param_groups[0]["lr"])
"""


@FULL
@pytest.mark.timeout(400)
def test_lightning_reads_a_checkpoint_and_goes_on_from_it(home: Home) -> None:
    for name, text in {"lit": MODULE, "train": TRAIN, "go_on": GO_ON}.items():
        (home.folder / f"{name}.py").write_text(text)
    ran = home.watched("--autosave", "0.1s", "train.py")
    assert ran.code == 0, ran.err
    (parent,) = home.data.glob("sessions/*/checkpoints")
    for name in folder.names(parent):
        manifest = folder.manifest(parent / name)
        for file in ("model.ckpt", "model.pt"):
            said = home.run(sys.executable, "-m", "onthefly", "export", "last", "--checkpoint", name, "-o", file)
            assert said.code == 0, said.err
        done = home.python("go_on.py")
        assert done.code == 0, done.err
        assert done.out.decode().splitlines()[-2:] == ["total 24 24", f"rate {0.02 / 2**3}"], manifest


def test_a_run_that_was_not_lightnings_has_no_such_file(home: Home) -> None:
    (home.folder / "plain.py").write_text(
        "import torch\nmodel = torch.nn.Linear(2, 1)\noptimizer = torch.optim.SGD(model.parameters(), 0.1)\n"
        "for _ in range(5):\n    model(torch.ones(1, 2)).sum().backward()\n    optimizer.step()\n"
    )
    assert home.watched("--autosave", "0.1s", "plain.py").code == 0
    said = home.run(sys.executable, "-m", "onthefly", "export", "last", "--checkpoint", "last", "-o", "model.ckpt")
    assert said.code == ExitCode.REFUSED
    assert b"not driven by Lightning" in said.err
    assert not (home.folder / "model.ckpt").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("by_hand", "interval", "why"),
    [(False, "epoch", ""), (False, "step", "steps with each batch"), (True, "epoch", "manual optimization")],
)
def test_a_file_that_fit_could_not_go_on_from_has_the_weights_only(
    lightning: Any, by_hand: bool, interval: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    forms: list[Form] = []

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = not by_hand
            self.net = nn.Linear(2, 1)

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            loss = self.net(batch[0]).square().mean()
            if by_hand:
                self.manual_backward(loss)
                self.optimizers().step()
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), 0.1)
            optimizer.register_step_post_hook(lambda *given: keep(self))
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    def keep(module: Any) -> None:
        objects = find({"module": module})
        forms.append(Form.of(objects, Place("baseline", 1, 0, 1), more={"lightning": ours.section(objects)}))

    trainer = lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                                enable_model_summary=False, accelerator="cpu")  # fmt: skip
    trainer.fit(Module(), DataLoader(TensorDataset(torch.ones(4, 2)), 2))
    content = as_lightning(forms[0])
    assert ("optimizer_states" in content) == (not why)
    assert why in capfd.readouterr().err
    assert list(content["state_dict"]) == ["net.weight", "net.bias"]
