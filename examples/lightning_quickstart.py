"""Handwritten digits with Lightning, shown live in the dashboard: ``python examples/lightning_quickstart.py``."""

import argparse

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from onthefly import attach_lightning


class Digits(L.LightningModule):
    """A small convolutional network for images of 8 x 8."""

    def __init__(self, lr):
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10),
        )  # fmt: skip

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = F.cross_entropy(self.net(images), labels)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.net(images)
        self.log("val_loss", F.cross_entropy(logits, labels), prog_bar=True)
        self.log("val_accuracy", (logits.argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def loaders(batch_size, workers):
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    train, valid = random_split(data, [1437, len(data) - 1437])
    return DataLoader(train, batch_size, shuffle=True, num_workers=workers), DataLoader(valid, 256)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", help="where to save the final state")
    args = parser.parse_args()

    L.seed_everything(args.seed)
    train_loader, valid_loader = loaders(args.batch_size, args.workers)
    model = Digits(args.lr)
    trainer = L.Trainer(max_epochs=args.epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, log_every_n_steps=1)  # fmt: skip
    attach_lightning(
        trainer=trainer,
        model=model,
        project="digits",
        run_name="lightning-quickstart",
        train_loader=train_loader,
        val_loader=valid_loader,
        loss_fn=F.cross_entropy,
    )
    trainer.fit(model, train_loader, valid_loader)
    metrics = trainer.callback_metrics
    print(f"valid {metrics['val_loss']:.4f}  accuracy {metrics['val_accuracy']:.4f}")
    if args.save:
        trainer.save_checkpoint(args.save)


if __name__ == "__main__":
    main()
