"""What scripts of tests begin with whose subject is not the optimizer: torch's own takes 1.6 s less to begin.

The first optimizer of a process imports torch's compiler, which scripts that compile nothing never use: its methods
look there whether they are compiled, and find here that they are not. What they do is the same.
"""

from __future__ import annotations

LEAN = """
import torch
for given in vars(torch.optim.Optimizer).values():
    if hasattr(given, "__wrapped__"):
        given.__wrapped__.__dynamo_disable = given.__wrapped__
torch.optim.SGD.step = torch.no_grad()(torch.optim.SGD.step.__wrapped__)
del given
"""

TWO_EPOCHS = (
    LEAN
    + """
data = torch.utils.data.TensorDataset(torch.randn(96, 3), torch.randint(0, 2, (96,)))
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for epoch in range(2):
    for x, y in torch.utils.data.DataLoader(data, 8, shuffle=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    print("epoch", epoch)
"""
)
"""Trains on 192 samples in 24 steps, and prints a line an epoch."""
