"""Handwritten digits, one label in ten of them wrong on purpose, and a small network: a plain PyTorch script."""

import argparse
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 15


def load(seed: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Images, labels, and which of the labels are wrong: a tenth, each another digit drawn by chance."""
    digits: Any = load_digits()
    chance = np.random.default_rng(seed)
    wrong = np.zeros(len(digits.target), bool)
    wrong[chance.choice(len(wrong), len(wrong) // 10, replace=False)] = True
    labels = np.where(wrong, (digits.target + chance.integers(1, 10, len(wrong))) % 10, digits.target)
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    return images, torch.tensor(labels), wrong


def train(images: torch.Tensor, labels: torch.Tensor, seed: int) -> nn.Module:
    """A network with one convolution, after :data:`EPOCHS` epochs."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                          nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10))  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(EPOCHS):
        for batch, targets in DataLoader(TensorDataset(images, labels), 64, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(batch), targets).backward()
            optimizer.step()
    return model.eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    images, labels, _ = load(seed)
    train(images, labels, seed)
