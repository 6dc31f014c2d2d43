"""Ignite: a trainer engine with handlers, an evaluator run after each epoch, running average."""

import sys
from pathlib import Path

import torch
from ignite.engine import Engine, Events, create_supervised_evaluator
from ignite.metrics import Accuracy, Loss, RunningAverage
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    out = Path(sys.argv[1])
    torch.manual_seed(29)
    x = torch.randn(80, 6)
    y = (x[:, 0] > 0.2).long()
    train = DataLoader(TensorDataset(x[:64], y[:64]), batch_size=8, shuffle=True)
    valid = DataLoader(TensorDataset(x[64:], y[64:]), batch_size=8)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    criterion = nn.CrossEntropyLoss()

    def update(engine, batch):
        model.train()
        optimizer.zero_grad()
        loss = criterion(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss.item()

    trainer = Engine(update)
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "running")
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy(), "loss": Loss(criterion)})
    best = 0.0

    @trainer.on(Events.ITERATION_COMPLETED)
    def show(engine):
        print(f"step {engine.state.iteration} loss {engine.state.output:.8f} running {engine.state.metrics['running']:.8f}")

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        nonlocal best
        evaluator.run(valid)
        metrics = evaluator.state.metrics
        print(f"epoch {engine.state.epoch} accuracy {metrics['accuracy']:.4f} loss {metrics['loss']:.8f}")
        if metrics["accuracy"] > best:
            best = metrics["accuracy"]
            torch.save(model.state_dict(), out / "best.pt")

    trainer.run(train, max_epochs=5)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": best}, out / "model.pt")


if __name__ == "__main__":
    main()
