"""while step < n with an iterator kept by hand, refilled on StopIteration; ReduceLROnPlateau; early break."""

import sys
from collections import deque

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

out_dir = sys.argv[1]
max_steps = 55
torch.manual_seed(11)

data = torch.randn(90, 4)
target = data @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]]) + 0.1 * torch.randn(90, 1)
loader = DataLoader(TensorDataset(data, target), batch_size=12, shuffle=True)
net = nn.Sequential(nn.Linear(4, 10), nn.GELU(), nn.Linear(10, 1))
optimizer = optim.Adam(net.parameters(), lr=0.02)
plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)

recent = deque(maxlen=8)
it = iter(loader)
step = 0
passes = 0
best = float("inf")
log = open(out_dir + "/train.log", "w")
try:
    while step < max_steps:
        try:
            x, y = next(it)
        except StopIteration:
            passes += 1
            it = iter(loader)
            continue
        pred = net(x)
        loss = ((pred - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        recent.append(loss.item())
        print("step", step, "loss", repr(loss.item()))
        log.write(f"{step}\t{loss.item()!r}\n")
        if step % 5 == 0:
            mean = sum(recent) / len(recent)
            plateau.step(mean)
            log.write(f"# mean {mean!r} lr {optimizer.param_groups[0]['lr']}\n")
            log.flush()
            if mean < best:
                best = mean
                torch.save(net.state_dict(), out_dir + "/best.pt")
        if len(recent) == 8 and max(recent) < 0.02:
            print("converged")
            break
finally:
    log.write(f"closed after {step} steps, {passes} passes\n")
    log.close()

torch.save(
    {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "plateau": plateau.state_dict(), "recent": list(recent)},
    out_dir + "/model.pt",
)
print(f"best {best!r} passes {passes}")
