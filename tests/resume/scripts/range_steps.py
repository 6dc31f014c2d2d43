"""Iteration-based training: for step in range(N) over an endless generator, evaluated every so many steps."""

import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

OUT = sys.argv[1]
N = 60
EVAL_EVERY = 12


class Waves(Dataset):
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.x = rng.uniform(-3, 3, size=(n, 1)).astype(np.float32)
        self.y = np.sin(self.x) + 0.05 * rng.standard_normal((n, 1)).astype(np.float32)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return torch.from_numpy(self.x[i]), torch.from_numpy(self.y[i])


def infinite(loader):
    epoch = 0
    while True:
        for batch in loader:
            yield batch
        epoch += 1


torch.manual_seed(7)
model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Dropout(0.1), nn.Linear(32, 1))
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=1e-2, total_steps=N)
batches = infinite(DataLoader(Waves(100, 0), batch_size=16, shuffle=True, drop_last=True))
val = Waves(64, 1)
history = []

for step in range(N):
    x, y = next(batches)
    model.train()
    loss = F.mse_loss(model(x), y)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    sched.step()
    print(f"step {step + 1} loss {loss.item():.8f} lr {sched.get_last_lr()[0]:.6f}")

    if (step + 1) % EVAL_EVERY == 0:
        model.eval()
        with torch.no_grad():
            v = F.mse_loss(model(torch.from_numpy(val.x)), torch.from_numpy(val.y)).item()
        history.append({"step": step + 1, "val": v})
        with open(os.path.join(OUT, "history.json"), "w") as f:
            json.dump(history, f)
        torch.save({"step": step, "model": model.state_dict()}, os.path.join(OUT, f"ckpt_{step + 1:04d}.pt"))
        print(f"eval {v:.8f}")

torch.save({"model": model.state_dict(), "opt": opt.state_dict(), "sched": sched.state_dict()}, os.path.join(OUT, "model.pt"))
