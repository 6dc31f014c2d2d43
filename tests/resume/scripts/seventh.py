"""Row 30's script: an epoch loop over augmented data, its workers and their order chosen on the command line."""

import random
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Points(Dataset):
    def __init__(self, count):
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(count, 5, generator=generator)
        self.y = (self.x.sum(1) > 0).long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index] + 0.1 * torch.randn(5) + 0.01 * random.random(), self.y[index]


def main():
    out, workers, shuffled = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "shuffled"
    torch.manual_seed(7)
    random.seed(7)
    loader = DataLoader(Points(66), 6, shuffle=shuffled, num_workers=workers)
    model = nn.Sequential(nn.Linear(5, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.25), nn.Linear(12, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, amsgrad=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=33)
    step, seen = 0, 0
    for epoch in range(3):
        for number, (x, y) in enumerate(loader):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            step += 1
            seen += len(y)
            print(f"step {step} batch {number} loss {loss.item().hex()} lr {scheduler.get_last_lr()[0]:.8g} seen {seen}")
        torch.save([model.state_dict(), optimizer.state_dict(), scheduler.state_dict()], f"{out}/epoch{epoch}.pt")
    print(torch.rand(1).item().hex(), random.random())


if __name__ == "__main__":
    main()
