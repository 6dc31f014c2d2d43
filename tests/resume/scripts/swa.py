"""Stochastic weight averaging: AveragedModel, SWALR after a start epoch, update_bn at the end; Adagrad before."""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset


def build():
    return nn.Sequential(nn.Linear(6, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 3))


def run(out):
    torch.manual_seed(31)
    x = torch.randn(128, 6)
    y = x[:, :3].argmax(1)
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    model = build()
    swa_model = AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    swa_start = 3
    swa_scheduler = SWALR(optimizer, swa_lr=0.05, anneal_epochs=2)
    loss_fn = nn.CrossEntropyLoss()
    n = 0
    for epoch in range(7):
        model.train()
        losses = []
        for inputs, target in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(inputs), target)
            loss.backward()
            optimizer.step()
            n += 1
            losses.append(loss)
            print(f"step {n} loss {loss:.8f}")
        if epoch >= swa_start:
            swa_model.update_parameters(model)
            swa_scheduler.step()
        else:
            scheduler.step()
        print(f"epoch {epoch} loss {torch.stack(losses).mean():.8f} averaged {int(swa_model.n_averaged)}")
    update_bn(loader, swa_model)
    swa_model.eval()
    with torch.no_grad():
        acc = (swa_model(x).argmax(1) == y).float().mean()
    print(f"swa accuracy {acc:.6f}")
    torch.save(swa_model.state_dict(), out / "swa.pt")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "swa": swa_scheduler.state_dict()}, out / "model.pt")


run(Path(sys.argv[1]))
