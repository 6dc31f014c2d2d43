"""Cross-validation: a fresh model, optimizer and loader in each fold; results in a table at the end."""

import json
import sys
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler, TensorDataset


@dataclass
class Fold:
    number: int
    scores: list = field(default_factory=list)
    best: float = 0.0


def reset_weights(m):
    if hasattr(m, "reset_parameters"):
        m.reset_parameters()


def main(out):
    torch.manual_seed(33)
    np.random.seed(33)
    x = torch.randn(90, 5)
    dataset = TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())
    parts = np.array_split(np.random.permutation(90), 3)
    folds, step = [], 0
    for k in range(3):
        train_ids = np.concatenate([part for j, part in enumerate(parts) if j != k])
        loader = DataLoader(dataset, batch_size=10, sampler=SubsetRandomSampler(train_ids.tolist()))
        test = DataLoader(Subset(dataset, parts[k].tolist()), batch_size=30)
        model = nn.Sequential(nn.Linear(5, 8 + 4 * k), nn.ReLU(), nn.Linear(8 + 4 * k, 2))
        model.apply(reset_weights)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        fold = Fold(k)
        folds.append(fold)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(xb), yb)
                loss.backward()
                optimizer.step()
                step += 1
                print(f"step {step} fold {k} loss {loss.item():.8f}")
            with torch.no_grad():
                score = np.mean([(model(xb).argmax(1) == yb).float().mean().item() for xb, yb in test])
            fold.scores.append(score)
            fold.best = max(fold.best, score)
            print(f"fold {k} epoch {epoch} score {score:.4f}")
        torch.save(model.state_dict(), f"{out}/fold{k}.pt")
    with open(f"{out}/folds.json", "w") as f:
        json.dump([fold.__dict__ for fold in folds], f, indent=1)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{out}/model.pt")
    print("mean", np.mean([fold.best for fold in folds]))


main(sys.argv[1])
