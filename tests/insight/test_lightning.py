"""Lightning's own evaluation step serves for tests: its losses, and nothing of it reaches Lightning."""

from __future__ import annotations

import importlib
import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import FULL
from tests.insight import scripts
from tests.insight.played import Asked, ask
from tests.insight.test_kinds import ON, unchanged

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.dear

SCRIPT = """
import glob, logging, tempfile, warnings
import PACKAGE as pl, torchmetrics
warnings.simplefilter("ignore")
logging.getLogger("PACKAGE.utilities.rank_zero").setLevel(logging.ERROR)
folder = tempfile.mkdtemp()
torch.manual_seed(0)
x, y = torch.randn(90, 8), torch.randint(0, 3, (90,))

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
        self.mean, self.seen = torchmetrics.MeanMetric(), []

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1], label_smoothing=0.2)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        self.mean.update(loss.detach())
        self.seen.append(batch_idx)
        assert self.trainer.validating or self.trainer.sanity_checking
        self.log_dict({"val_loss": loss, "val_accuracy": (logits.argmax(1) == batch[1]).float().mean()})
        self.log("val_mean", self.mean)
        self.logger.log_metrics({"direct": loss.item()})

    def on_validation_epoch_end(self):
        print(len(self.seen), self.mean.compute().item())

    def on_train_batch_end(self, *given):
        after_step(self.net)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

make = lambda: Module().net
module = Module()
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False,
                     enable_model_summary=False, log_every_n_steps=1, default_root_dir=folder,
                     logger=pl.loggers.CSVLogger(folder))
valid_loader = DataLoader(TensorDataset(x[:30], y[:30]), batch_size=16)
trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True), valid_loader)
print(dict(trainer.callback_metrics))
print([open(path).read() for path in glob.glob(folder + "/**/metrics.csv", recursive=True)])

def brute(state):
    model = make()
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        return F.cross_entropy(model(x), y, reduction="none").tolist()
"""

LOGGED = 'self.log_dict({"val_loss": loss,'


@pytest.fixture(autouse=True)
def _loaded() -> None:  # pyright: ignore[reportUnusedFunction]
    """Lightning, which draws random numbers while it is imported, and warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("lightning.pytorch", "pytorch_lightning", "torchmetrics"):
            importlib.import_module(name)


def played(
    folder: Path, source: str, *commands: tuple[str, dict[str, Any]], package: str = "lightning.pytorch"
) -> Asked:  # fmt: skip
    """Held at its third pause point and asked that; the rest, and all that is logged, as it would have been."""
    whole = scripts.HEAD + source.replace("PACKAGE", package) + scripts.TAIL
    asked, plain = ask(folder, whole, {2: [("pause", {}), *commands], **ON}, str(folder / "brute.json"))
    unchanged(asked, plain)
    return asked


def expect_validation_losses(asked: Asked, label: str, count: int, folder: Path) -> None:
    """Without the label smoothing of training."""
    done = asked.evaluations[label]
    brute = json.loads((folder / "brute.json").read_text())[done.step - 1]
    assert (done.count, done.partial) == (count, False), done.reason
    assert asked.losses(label) == pytest.approx(dict(enumerate(brute[:count])), rel=1e-5)


@pytest.mark.parametrize("package", ["lightning.pytorch", pytest.param("pytorch_lightning", marks=FULL)])
def test_the_validation_step_serves_for_a_test(tmp_path: Path, package: str) -> None:
    asked = played(tmp_path, SCRIPT, ("test", {}), ("resume", {}), package=package)
    assert (asked.test.how, asked.test.step, asked.test.loader) == ("validation_step", 3, "loader0")
    expect_validation_losses(asked, asked.test.label, 30, tmp_path)
    assert 0 <= asked.test.result["accuracy"] <= 1


def test_with_the_weights_of_a_checkpoint(tmp_path: Path) -> None:
    whole = scripts.HEAD + SCRIPT.replace("PACKAGE", "lightning.pytorch") + scripts.TAIL
    asked, plain = ask(tmp_path, whole, {
        1: [("checkpoint", {"name": "early"})], 5: [("pause", {}), ("test", {"checkpoint": "early"}), ("resume", {})],
    }, str(tmp_path / "brute.json"))  # fmt: skip
    unchanged(asked, plain)
    brute = json.loads((tmp_path / "brute.json").read_text())[1]
    assert (asked.test.how, asked.test.step) == ("validation_step", 6)
    assert asked.losses(asked.test.label) == pytest.approx(dict(enumerate(brute[:30])), rel=1e-5)


def test_for_a_scan_it_serves_where_that_is_asked_for(tmp_path: Path) -> None:
    asked = played(tmp_path, SCRIPT, ("scan", {"using": "framework"}), ("resume", {}))
    assert asked.evaluations["scan_1"].how == "validation_step"
    expect_validation_losses(asked, "scan_1", 90, tmp_path)


def test_what_it_returns_is_its_loss(tmp_path: Path) -> None:
    source = SCRIPT.replace(LOGGED, 'self.log_dict({"other_loss": loss * 2, "third_loss": loss * 3,')
    source = source.replace('"direct": loss.item()})', '"direct": loss.item()})\n        return {"loss": loss}')
    asked = played(tmp_path, source, ("test", {}), ("resume", {}))
    assert asked.test.how == "validation_step"
    expect_validation_losses(asked, asked.test.label, 30, tmp_path)


@pytest.mark.parametrize(("change", "reason"), [
    ((LOGGED, 'self.log_dict({"a_loss": loss, "b_loss": loss * 2,'), "logs several losses (a_loss, b_loss)"),
    ((LOGGED, "self.log_dict({"), "neither returns nor logs a loss"),
    ((LOGGED, 'self.log_dict({"val_loss": loss.detach(),'), "validation_step does not serve: "),
    (("assert self.trainer", "assert self.logger.name; assert self.trainer"), "does not serve: AssertionError"),
])  # fmt: skip
def test_where_it_does_not_serve_the_training_step_does(
    tmp_path: Path, change: tuple[str, str], reason: str
) -> None:  # fmt: skip
    asked = played(tmp_path, SCRIPT.replace(*change), ("test", {}))
    assert asked.test.how == "recipe, reproduced 3 of 3"
    assert any(reason in text for text in asked.run.commander.kept.notices())


def test_a_refusal_says_why(tmp_path: Path) -> None:
    source = SCRIPT.replace("def validation_step", "def validates")
    own = {"using": "framework"}
    asked = played(tmp_path, source, ("scan", {**own, "mode": "train"}), ("test", own), ("test", {"loader": "loader0"}))
    assert "no mode of training" in asked.answers[1].reason
    assert "no framework is known here" in asked.answers[2].reason
    assert asked.test.how == "recipe, reproduced 3 of 3"


def test_a_test_step_serves_for_a_loader_to_test_on(tmp_path: Path) -> None:
    source = SCRIPT.replace("trainer.fit(", "test_loader = DataLoader(TensorDataset(x[:40], y[:40]), 16)\ntrainer.fit(")
    source = source.replace("    def on_validation_epoch_end", """
    def test_step(self, batch):
        assert self.trainer.testing
        return 2 * F.cross_entropy(self.net(batch[0]), batch[1])

    def on_validation_epoch_end""")  # fmt: skip
    asked = played(tmp_path, source, ("test", {}), ("resume", {}))
    done = asked.test
    brute = json.loads((tmp_path / "brute.json").read_text())[2]
    assert done.how == "test_step"
    assert asked.losses(done.label) == pytest.approx({at: 2 * loss for at, loss in enumerate(brute[:40])}, rel=1e-5)
