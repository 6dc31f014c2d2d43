"""Early stopping with a patience counter; the best state_dict and the best model kept as deep copies in memory."""

import copy
import math
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class EarlyStopping:
    def __init__(self, patience=3, min_delta=0.0):
        self.patience = patience
        self.min_delta = min_delta
        self.best = float("inf")
        self.counter = 0
        self.best_state = None

    def __call__(self, value, model):
        if value < self.best - self.min_delta:
            self.best = value
            self.counter = 0
            self.best_state = copy.deepcopy(model.state_dict())
            return False
        self.counter += 1
        print(f"no improvement {self.counter}/{self.patience}")
        return self.counter >= self.patience


def train_one_epoch(model, loader, optimizer, first):
    model.train()
    total = 0.0
    for i, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
        print(f"step {first + i + 1} loss {loss.item():.8f}")
    return total / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    return sum(nn.functional.mse_loss(model(x), y).item() * len(x) for x, y in loader) / len(loader.dataset)


def main(out):
    torch.manual_seed(21)
    x = torch.randn(60, 6)
    y = x.sum(1, keepdim=True) + torch.randn(60, 1)
    train = DataLoader(TensorDataset(x[:40], y[:40]), batch_size=8, shuffle=True)
    valid = DataLoader(TensorDataset(x[40:], y[40:]), batch_size=20)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    stopper = EarlyStopping(patience=3)
    best_model, best_epoch, history = None, -1, {"train": [], "valid": []}
    for epoch in range(14):
        history["train"].append(train_one_epoch(model, train, optimizer, epoch * len(train)))
        history["valid"].append(evaluate(model, valid))
        assert math.isfinite(history["valid"][-1])
        stop = stopper(history["valid"][-1], model)
        if stopper.counter == 0:
            best_model, best_epoch = copy.deepcopy(model), epoch
        print(f"epoch {epoch} train {history['train'][-1]:.8f} valid {history['valid'][-1]:.8f}")
        if stop:
            print("stopping early")
            break
    else:
        print("all epochs done")
    model.load_state_dict(stopper.best_state)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}, out / "model.pt")
    torch.save(best_model.state_dict(), out / f"best_{best_epoch}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
