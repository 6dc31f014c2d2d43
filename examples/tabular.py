"""Progress of diabetes from ten measurements of a patient, with a small network: a plain PyTorch script."""

import argparse

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split


def evaluate(model, loader, spread):
    """Root of the mean squared error in the target's own unit, and the share of the variance that is explained."""
    model.eval()
    with torch.no_grad():
        pairs = [(model(inputs), targets) for inputs, targets in loader]
    predictions, targets = (torch.cat(parts) for parts in zip(*pairs))
    error = F.mse_loss(predictions, targets)
    return error.sqrt().item() * spread, 1 - (error / targets.var(correction=0)).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", help="where to save the final state")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # matrices this small are slower on more
    diabetes = load_diabetes()
    inputs = torch.tensor(diabetes.data, dtype=torch.float32) * len(diabetes.data) ** 0.5  # to unit variance
    targets = torch.tensor(diabetes.target, dtype=torch.float32).unsqueeze(1)
    spread = targets.std().item()
    data = TensorDataset(inputs, (targets - targets.mean()) / spread)
    train, valid = random_split(data, [354, len(data) - 354])
    train_loader = DataLoader(train, args.batch_size, shuffle=True, num_workers=args.workers)
    valid_loader = DataLoader(valid, 128)

    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            loss = F.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(targets)
        scheduler.step()
        error, explained = evaluate(model, valid_loader, spread)
        print(f"epoch {epoch}  train {total / len(train):.4f}  RMSE {error:.2f}  R2 {explained:.4f}")

    if args.save:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                    "random": torch.get_rng_state()}, args.save)  # fmt: skip


if __name__ == "__main__":
    main()
