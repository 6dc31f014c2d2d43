"""No optimizer: parameters are plain tensors, updated by hand under no_grad, with momentum buffers in a list."""

import math
import sys

import torch

torch.manual_seed(2)
n_in, n_hidden, n_out = 3, 14, 2
X = torch.randn(64, n_in)
Y = torch.stack([X.norm(dim=1), X.prod(dim=1)], 1)

W1 = (torch.randn(n_in, n_hidden) / math.sqrt(n_in)).requires_grad_()
b1 = torch.zeros(n_hidden, requires_grad=True)
W2 = (torch.randn(n_hidden, n_out) / math.sqrt(n_hidden)).requires_grad_()
b2 = torch.zeros(n_out, requires_grad=True)
params = [W1, b1, W2, b2]
velocity = [torch.zeros_like(p) for p in params]
lr = 0.05
step = 0
losses = torch.zeros(48)
f = open(sys.argv[1] + "/loss.txt", "w")
for epoch in range(6):
    order = torch.randperm(len(X))
    for start in range(0, len(X), 8):
        idx = order[start : start + 8]
        xb, yb = X[idx], Y[idx]
        h = torch.tanh(xb @ W1 + b1)
        keep = (torch.rand(n_hidden) > 0.1).float()
        pred = (h * keep) @ W2 + b2
        loss = (pred - yb).square().mean()
        loss.backward()
        with torch.no_grad():
            for p, v in zip(params, velocity):
                v.mul_(0.9).add_(p.grad)
                p -= lr * v
                p.grad = None
        losses[step] = loss.item()
        step += 1
        print(f"step {step} loss {loss.item():.8f}")
        f.write(f"{step} {loss.item():.8f}\n")
    lr *= 0.8
    print(f"epoch {epoch} mean {losses[:step].mean():.8f} lr {lr:.6f}")
f.close()
torch.save({"params": params, "velocity": velocity, "losses": losses, "lr": lr}, sys.argv[1] + "/model.pt")
