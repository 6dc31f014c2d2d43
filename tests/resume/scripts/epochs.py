"""Plain epochs: shuffle, StepLR, validation, the best model kept as a file."""

import csv
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

out = Path(sys.argv[1])
torch.manual_seed(0)

x = torch.randn(200, 8)
y = (x[:, :3].sum(1) > 0).long()
train_set, valid_set = random_split(TensorDataset(x, y), [160, 40])
train_loader = DataLoader(train_set, batch_size=16, shuffle=True)
valid_loader = DataLoader(valid_set, batch_size=20)

model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)

step = 0
best_acc = 0.0
with open(out / "log.csv", "w", newline="") as f:
    writer = csv.writer(f)
    writer.writerow(["epoch", "train_loss", "valid_acc", "lr"])
    for epoch in range(5):
        model.train()
        running = 0.0
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            running += loss.item()
            step += 1
            print(f"step {step} loss {loss.item():.8f}")
        model.eval()
        correct = 0
        with torch.no_grad():
            for xb, yb in valid_loader:
                correct += (model(xb).argmax(1) == yb).sum().item()
        acc = correct / len(valid_set)
        scheduler.step()
        writer.writerow([epoch, running / len(train_loader), acc, scheduler.get_last_lr()[0]])
        print(f"epoch {epoch} loss {running / len(train_loader):.8f} acc {acc:.4f}")
        if acc > best_acc:
            best_acc = acc
            torch.save(model.state_dict(), out / "best.pt")
            print(f"new best {acc:.4f}")

torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, out / "model.pt")
print("done", best_acc)
