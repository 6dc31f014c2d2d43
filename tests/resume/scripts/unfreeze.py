"""Fine-tuning: the backbone is unfrozen in epoch 2, with a new optimizer and scheduler; a new head comes in epoch 4."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def main(out):
    torch.manual_seed(77)
    x = torch.randn(120, 8)
    coarse, fine = (x[:, 0] > 0).long(), ((x[:, 0] > 0).long() * 2 + (x[:, 1] > 0).long())
    backbone = nn.Sequential(nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU())
    model = nn.Sequential(backbone, nn.Linear(12, 2))
    for p in backbone.parameters():
        p.requires_grad = False
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1, momentum=0.9)
    scheduler = None
    target = coarse
    step = 0
    for epoch in range(6):
        if epoch == 2:
            for p in backbone.parameters():
                p.requires_grad = True
            optimizer = torch.optim.AdamW(
                [{"params": backbone.parameters(), "lr": 1e-3}, {"params": model[1].parameters(), "lr": 1e-2}]
            )
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
            print("unfroze the backbone")
        elif epoch == 4:
            model[1] = nn.Linear(12, 4)
            optimizer.add_param_group({"params": model[1].parameters(), "lr": 2e-2, "weight_decay": 0.0})
            target = fine
            print("new head")
        loader = DataLoader(TensorDataset(x, target), batch_size=15, shuffle=True)
        model.train()
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(xb), yb)
            loss.backward()
            optimizer.step()
            if scheduler is not None and epoch < 4:
                scheduler.step()
            step += 1
            print(f"step {step} loss {loss.item():.8f} groups {len(optimizer.param_groups)}")
        print(f"epoch {epoch} accuracy {accuracy(model, x, target):.4f}")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{out}/epoch{epoch}.pt")
    torch.save(model.state_dict(), f"{out}/model.pt")


if __name__ == "__main__":
    main(sys.argv[1])
