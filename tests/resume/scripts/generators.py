"""Random generators of its own: torch.Generator for the loader and for noise, numpy Generators with different bit sources."""

import random
import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split


class Measured(Dataset):
    def __init__(self, n, rng):
        self.rng = rng
        self.signal = rng.normal(size=(n, 4))
        self.target = np.tanh(self.signal).sum(1, keepdims=True)

    def __len__(self):
        return len(self.signal)

    def __getitem__(self, i):
        noise = self.rng.standard_normal(4) * 0.05
        return torch.tensor(self.signal[i] + noise, dtype=torch.float32), torch.tensor(self.target[i], dtype=torch.float32)


def main(out):
    seeds = np.random.SeedSequence(20).spawn(3)
    data_rng = np.random.Generator(np.random.PCG64(seeds[0]))
    drop_rng = np.random.Generator(np.random.Philox(seeds[1]))
    legacy = np.random.RandomState(20)
    py_rng = random.Random(20)
    noise_gen = torch.Generator().manual_seed(21)
    torch.manual_seed(22)
    train, valid = random_split(Measured(90, data_rng), [70, 20], generator=torch.Generator().manual_seed(23))
    loader = DataLoader(train, batch_size=7, shuffle=True, generator=torch.Generator().manual_seed(24))
    model = nn.Sequential(nn.Linear(4, 16), nn.Softplus(), nn.Linear(16, 1))
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    step = 0
    for epoch in range(4):
        for x, y in loader:
            noise = torch.empty_like(x).normal_(0, 0.1, generator=noise_gen)
            keep = torch.from_numpy((drop_rng.random(len(x)) > 0.1).astype(np.float32)).unsqueeze(1)
            scale = py_rng.gauss(1.0, 0.1) * legacy.uniform(0.9, 1.1)
            loss = (keep * (model(x + noise) - scale * y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            print(f"step {step} loss {loss.item():.8f} scale {scale:.8f} kept {int(keep.sum())}")
        with torch.no_grad():
            score = np.mean([(model(x) - y).abs().item() for x, y in (valid[i] for i in range(len(valid)))])
        print(f"epoch {epoch} valid {score:.8f} next {py_rng.getrandbits(16)} {int(drop_rng.integers(1000))}")
    states = {"noise": noise_gen.get_state(), "python": py_rng.getstate(), "numpy": data_rng.bit_generator.state["state"]}
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), **states}, f"{out}/model.pt")


if __name__ == "__main__":
    main(sys.argv[1])
