"""Augmentation in the dataset by torch, numpy and random, in two workers that are started anew for each epoch."""

import random
import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Pictures(Dataset):
    def __init__(self, count, augment):
        generator = torch.Generator().manual_seed(5)
        self.images = torch.rand(count, 3, 6, 6, generator=generator)
        self.labels = torch.randint(0, 3, (count,), generator=generator)
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment:
            if random.random() < 0.5:
                image = image.flip(-1)
            image = image + 0.05 * torch.randn(image.shape)
            image = image * float(np.random.uniform(0.8, 1.2))
        return image, self.labels[index]


def seed_worker(worker_id):
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)


def main():
    out = sys.argv[1]
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    train = DataLoader(Pictures(96, True), 12, shuffle=True, num_workers=2, worker_init_fn=seed_worker)
    valid = DataLoader(Pictures(24, False), 12)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 3))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3, momentum=0.5)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    step = 0
    for epoch in range(1, 5):
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            step += 1
            print(f"step {step} loss {loss.item():.8f} mean {images.mean().item():.8f}")
        model.eval()
        with torch.no_grad():
            losses = [criterion(model(images), labels).item() for images, labels in valid]
        scheduler.step()
        print(f"epoch {epoch} valid {np.mean(losses):.8f}")
        torch.save({"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{out}/epoch{epoch}.pt")
    torch.save(model, f"{out}/model.pt")


if __name__ == "__main__":
    main()
