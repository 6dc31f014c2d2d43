"""tqdm over epochs and over batches, its postfix set in the loop; tqdm.write for messages."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm, trange

BAR = "{desc}: {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}{postfix}"


def main():
    torch.manual_seed(90)
    x = torch.randn(60, 4)
    y = x.abs().sum(1, keepdim=True)
    loader = DataLoader(TensorDataset(x, y), batch_size=10, shuffle=True)
    model = nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.ASGD(model.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    options = dict(bar_format=BAR, mininterval=0, miniters=1, ascii=True)
    step = 0
    for epoch in trange(6, desc="epochs", **options):
        total = torch.zeros(())
        with tqdm(loader, desc=f"epoch {epoch}", leave=False, **options) as bar:
            for xb, yb in bar:
                loss = nn.functional.mse_loss(model(xb), yb)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                step += 1
                total += loss.detach()
                bar.set_postfix(loss=f"{loss.item():.4f}")
                tqdm.write(f"step {step} loss {loss.item():.8f}", file=sys.stdout)
        tqdm.write(f"epoch {epoch} mean {total / len(loader):.8f}", file=sys.stdout)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, sys.argv[1] + "/model.pt")


if __name__ == "__main__":
    main()
