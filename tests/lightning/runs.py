"""Small Lightning runs of many kinds, for both packages: each returns the state that it could change."""

from __future__ import annotations

import csv
import logging
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.loops.state import digest, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES, ROWS, BATCH = 3, 70, 8
BATCHES = 9
"""Of an epoch; the last has 6 samples."""

GIVEN: list[torch.Tensor] = []
"""What the model was given in each training step that was back-propagated, in order; brute force of the indices."""

Attach = Any
"""None, or a callable that is given the trainer and the module of each fit before it begins."""


def data() -> TensorDataset:
    """Random vectors, each of which tells its index; whole numbers as targets."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(ROWS, 6, generator=generator)
    return TensorDataset(inputs, torch.randint(0, CLASSES, (ROWS,), generator=generator))


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    """For training and for validation."""
    return DataLoader(data(), BATCH, shuffle=True), DataLoader(data(), 32)


def module_class(pl: Any) -> Any:
    """A module of that package: BatchNorm, dropout, logged values of every kind."""

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2),
                                     nn.Linear(12, CLASSES))  # fmt: skip
            self.loss = nn.CrossEntropyLoss()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            GIVEN.append(batch[0].clone())
            loss = self.loss(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, number: int) -> None:
            self.log("val_loss", self.loss(self.net(batch[0]), batch[1]))
            self.log("val_each", float(number), on_step=True, on_epoch=False)

        def test_step(self, batch: Any, number: int) -> None:
            self.log("test_loss", self.loss(self.net(batch[0]), batch[1]) + 0 * torch.rand(()))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    return Module


def manual_class(pl: Any) -> Any:
    """Steps by hand, every second batch."""

    class Manual(module_class(pl)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            loss = super().training_step(batch, batch_idx)
            self.manual_backward(loss / 2)
            if batch_idx % 2:
                optimizer = self.optimizers()
                optimizer.step()
                optimizer.zero_grad()

    return Manual


def gan_class(pl: Any) -> Any:
    """Two networks and two optimizers, stepped by hand in turn."""

    class Gan(module_class(pl)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(6, CLASSES)
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            first, second = self.optimizers()
            loss = super().training_step(batch, batch_idx)
            first.zero_grad()
            self.manual_backward(loss)
            first.step()
            GIVEN.append(batch[0].clone())
            second.zero_grad()
            self.manual_backward(self.loss(self.other(batch[0]), batch[1]))
            second.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.Adam(self.net.parameters()), torch.optim.SGD(self.other.parameters(), 0.1)]

    return Gan


def lbfgs_class(pl: Any) -> Any:
    """An optimizer that calls its closure several times a step."""

    class Lbfgs(module_class(pl)):  # type: ignore[misc]
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), 0.01, 3, tolerance_grad=0.0, tolerance_change=0.0)

    return Lbfgs


def datamodule_class(pl: Any) -> Any:
    """Data by hooks."""

    class Data(pl.LightningDataModule):  # type: ignore[misc]
        def setup(self, stage: str) -> None:
            self.train, self.valid = loaders()

        def train_dataloader(self) -> Any:
            return self.train

        def val_dataloader(self) -> Any:
            return self.valid

        def test_dataloader(self) -> Any:
            return self.valid

    return Data


class Run:
    """One run: a folder, trainers of one package, and what came of it."""

    def __init__(self, pl: Any, folder: Path, attach: Attach = None) -> None:
        self.pl = pl
        self.folder = folder
        self.attach = attach
        self.trainers: list[Any] = []
        self.modules: list[Any] = []

    def trainer(self, **given: Any) -> Any:
        """A trainer without frills, that logs each step to a CSV file."""
        number = len(self.trainers)
        settings: dict[str, Any] = {
            "max_epochs": 2, "accelerator": "cpu", "enable_checkpointing": False, "enable_progress_bar": False,
            "enable_model_summary": False, "log_every_n_steps": 1, "default_root_dir": self.folder,
            "logger": self.pl.loggers.CSVLogger(self.folder, name="csv", version=number),
            **given,
        }  # fmt: skip
        self.trainers.append(self.pl.Trainer(**settings))
        return self.trainers[-1]

    def fit(self, trainer: Any, module: Any, *given: Any, **named: Any) -> None:
        """Attach, if that is asked for, and fit; with the loaders that all use unless others are given."""
        if self.attach is not None:
            self.attach(self.pl, trainer, module)
        self.modules.append(module)
        trainer.fit(module, *(given or (() if named.get("datamodule") else loaders())), **named)

    def state(self) -> list[Any]:
        """All that could have been changed."""
        return [
            [module.state_dict() for module in self.modules],
            [[optimizer.state_dict() for optimizer in trainer.optimizers] for trainer in self.trainers],
            [[trainer.global_step, trainer.current_epoch, dict(trainer.callback_metrics)] for trainer in self.trainers],
            [path.read_text() for path in sorted(self.folder.glob("csv/*/metrics.csv"))],
            surroundings(),
        ]

    def logged(self, number: int = 0) -> list[dict[str, str]]:
        """The rows of the script's own CSV logger."""
        with open(self.folder / "csv" / f"version_{number}" / "metrics.csv", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def automatic(run: Run) -> None:
    run.fit(run.trainer(), module_class(run.pl)())


def accumulating(run: Run) -> None:
    run.fit(run.trainer(accumulate_grad_batches=4), module_class(run.pl)())


def bfloat(run: Run) -> None:
    run.fit(run.trainer(precision="bf16-mixed"), module_class(run.pl)())


def by_hand(run: Run) -> None:
    run.fit(run.trainer(), manual_class(run.pl)())


def two_optimizers(run: Run) -> None:
    run.fit(run.trainer(), gan_class(run.pl)())


def lbfgs(run: Run) -> None:
    run.fit(run.trainer(), lbfgs_class(run.pl)())


def with_datamodule(run: Run) -> None:
    run.fit(run.trainer(), module_class(run.pl)(), datamodule=datamodule_class(run.pl)())


def with_callbacks(run: Run) -> None:
    callbacks = run.pl.callbacks
    trainer = run.trainer(
        max_epochs=4, gradient_clip_val=0.5, enable_checkpointing=True,
        callbacks=[callbacks.EarlyStopping("val_loss", patience=1, min_delta=10.0), callbacks.LearningRateMonitor(),
                   callbacks.ModelCheckpoint(run.folder / "best", monitor="val_loss", save_last=True)],
    )  # fmt: skip
    run.fit(trainer, module_class(run.pl)())


def in_parts(run: Run) -> None:
    run.fit(run.trainer(limit_train_batches=7, val_check_interval=3, num_sanity_val_steps=0), module_class(run.pl)())


def twice(run: Run) -> None:
    trainer, module = run.trainer(), module_class(run.pl)()
    run.fit(trainer, module)
    trainer.fit_loop.max_epochs = 4
    trainer.fit(module, *loaders())


def from_a_checkpoint(run: Run) -> None:
    first = run.trainer(max_epochs=1)
    run.fit(first, module_class(run.pl)())
    first.save_checkpoint(run.folder / "one.ckpt")
    run.fit(run.trainer(max_epochs=2), module_class(run.pl)(), ckpt_path=run.folder / "one.ckpt")


def folds(run: Run) -> None:
    """Two trainers that both stay alive."""
    for _ in range(2):
        run.fit(run.trainer(max_epochs=1), module_class(run.pl)())


def without_a_loader(run: Run) -> None:
    """Any iterable of batches will do for Lightning; these are views of the data, and no loader made them."""

    class Batches:
        def __iter__(self) -> Any:
            return zip(*(tensor.split(BATCH) for tensor in data().tensors))

        def __len__(self) -> int:
            return BATCHES

    run.fit(run.trainer(), module_class(run.pl)(), Batches())


KINDS: dict[str, Callable[[Run], None]] = {
    kind.__name__: kind
    for kind in (
        automatic, accumulating, bfloat, by_hand, two_optimizers, lbfgs, with_datamodule, with_callbacks, in_parts,
        twice, from_a_checkpoint, folds, without_a_loader,
    )
}  # fmt: skip

EPOCH = range(BATCHES)
STEPS: dict[str, list[int]] = {
    "automatic": [*range(18)],
    "accumulating": [0, 0, 0, 0, 1, 1, 1, 1, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5],
    "bfloat": [*range(18)],
    "by_hand": [(4 * (call // 9)) + call % 9 // 2 for call in range(18)],
    "two_optimizers": [(call + 1) // 2 for call in range(36)],
    "lbfgs": [call // 3 for call in range(54)],
    "with_datamodule": [*range(18)],
    "with_callbacks": [*range(18)],
    "in_parts": [*range(14)],
    "twice": [*range(36)],
    "from_a_checkpoint": [*range(18)],
    "folds": [*range(18)],
    "without_a_loader": [*range(18)],
}
"""Which step each backward call belongs to: how many steps of the first optimizer have ended before it."""


def play(name: str, pl: Any, attach: Attach = None) -> tuple[str, Run]:
    """Seed everything, run that kind; the hash of all that it made and left around, and the run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    GIVEN.clear()
    loggers = [logging.getLogger(f"{top}.utilities.rank_zero") for top in ("lightning.pytorch", "pytorch_lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="onthefly-lightning-"))
    try:
        run = Run(pl, folder, attach)
        KINDS[name](run)
        state = run.state()
        logged = [run.logged(number) for number in range(len(run.trainers))]
        run.logged = logged.__getitem__  # type: ignore[method-assign]
        return digest(state), run
    finally:
        shutil.rmtree(folder)
        torch.set_num_threads(threads)
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
