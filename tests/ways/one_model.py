"""Trains one model in the way that is asked for: ``one_model.py WAY STATE [LOSSES]``.

Writes everything that training leaves behind to STATE; ``bare`` also writes each sample's loss by brute force to
LOSSES: a list of (backward, step, epoch, position, sample, loss).
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

EPOCHS = 3


def parts() -> tuple[nn.Module, torch.optim.Optimizer, Any, Any]:
    """A network with BatchNorm, its optimizer, a shuffled loader of a subset, and one for validation."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    data = TensorDataset(torch.randn(100, 6), torch.randint(0, 3, (100,)))
    train = Subset(data, range(99, 29, -1))
    # A generator of its own: Lightning draws from the global one in other places than a loop by hand.
    loader = DataLoader(train, 16, shuffle=True, generator=torch.Generator().manual_seed(1))
    valid = DataLoader(Subset(data, range(30)), 16)
    return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), loader, valid


def evaluate(model: nn.Module, valid: Any) -> None:
    """Look at the validation data."""
    model.eval()
    with torch.no_grad():
        for x, y in valid:
            F.cross_entropy(model(x), y)


def bare(losses: str = "") -> tuple[nn.Module, Any]:
    """The loop by hand, and, if asked for, each sample's loss by brute force."""
    model, optimizer, loader, valid = parts()
    found: list[tuple[int, int, int, int, int, float]] = []
    step = 0
    for epoch in range(EPOCHS):
        model.train()
        order = _order(loader) if losses else []
        for batch, (x, y) in enumerate(loader):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            if losses:
                each = F.cross_entropy(output.detach(), y, reduction="none").tolist()
                indices = order[16 * batch :]
                found += [(step, step, epoch, place, 99 - indices[place], value) for place, value in enumerate(each)]
            loss.backward()
            optimizer.step()
            step += 1
        evaluate(model, valid)
    if losses:
        with open(losses, "w", encoding="utf-8") as file:
            json.dump(found, file)
    return model, optimizer


def _order(loader: Any) -> list[int]:
    """The places in the subset that the coming epoch draws, found out with a copy of the loader's generator."""
    copy = torch.Generator()
    copy.set_state(loader.generator.get_state())
    copied = DataLoader(range(len(loader.dataset)), 16, shuffle=True, generator=copy)  # type: ignore[arg-type]
    return [int(place) for batch in copied for place in batch]


def by_trainer() -> tuple[nn.Module, Any]:
    """``onthefly.Trainer``."""
    from onthefly import Trainer

    model, optimizer, loader, valid = parts()
    trainer = Trainer(project="ways", run_name="trainer", max_epochs=EPOCHS, val_every_n_epochs=1)
    trainer.fit(model=model, optimizer=optimizer, loss_fn=nn.CrossEntropyLoss(), train_loader=loader, val_loader=valid)
    return model, optimizer


def by_lightning(attach: bool) -> tuple[nn.Module, Any]:
    """Lightning, with or without ``attach_lightning``."""
    import logging

    import lightning as L

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    net, optimizer, loader, valid = parts()

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net: Any = net

        def training_step(self, batch: Any, number: int) -> Any:
            x, y = batch
            loss = F.cross_entropy(self.net(x), y)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, number: int) -> None:
            x, y = batch
            self.log("val_loss", F.cross_entropy(self.net(x), y))

        def configure_optimizers(self) -> Any:
            return optimizer

    module = Module()
    trainer = L.Trainer(max_epochs=EPOCHS, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                        enable_model_summary=False, log_every_n_steps=1, accelerator="cpu")  # fmt: skip
    if attach:
        from onthefly import attach_lightning

        attach_lightning(trainer=trainer, model=module, project="ways", run_name="attached", train_loader=loader,
                         val_loader=valid, loss_fn=F.cross_entropy)  # fmt: skip
    trainer.fit(module, loader, valid)
    return net, optimizer


def main() -> None:
    """Train, and write what is left."""
    way, path, *rest = sys.argv[1:]
    if way == "bare":
        model, optimizer = bare(*rest)
    elif way == "trainer":
        model, optimizer = by_trainer()
    else:
        model, optimizer = by_lightning(way == "attached")
    torch.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}, path
    )


if __name__ == "__main__":
    main()
