"""Scripts that train with Lightning, run by the tests of this folder in processes of their own."""

from __future__ import annotations

TRAIN = """
import logging, os, sys, warnings
warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
logging.getLogger("lightning.fabric.utilities.distributed").setLevel(logging.ERROR)
import lightning as L, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 3))
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        loss = self.loss(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(self.net(batch[0]), batch[1]), sync_dist=True)

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.loss(self.net(batch[0]), batch[1]), sync_dist=True)

    def on_test_end(self):
        print("label", self.global_rank, os.environ.get("ONTHEFLY_TEST_LABEL"), flush=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)

def loader(rows=64, batch=8):
    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(rows, 6, generator=generator), torch.randint(0, 3, (rows,), generator=generator))
    return DataLoader(data, batch, shuffle=True)

def trainer(**given):
    return L.Trainer(**{"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
                        "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1, **given})

def attach(trainer, module, **given):
    from onthefly import attach_lightning
    return attach_lightning(trainer=trainer, model=module, project="demo", run_name="lit", **given)
"""

RANKS = (
    TRAIN
    + """
if __name__ == "__main__":
    torch.manual_seed(0)
    module, how = Module(), trainer(strategy=sys.argv[1], devices=2)
    if "attach" in sys.argv:
        attach(how, module, test_loader=loader(), do_test_after=True)
    how.fit(module, loader(), loader())
    print("sum", how.global_rank, sum(parameter.sum() for parameter in module.parameters()).item(), flush=True)
    print("session", "ONTHEFLY_SESSION" in os.environ, flush=True)
"""
)

ENDLESS = (
    TRAIN
    + """
torch.manual_seed(0)
module, how = Module(), trainer(max_epochs=int(sys.argv[1]))
if "attach" in sys.argv:
    attach(how, module, test_loader=loader(), do_test_after=True)
how.fit(module, loader(), loader())
torch.save([module.state_dict(), [one.state_dict() for one in how.optimizers], torch.get_rng_state()], sys.argv[2])
print("batches", module.net[1].num_batches_tracked.item())
"""
)
