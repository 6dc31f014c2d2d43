"""autocast in bfloat16 with a GradScaler, gradients accumulated over 3 batches with a remainder, cosine schedule."""

import json
import os
import random
import sys

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

ACCUMULATE = 3
EPOCHS = 6


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.drop = nn.Dropout2d(0.2)
        self.fc = nn.Linear(6 * 16, 4)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.bn(self.conv(x))), 2)
        return self.fc(self.drop(x).flatten(1))


def main():
    out = sys.argv[1]
    seed_everything(42)
    images = torch.randn(110, 1, 8, 8)
    labels = torch.randint(0, 4, (110,))
    loader = DataLoader(TensorDataset(images, labels), batch_size=8, shuffle=True)
    model = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05)
    updates = EPOCHS * ((len(loader) + ACCUMULATE - 1) // ACCUMULATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates)
    scaler = torch.amp.GradScaler("cpu", growth_interval=5)
    log = open(os.path.join(out, "metrics.jsonl"), "w")
    update = 0
    for epoch in range(EPOCHS):
        running, seen = 0.0, 0
        optimizer.zero_grad()
        for i, (x, y) in enumerate(loader):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = criterion(model(x), y) / ACCUMULATE
            scaler.scale(loss).backward()
            running += loss.item() * ACCUMULATE * len(x)
            seen += len(x)
            if (i + 1) % ACCUMULATE == 0 or i + 1 == len(loader):
                scaler.unscale_(optimizer)
                norm = nn.utils.clip_grad_norm_(model.parameters(), 2.0)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                scheduler.step()
                update += 1
                print(f"step {update} loss {running / seen:.8f} norm {norm:.6f} scale {scaler.get_scale()}")
        record = {"epoch": epoch, "loss": running / seen, "lr": scheduler.get_last_lr()}
        log.write(json.dumps(record) + "\n")
        print(record)
    log.close()
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "numpy": np.random.random(),
            "python": random.random(),
        },
        os.path.join(out, "model.pt"),
    )


if __name__ == "__main__":
    main()
