"""Meta-learning: an inner loop by autograd.grad and functional_call, an outer Adam."""

import sys

import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(71)
out = sys.argv[1]
net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
meta = torch.optim.Adam(net.parameters(), lr=5e-3)
scheduler = torch.optim.lr_scheduler.ChainedScheduler(
    [torch.optim.lr_scheduler.ConstantLR(meta, 0.5, 4), torch.optim.lr_scheduler.ExponentialLR(meta, 0.98)]
)


class Sines:
    def __iter__(self):
        return self

    def __next__(self):
        amplitude, phase = torch.rand(1) * 4 + 0.5, torch.rand(1) * 3
        x = torch.rand(10, 1) * 6 - 3
        return x, amplitude * torch.sin(x + phase)


def adapt(params, x, y, steps=2, lr=0.05):
    for _ in range(steps):
        loss = nn.functional.mse_loss(functional_call(net, params, x), y)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {name: p - lr * g for (name, p), g in zip(params.items(), grads)}
    return params


tasks = Sines()
before = after = None
for step in range(1, 41):
    meta.zero_grad()
    losses = []
    for _ in range(2):
        x, y = next(tasks)
        adapted = adapt(dict(net.named_parameters()), x[:5], y[:5])
        losses.append(nn.functional.mse_loss(functional_call(net, adapted, x[5:]), y[5:]))
    total = torch.stack(losses).mean()
    total.backward()
    meta.step()
    scheduler.step()
    before, after = after, total.item()
    print(f"step {step} loss {after:.8f} change {0.0 if before is None else after - before:+.8f} lr {scheduler.get_last_lr()[0]:.8f}")
    if step % 10 == 0:
        torch.save([net.state_dict(), step], f"{out}/net{step}.pt")
torch.save({"model": net.state_dict(), "optimizer": meta.state_dict(), "scheduler": scheduler.state_dict()}, f"{out}/model.pt")
