"""Training runs in a thread, which hands its metrics to the main thread through a queue."""

import queue
import sys
import threading

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train(model, optimizer, loader, epochs, results):
    for epoch in range(epochs):
        for x, y in loader:
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            results.put((epoch, loss.item()))
            results.join()  # one at a time: what is printed is in step with what is trained
    results.put(None)


def main(out):
    torch.manual_seed(44)
    x = torch.randn(70, 3)
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True).sin()), batch_size=10, shuffle=True)
    model = nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    results = queue.Queue()
    worker = threading.Thread(target=train, args=(model, optimizer, loader, 5, results), name="trainer")
    worker.start()
    values = []
    while (item := results.get()) is not None:
        epoch, loss = item
        values.append(loss)
        print(f"step {len(values)} epoch {epoch} loss {loss:.8f}")
        results.task_done()
    worker.join()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": values}, f"{out}/model.pt")


if __name__ == "__main__":
    main(sys.argv[1])
