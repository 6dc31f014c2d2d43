"""A curriculum: the dataset's difficulty rises with the epoch; WeightedRandomSampler with weights from the losses."""

import json
import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler


class Curriculum(Dataset):
    def __init__(self, n):
        rng = np.random.RandomState(6)
        self.x = rng.randn(n, 6).astype(np.float32)
        self.y = (self.x.sum(1) > 0).astype(np.float32)
        self.difficulty = 0.0
        self.served = 0

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.served += 1
        noise = np.random.randn(6).astype(np.float32) * self.difficulty
        return i, self.x[i] + noise, self.y[i]


torch.manual_seed(10)
np.random.seed(10)
dataset = Curriculum(80)
weights = torch.ones(len(dataset))
sampler = WeightedRandomSampler(weights, num_samples=64, replacement=True)
loader = DataLoader(dataset, batch_size=8, sampler=sampler)
model = nn.Sequential(nn.Linear(6, 18), nn.ReLU(), nn.Linear(18, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=6, power=2.0)
bce = nn.BCEWithLogitsLoss(reduction="none")
losses_by_sample = {}
step = 0
epoch = 0
while True:
    dataset.difficulty = 0.1 * epoch
    for index, x, y in loader:
        per_sample = bce(model(x).squeeze(1), y)
        loss = per_sample.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for i, value in zip(index.tolist(), per_sample.tolist()):
            losses_by_sample.setdefault(i, []).append(value)
        step += 1
        print(f"step {step} loss {loss.item():.8f} samples {len(losses_by_sample)} served {dataset.served}")
    for i, values in losses_by_sample.items():
        weights[i] = 0.1 + float(np.mean(values[-3:]))
    sampler.weights = weights.double()
    scheduler.step()
    print(f"epoch {epoch} difficulty {dataset.difficulty:.1f} hardest {max(losses_by_sample, key=lambda i: losses_by_sample[i][-1])}")
    epoch += 1
    if epoch >= 6:
        break

with open(sys.argv[1] + "/samples.json", "w") as f:
    json.dump(losses_by_sample, f)
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "weights": weights}, sys.argv[1] + "/model.pt")
