"""An IterableDataset that is split over two workers, with a shuffle buffer in the main process."""

import random
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        first, stride = (info.id, info.num_workers) if info else (0, 1)
        for i in range(first, self.n, stride):
            generator = torch.Generator().manual_seed(1000 + i)
            x = torch.randn(5, generator=generator)
            yield x + 0.05 * torch.randn(5), (x[0] * x[1]).reshape(1)


def shuffled(source, size, rng):
    buffer = []
    for item in source:
        if len(buffer) < size:
            buffer.append(item)
            continue
        place = rng.randrange(size)
        buffer[place], item = item, buffer[place]
        yield item
    rng.shuffle(buffer)
    yield from buffer


def main():
    out = sys.argv[1]
    torch.manual_seed(50)
    rng = random.Random(50)
    loader = DataLoader(Stream(96), batch_size=8, num_workers=2)
    model = nn.Sequential(nn.Linear(5, 20), nn.Mish(), nn.Linear(20, 1))
    optimizer = torch.optim.RAdam(model.parameters(), lr=0.01)
    step = 0
    with open(f"{out}/stream.log", "a") as log:
        for epoch in range(3):
            for x, y in shuffled(loader, 4, rng):
                optimizer.zero_grad()
                loss = nn.functional.huber_loss(model(x), y, delta=0.5)
                loss.backward()
                nn.utils.clip_grad_value_(model.parameters(), 0.5)
                optimizer.step()
                step += 1
                print(f"step {step} loss {loss.item():.8f} first {x[0, 0].item():.6f}")
                if step % 5 == 0:
                    log.write(f"{step} {loss.item():.8f}\n")
            print(f"epoch {epoch} draw {rng.random():.6f}")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{out}/model.pt")


if __name__ == "__main__":
    main()
