"""EMA by hand, warm restarts, persistent workers that prefetch, mixup with numpy's Beta."""

import copy
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Noisy(Dataset):
    def __init__(self, n):
        self.x = np.random.RandomState(0).randn(n, 10).astype("float32")
        self.y = (self.x[:, 0] * self.x[:, 1] > 0).astype("int64")

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = torch.from_numpy(self.x[i])
        return x + torch.randn_like(x) * 0.1, self.y[i]


class EMA:
    def __init__(self, model, decay):
        self.model, self.decay = model, decay
        self.shadow = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.updates = 0

    def update(self):
        self.updates += 1
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            for n, p in self.model.named_parameters():
                self.shadow[n].mul_(d).add_(p, alpha=1 - d)

    def model_copy(self):
        m = copy.deepcopy(self.model)
        m.load_state_dict(self.shadow, strict=False)
        return m.eval()


def mixup(x, y, alpha=0.4):
    lam = float(np.random.beta(alpha, alpha))
    perm = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[perm], y, y[perm], lam


if __name__ == "__main__":
    out = sys.argv[1]
    np.random.seed(8)
    torch.manual_seed(8)
    loader = DataLoader(Noisy(100), 10, shuffle=True, num_workers=2, persistent_workers=True, prefetch_factor=2)
    model = nn.Sequential(nn.Linear(10, 24), nn.LayerNorm(24), nn.SiLU(), nn.Linear(24, 2))
    opt = torch.optim.NAdam(model.parameters(), lr=5e-3)
    sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=15, T_mult=2)
    ema = EMA(model, 0.95)
    fixed = torch.randn(16, 10)
    step = 0
    for epoch in range(4):
        for i, (x, y) in enumerate(loader):
            x, ya, yb, lam = mixup(x, y)
            logits = model(x)
            loss = lam * F.cross_entropy(logits, ya) + (1 - lam) * F.cross_entropy(logits, yb)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step(epoch + i / len(loader))
            ema.update()
            step += 1
            print(f"step {step} loss {loss.item():.8f} lam {lam:.6f} lr {opt.param_groups[0]['lr']:.8f}")
        with torch.no_grad():
            print(f"epoch {epoch} ema {ema.model_copy()(fixed).sum().item():.8f}")
    torch.save({"model": model.state_dict(), "ema": ema.shadow, "optimizer": opt.state_dict()}, f"{out}/model.pt")
