"""Gradient accumulation with ``onthefly.Trainer``: four small batches to each optimizer step, by a step of our own."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from onthefly import Trainer

ACCUMULATE = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()

    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16
    labels = torch.tensor(digits.target)
    train = DataLoader(TensorDataset(images[:1500], labels[:1500]), 8, shuffle=True, drop_last=True)
    valid = DataLoader(TensorDataset(images[1500:], labels[1500:]), 256)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    trainer = Trainer(project="examples", run_name="accumulation", max_epochs=args.epochs, val_every_n_epochs=1)

    @trainer.training_step
    def train_step(batch, state):
        place = state["step"] % ACCUMULATE
        if place == 0:
            state["optimizer"].zero_grad()
        images, labels = (part.to(state["device"]) for part in batch)
        with state["autocast"]:
            loss = state["loss_fn"](state["model"](images), labels) / ACCUMULATE
        state["scaler"].scale(loss).backward()
        if place == ACCUMULATE - 1:
            state["scaler"].step(state["optimizer"])
            state["scaler"].update()
        return {"batch_loss": loss.detach() * ACCUMULATE}

    @trainer.validation_step
    def valid_step(batch, state):
        images, labels = (part.to(state["device"]) for part in batch)
        logits = state["model"](images)
        correct = (logits.argmax(1) == labels).float().mean()
        return {"val_loss": state["loss_fn"](logits, labels), "val_accuracy": correct}

    trainer.fit(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3),
        loss_fn=nn.CrossEntropyLoss(),
        train_loader=train,
        val_loader=valid,
    )


if __name__ == "__main__":
    main()
