"""Training is a generator: the caller takes metrics out of it and decides when to stop; a second one evaluates."""

import itertools
import sys
from types import SimpleNamespace

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train(model, optimizer, loader, schedule):
    for epoch, lr in enumerate(schedule, start=1):
        for group in optimizer.param_groups:
            group["lr"] = lr
        for i, (x, y) in enumerate(loader):
            loss = nn.functional.poisson_nll_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield SimpleNamespace(epoch=epoch, batch=i, loss=loss.item(), last=i == len(loader) - 1)


def smoothed(events, beta=0.8):
    value = None
    for event in events:
        value = event.loss if value is None else beta * value + (1 - beta) * event.loss
        event.smooth = value
        yield event


def main():
    out = sys.argv[1]
    torch.manual_seed(40)
    x = torch.rand(77, 3)
    y = torch.poisson(x.sum(1, keepdim=True) * 2)
    loader = DataLoader(TensorDataset(x, y), batch_size=11, shuffle=True)
    model = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 1))
    optimizer = torch.optim.Rprop(model.parameters())
    schedule = itertools.chain([0.001, 0.01], itertools.repeat(0.005))
    best, stale = float("inf"), 0
    with open(f"{out}/epochs.csv", "w") as f:
        for step, event in zip(itertools.count(1), smoothed(train(model, optimizer, loader, schedule))):
            print(f"step {step} epoch {event.epoch} loss {event.loss:.8f} smooth {event.smooth:.8f}")
            if not event.last:
                continue
            print(event.epoch, event.smooth, sep=",", file=f)
            if event.smooth < best - 1e-3:
                best, stale = event.smooth, 0
                torch.save(model.state_dict(), f"{out}/best.pt")
            else:
                stale += 1
            if stale == 3 or event.epoch == 7:
                break
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": best}, f"{out}/model.pt")


if __name__ == "__main__":
    main()
