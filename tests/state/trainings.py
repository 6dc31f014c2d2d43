"""Small trainings whose whole state is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onthefly.state.form import Form, Place
from onthefly.state.objects import Objects, find

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = Place("baseline", 3, 1, 3, 0)

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, 0.01),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.01, amsgrad=True),
    "Adamax": lambda p: torch.optim.Adamax(p, 0.01),
    "NAdam": lambda p: torch.optim.NAdam(p, 0.01),
    "RAdam": lambda p: torch.optim.RAdam(p, 0.01),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.01),
    "Adadelta": lambda p: torch.optim.Adadelta(p, 1.0),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "ASGD": lambda p: torch.optim.ASGD(p, 0.01),
    "Rprop": lambda p: torch.optim.Rprop(p, 0.01),
    "LBFGS": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=3),
    "lr in a tensor": lambda p: torch.optim.Adam(p, torch.tensor(0.01), foreach=False, capturable=False),
}

_sched: Any = torch.optim.lr_scheduler
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: _sched.StepLR(o, 2),
    "MultiStepLR": lambda o: _sched.MultiStepLR(o, [1, 3]),
    "ConstantLR": lambda o: _sched.ConstantLR(o),
    "LinearLR": lambda o: _sched.LinearLR(o),
    "ExponentialLR": lambda o: _sched.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: _sched.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: _sched.CosineAnnealingWarmRestarts(o, 2),
    "PolynomialLR": lambda o: _sched.PolynomialLR(o, 5),
    "CyclicLR": lambda o: _sched.CyclicLR(o, 0.01, 0.1, 2),
    "OneCycleLR": lambda o: _sched.OneCycleLR(o, 0.1, total_steps=20),
    "LambdaLR": lambda o: _sched.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda o: _sched.MultiplicativeLR(o, lambda epoch: 0.9),
    "ReduceLROnPlateau": lambda o: _sched.ReduceLROnPlateau(o, patience=0),
    "SequentialLR": lambda o: _sched.SequentialLR(o, [_sched.ConstantLR(o), _sched.StepLR(o, 1)], [2]),
    "ChainedScheduler": lambda o: _sched.ChainedScheduler([_sched.ConstantLR(o), _sched.ExponentialLR(o, 0.9)]),
}


class Training:
    """A network with dropout and batch norm, an optimizer and a scheduler."""

    def __init__(self, optimizer: str, scheduler: str, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.losses: list[float] = []

    def step(self, number: int) -> None:
        """One step; its batch is a function of its number, dropout of the random state."""
        x = torch.sin(torch.arange(32.0).reshape(8, 4) * (number + 1))
        y = torch.arange(8) % 2

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            return loss

        optimizer: Any = self.optimizer
        loss = optimizer.step(closure)
        self.losses.append(loss.item())
        if isinstance(self.scheduler, _sched.ReduceLROnPlateau):
            self.scheduler.step(loss.item())
        else:
            self.scheduler.step()

    def objects(self) -> Objects:
        """What is found of it."""
        return find({"self": self})

    def form(self, **options: Any) -> Form:
        """Its form, with torch's random state."""
        return Form.of(self.objects(), PLACE, random={"torch": torch.get_rng_state()}, **options)

    def everything(self) -> list[Any]:
        """All that must be equal."""
        return bits([self.model.state_dict(), self.optimizer.state_dict(), self.scheduler.state_dict(),
                     torch.get_rng_state(), self.losses])  # fmt: skip


def bits(value: Any) -> Any:
    """A tree with its tensors as dtype, shape and bytes."""
    if isinstance(value, Tensor):
        flat = value.detach().contiguous().reshape(-1)
        return (str(value.dtype), tuple(value.shape), bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b"")
    if isinstance(value, dict):
        return [type(value).__name__, [(key, bits(item)) for key, item in value.items()]]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [bits(item) for item in value]]
    return repr(value) if callable(value) else value
