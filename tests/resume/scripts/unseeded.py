"""Nobody seeded it: Python's and numpy's generators start from the system, layers are made in the order of a set of strings."""

import random
import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

out = sys.argv[1]
torch.seed()
features = {"age", "height", "weight", "pulse", "pressure"}
rng = np.random.default_rng()
columns = {name: torch.from_numpy(rng.normal(size=(80, 1)).astype(np.float32)) for name in features}
target = sum(columns.values()) + torch.randn(80, 1)


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({name: nn.Linear(1, random.choice([4, 6, 8])) for name in features})
        self.head = nn.Linear(sum(part.out_features for part in self.parts.values()), 1)

    def forward(self, batch):
        hidden = [torch.relu(part(batch[:, [i]])) for i, part in enumerate(self.parts.values())]
        return self.head(torch.cat(hidden, 1))


inputs = torch.cat([columns[name] for name in features], 1)
loader = DataLoader(TensorDataset(inputs, target), batch_size=random.randint(8, 12), shuffle=True)
model = Tower()
optimizer = torch.optim.Adam(model.parameters(), lr=float(np.random.uniform(0.01, 0.03)))
print("order:", ", ".join(features))
step = 0
for epoch in range(4):
    for x, y in loader:
        if random.random() < 0.3:
            x = x + torch.randn_like(x) * np.random.rand()
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        print(f"step {step} loss {loss.item():.8f}")
    print(f"epoch {epoch} draw {random.random():.8f} {rng.random():.8f} {hash('epoch') % 1000}")
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "features": list(features)}, out + "/model.pt")
