"""An optimizer of the script's own, schedule-free with train and eval modes; a small decorator; an if in the loop."""

import functools
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class ScheduleFreeSGD(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.9, warmup=5):
        super().__init__(params, dict(lr=lr, momentum=momentum, warmup=warmup, k=0, weight_sum=0.0, train_mode=True))

    @torch.no_grad()
    def eval(self):
        for group in self.param_groups:
            if group["train_mode"]:
                for p in group["params"]:
                    if "z" in self.state[p]:
                        p.lerp_(self.state[p]["z"], 1 - 1 / group["momentum"])
            group["train_mode"] = False

    @torch.no_grad()
    def train(self):
        for group in self.param_groups:
            if not group["train_mode"]:
                for p in group["params"]:
                    if "z" in self.state[p]:
                        p.lerp_(self.state[p]["z"], 1 - group["momentum"])
            group["train_mode"] = True

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            k = group["k"]
            lr = group["lr"] * min(1.0, (k + 1) / group["warmup"])
            group["weight_sum"] += lr**2
            c = lr**2 / group["weight_sum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "z" not in state:
                    state["z"] = p.clone()
                p.lerp_(state["z"], c)
                p.add_(p.grad, alpha=lr * (group["momentum"] * (1 - c) - 1))
                state["z"].sub_(p.grad, alpha=lr)
            group["k"] = k + 1


def counted(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        wrapper.calls += 1
        return function(*args, **kwargs)

    wrapper.calls = 0
    return wrapper


@counted
def evaluate(model, optimizer, x, y):
    model.eval()
    optimizer.eval()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(x), y).item()
    model.train()
    optimizer.train()
    return loss


def main():
    torch.manual_seed(88)
    x, y = torch.randn(96, 6), torch.randint(0, 3, (96,))
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 3))
    optimizer = ScheduleFreeSGD(model.parameters(), lr=0.3)
    step = 0
    for epoch in range(8):
        for xb, yb in loader:
            if (yb == 2).sum() > 9:
                print("skipped a batch")
                continue
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(xb), yb)
            loss.backward()
            optimizer.step()
            step += 1
            print(f"step {step} loss {loss.item():.8f} k {optimizer.param_groups[0]['k']}")
        print(f"epoch {epoch} valid {evaluate(model, optimizer, x[:32], y[:32]):.8f} calls {evaluate.calls}")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{sys.argv[1]}/model.pt")


main()
