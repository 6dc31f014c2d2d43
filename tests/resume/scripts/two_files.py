"""Training and evaluation live in a second module beside the script."""

import os
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from two_files_engine import evaluate, history, train_one_epoch

if __name__ == "__main__":
    output_dir = sys.argv[1]
    torch.manual_seed(64)
    x = torch.randn(100, 5)
    y = (x.pow(2).sum(1) > 5).long()
    data_loader = DataLoader(TensorDataset(x[:80], y[:80]), batch_size=10, shuffle=True)
    data_loader_test = DataLoader(TensorDataset(x[80:], y[80:]), batch_size=10)
    model = nn.Sequential(nn.Linear(5, 24), nn.GroupNorm(4, 24), nn.ReLU(), nn.Linear(24, 2))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    main_lr = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    warmup_lr = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=2)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup_lr, main_lr], milestones=[2])
    best_acc = 0.0
    for epoch in range(6):
        train_one_epoch(model, criterion, optimizer, data_loader, epoch, print_freq=1)
        lr_scheduler.step()
        acc = evaluate(model, criterion, data_loader_test)
        checkpoint = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": lr_scheduler.state_dict(),
            "epoch": epoch,
            "history": dict(history),
        }
        torch.save(checkpoint, os.path.join(output_dir, "checkpoint.pt"))
        if acc > best_acc:
            best_acc = acc
            torch.save(checkpoint, os.path.join(output_dir, "best.pt"))
    print("best", best_acc)
    torch.save(model.state_dict(), os.path.join(output_dir, "model.pt"))
