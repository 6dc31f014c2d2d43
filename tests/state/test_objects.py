"""What has state is found under the name that its author knows, once, and without running the script's code."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from onthefly.state.objects import find


class Trainer:
    """As scripts have them."""

    def __init__(self) -> None:
        self.model = nn.Linear(2, 2)
        self.optimizers = [
            torch.optim.SGD(self.model.parameters(), 0.1),
            torch.optim.SGD([nn.Parameter(torch.ones(3))], 1),
        ]
        self.config = {"nested": {"ema": AveragedModel(self.model)}}

    @property
    def explodes(self) -> Any:
        raise AssertionError("a property was read")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"__getattr__({name!r})")


def names(roots: dict[str, Any]) -> dict[str, list[str]]:
    """The names that were found, by kind; empty kinds left out."""
    return {kind: list(things) for kind, things in find(roots).kinds().items() if things}


def test_names_are_the_authors() -> None:
    trainer = Trainer()
    found = {
        "modules": ["trainer.model", "trainer.config['nested']['ema']"],
        "optimizers": ["trainer.optimizers[0]", "trainer.optimizers[1]"],
        "tensors": ["trainer.optimizers[1].param_groups[0].params[0]"],
    }
    assert names({"self": trainer}) == found
    assert names({"self": trainer, "trainer": trainer}) == found
    assert names({"self": trainer, "t": trainer})["modules"][0] == "t.model"
    assert names({"self": trainer, "trainer": nn.Linear(1, 1)})["modules"] == [
        "trainer", "self.model", "self.config['nested']['ema']",
    ]  # fmt: skip
    model = trainer.model
    assert names({"self": trainer, "net": model})["modules"][0] == "net"


def test_inner_modules_belong_to_the_outer_and_stateless_ones_to_nobody() -> None:
    encoder = nn.Linear(2, 2)
    model = nn.Sequential(encoder, nn.ReLU())
    assert names({"encoder": encoder, "model": model, "criterion": nn.MSELoss()}) == {"modules": ["model"]}


def test_wrappers_are_looked_through() -> None:
    model = nn.Linear(2, 2)
    compiled: Any = torch.compile(model, backend="eager")
    found = find({"net": nn.DataParallel(compiled)})
    assert (list(found.modules), found.modules["net"], found.wrapped) == (["net"], model, {"net": "DataParallel"})
    both = find({"model": model, "compiled": compiled})
    assert (list(both.modules), both.wrapped) == (["model"], {})


def test_every_kind() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    generator = torch.Generator()

    class Sampler:
        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    data = TensorDataset(torch.ones(4, 2))
    roots = {
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1),
        "plateau": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
        "scaler": torch.amp.GradScaler("cpu"),
        "loader": DataLoader(data, 2, sampler=RandomSampler(data, generator=generator)),
        "sampler": Sampler(),
        "batch": torch.ones(2, requires_grad=True),
        "Sampler": Sampler,
        "torch": torch,
    }
    assert names({**roots, "model": model}) == {
        "modules": ["model"],
        "optimizers": ["scheduler.optimizer"],
        "schedulers": ["scheduler", "plateau"],
        "scalers": ["scaler"],
        "generators": ["loader.sampler.generator"],
        "others": ["sampler"],
    }
    found = find({**roots, "model": model})
    assert found.trains() == {
        "scheduler.optimizer": "model", "scheduler": "scheduler.optimizer", "plateau": "scheduler.optimizer",
    }  # fmt: skip
    assert found.trained() == {"model": 6}


def test_parameters_by_hand() -> None:
    weight, bias = torch.ones(3, requires_grad=True), torch.zeros(1, requires_grad=True)
    assert names({"w": weight, "params": [bias], "x": torch.ones(2), "y": weight * 2}) == {
        "tensors": ["w", "params[0]"]
    }


def test_loops_long_lists_and_depth_end() -> None:
    ring: dict[str, Any] = {}
    ring["ring"] = ring
    deep: Any = nn.Linear(1, 1)
    for _ in range(9):
        deep = [deep]
    assert names({"ring": ring, "long": [nn.Linear(1, 1)] * 1000, "deep": deep, "chance": random.Random(0)}) == {}
