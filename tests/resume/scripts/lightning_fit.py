"""Lightning: a module with a scheduler, validation, early stopping; no checkpoint of Lightning's own."""

import logging
import sys
import warnings

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Regressor(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self.net(x), y))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.02)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]


class Printer(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        print(f"step {trainer.global_step} loss {outputs['loss'].item():.8f}")

    def on_validation_epoch_end(self, trainer, module):
        print(f"epoch {trainer.current_epoch} val {trainer.callback_metrics['val_loss'].item():.8f}")


def main():
    out = sys.argv[1]
    L.seed_everything(13, verbose=False)
    x = torch.randn(80, 4)
    y = x.sum(1, keepdim=True) + 0.1 * torch.randn(80, 1)
    train = DataLoader(TensorDataset(x[:64], y[:64]), batch_size=8, shuffle=True)
    valid = DataLoader(TensorDataset(x[64:], y[64:]), batch_size=8)
    model = Regressor()
    trainer = L.Trainer(
        max_epochs=5, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, gradient_clip_val=1.0, default_root_dir=out,
        callbacks=[Printer(), EarlyStopping("val_loss", patience=3)],
    )
    trainer.fit(model, train, valid)
    torch.save({"model": model.state_dict(), "optimizer": trainer.optimizers[0].state_dict()}, f"{out}/model.pt")


if __name__ == "__main__":
    main()
