"""A trainer class that reads batches through a generator of its own, and warms up in a loop before the epochs."""

import argparse
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    epochs: int = 4
    warmup: int = 6
    batch_size: int = 8
    lr: float = 0.05


@dataclass
class State:
    step: int = 0
    epoch: int = 0
    losses: list = field(default_factory=list)


class Trainer:
    def __init__(self, model, loader, config, out):
        self.model = model
        self.loader = loader
        self.config = config
        self.out = Path(out)
        self.state = State()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9, nesterov=True)
        self.criterion = nn.BCEWithLogitsLoss()

    def batches(self):
        for x, y in self.loader:
            yield x + 0.01 * torch.randn_like(x), y

    def train_step(self, x, y, lr):
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x).squeeze(1), y)
        loss.backward()
        self.optimizer.step()
        self.state.step += 1
        self.state.losses.append(loss.detach())
        return loss.item()

    def warm_up(self):
        for i, (x, y) in zip(range(self.config.warmup), self.batches()):
            loss = self.train_step(x, y, self.config.lr * (i + 1) / self.config.warmup)
            print(f"step {self.state.step} warmup loss {loss:.8f}")

    def fit(self):
        self.warm_up()
        for self.state.epoch in range(self.config.epochs):
            total = 0.0
            for i, (x, y) in enumerate(self.batches()):
                loss = self.train_step(x, y, self.config.lr)
                total += loss
                print(f"step {self.state.step} epoch {self.state.epoch} batch {i} loss {loss:.8f}")
            self.save(f"epoch{self.state.epoch}.pt")
            print(f"epoch {self.state.epoch} mean {total / len(self.loader):.8f}")

    def save(self, name):
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**state, "losses": torch.stack(self.state.losses), "step": self.state.step}, self.out / name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    x = torch.randn(96, 5)
    y = (x.prod(1) > 0).float()
    config = Config()
    model = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
    trainer = Trainer(model, DataLoader(TensorDataset(x, y), config.batch_size, shuffle=True), config, args.out)
    trainer.fit()
    trainer.save("model.pt")
    (trainer.out / "config.json").write_text(json.dumps(asdict(config)))


if __name__ == "__main__":
    main()
