"""Handwritten digits, a tenth of which lie on their side: a plain PyTorch script with a hard slice.

Writes which of them do to the file that its second argument names; the first is the seed.
"""

import json
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

seed = int(sys.argv[1])
torch.manual_seed(seed)
own = torch.Generator().manual_seed(1000 + seed)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
turned = torch.randperm(len(images), generator=own)[: len(images) // 10]
images[turned] = images[turned].rot90(1, (2, 3))
data = TensorDataset(images, torch.tensor(digits.target))
order = torch.randperm(len(data), generator=own).tolist()
train, valid = Subset(data, order[:1197]), Subset(data, order[1197:])  # 600 to test on
with open(sys.argv[2], "w", encoding="ascii") as file:
    json.dump(sorted(set(turned.tolist()) & set(order[1197:])), file)
train_loader = DataLoader(train, 32, shuffle=True)
valid_loader = DataLoader(valid, 256)

net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10),
)  # fmt: skip
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
for epoch in range(12):
    net.train()
    for pixels, labels in train_loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(pixels), labels)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.17g}")
