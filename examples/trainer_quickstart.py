"""Handwritten digits with ``onthefly.Trainer``: training, validation and test. Run it with plain ``python``."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from onthefly import Trainer


def loaders(batch_size):
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    train, valid, test = random_split(data, [1200, 297, 300], torch.Generator().manual_seed(0))
    return DataLoader(train, batch_size, shuffle=True), DataLoader(valid, 256), DataLoader(test, 256)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()

    torch.manual_seed(0)
    train, valid, test = loaders(32)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    trainer = Trainer(
        project="examples",
        run_name="quickstart",
        max_epochs=args.epochs,
        val_every_n_epochs=1,
        do_test_after=True,
    )
    trainer.fit(
        model=model,
        optimizer=optimizer,
        loss_fn=nn.CrossEntropyLoss(),
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs),
        train_loader=train,
        val_loader=valid,
        test_loader=test,
    )


if __name__ == "__main__":
    main()
