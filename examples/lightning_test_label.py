"""Diabetes from ten numbers with Lightning; after training, a test that names its file by the label it was given."""

import argparse
import csv
import os
from pathlib import Path

import lightning as L
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from onthefly import attach_lightning


class Diabetes(L.LightningModule):
    """A regression with one hidden layer."""

    def __init__(self, folder):
        super().__init__()
        self.folder = Path(folder)
        self.net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
        self.predictions = []

    def training_step(self, batch, batch_idx):
        inputs, target = batch
        loss = F.mse_loss(self.net(inputs), target)
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch, batch_idx):
        inputs, target = batch
        prediction = self.net(inputs)
        self.log("test_loss", F.mse_loss(prediction, target))
        self.predictions += zip(target.flatten().tolist(), prediction.flatten().tolist())

    def on_test_end(self):
        # Without the label, each test would overwrite the file of the one before.
        label = os.environ.get("ONTHEFLY_TEST_LABEL", "test_latest")
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f"predictions_{label}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("target", "prediction"), *self.predictions])
        self.predictions = []

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="predictions", help="where the predictions go")
    args = parser.parse_args()

    L.seed_everything(args.seed)
    diabetes = load_diabetes()
    inputs = torch.tensor(diabetes.data, dtype=torch.float32) * len(diabetes.data) ** 0.5
    target = torch.tensor(diabetes.target, dtype=torch.float32).unsqueeze(1)
    data = TensorDataset(inputs, (target - target.mean()) / target.std())
    train, test = random_split(data, [354, len(data) - 354])

    model = Diabetes(args.folder)
    trainer = L.Trainer(max_epochs=args.epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, log_every_n_steps=1)  # fmt: skip
    attach_lightning(
        trainer=trainer,
        model=model,
        project="diabetes",
        run_name="lightning-test-label",
        test_loader=DataLoader(test, 32),
        do_test_after=True,
    )
    trainer.fit(model, DataLoader(train, 16, shuffle=True))


if __name__ == "__main__":
    main()
