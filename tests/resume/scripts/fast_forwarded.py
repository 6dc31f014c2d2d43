"""for step in range(N) with next() on an iterator that is made anew each pass: a prototype skipped batches here, silently."""

import sys

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(123)
N = 48
x = torch.randn(64, 3)
y = (x ** 2).sum(1, keepdim=True)
loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
it = iter(loader)
history = []
for step in range(N):
    if step % len(loader) == 0 and step:
        it = iter(loader)
    if step == 10:
        x_probe = next(iter(loader))[0]  # a look at one batch, which draws from the generator
    xb, yb = next(it)
    lr = 0.02 * 0.5 * (1 + torch.cos(torch.tensor(step / N * 3.14159))).item()
    optimizer.param_groups[0]["lr"] = lr
    loss = (model(xb) - yb).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    history.append(loss.item())
    print(f"step {step + 1} loss {loss.item():.8f} lr {lr:.8f}")
    if step % 16 == 15:
        print(f"mean of the last 16: {sum(history[-16:]) / 16:.8f}")
with open(sys.argv[1] + "/history.txt", "w") as f:
    f.write("\n".join(repr(value) for value in history))
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "probe": x_probe}, sys.argv[1] + "/model.pt")
