"""Lightning's own evaluation step: ``validation_step`` or ``test_step`` of the module that is trained, on our batches.

It is called as Lightning's loop would call it, and without that loop: no callback and no hook of an epoch runs. What it
logs comes to us: neither its loggers, which an empty one of Lightning's own stands for, nor its progress learn of it.
Its loss is what it returns, or else what it logs under a name of a loss; gradients are on, so that the loss of each
sample can be read where the batch's is made of them.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onthefly.errors import Refused
from onthefly.insight.evaluation import Way
from onthefly.instruments.lightning import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch import nn

STEPS = ("validation_step", "test_step")

_NAMES = ("val_loss", "valid_loss", "validation_loss", "test_loss", "loss")
"""Of several logged values that are called a loss, which is the one."""


class EvaluationStep:
    """One of these steps."""

    def __init__(self, module: Any, name: str, package: str) -> None:
        self._module, self.name, self._package = module, name, package
        self._numbers = itertools.count()
        self._given = _given(getattr(module, name))
        self._logged: dict[str, Tensor] = {}

    def way(self, roots: Sequence[nn.Module]) -> Way:
        """By this step; ``roots``: all modules that there are, any of which its Python might run."""
        return Way(self.loss, [self._module], [], lambda batch: True, 0, others=roots)

    def loss(self, batch: Any) -> Tensor:
        """Of a batch; :class:`~onthefly.errors.Refused` where the step tells none."""
        module, trainer = self._module, self._module.trainer
        with self._aside(), torch.enable_grad():
            batch = trainer.precision_plugin.convert_input(batch)
            batch = module._on_before_batch_transfer(batch, dataloader_idx=0)
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
            given = (batch, next(self._numbers), 0)[: self._given]
            found = getattr(trainer.strategy, self.name)(*given)
        found = found.get("loss") if isinstance(found, dict) else found
        return found if isinstance(found, Tensor) else self._logged[self._chosen()]

    @contextlib.contextmanager
    def _aside(self) -> Generator[None, None, None]:
        """Lightning's state as in an evaluation, what is logged kept here; then all as it was."""
        module, trainer = self._module, self._module.trainer
        stage, loggers, hook = trainer.state.stage, trainer.loggers, module._current_fx_name
        own = vars(module).get("log")
        self._logged = {}
        try:
            setattr(trainer, "testing" if self.name == "test_step" else "validating", True)
            trainer.loggers = [sys.modules[f"{self._package}.loggers.logger"].DummyLogger()] if loggers else []
            module._current_fx_name = self.name
            vars(module)["log"] = self._log
            yield
        finally:
            vars(module).pop("log")
            if own is not None:
                vars(module)["log"] = own
            module._current_fx_name = hook
            trainer.loggers, trainer.state.stage = loggers, stage

    def _log(self, name: str, value: Any, *given: Any, **named: Any) -> None:
        """Takes the place of ``self.log``, which ``self.log_dict`` calls as well."""
        if isinstance(value, Tensor) and value.numel() == 1:
            self._logged[name] = value

    def _chosen(self) -> str:
        names = [name for name in self._logged if "loss" in name.lower()]
        if len(names) > 1:
            names = [name for like in _NAMES for name in names if name.lower() == like] or names
            if names[0].lower() not in _NAMES:
                raise Refused(f"{self.name} logs several losses ({', '.join(names)})", "have it return the one")
        if not names:
            raise Refused(f"{self.name} neither returns nor logs a loss", 'self.log("val_loss", loss), or return it')
        return names[0]


def evaluation_step(roots: Sequence[nn.Module], name: str = "", *, test: bool = False) -> EvaluationStep | None:
    """That of the module that Lightning trains here, by name, or the one that there is; None where there is none.

    ``test``: ``test_step`` rather than ``validation_step``, where there are both.
    """
    for package in PACKAGES:
        kind = getattr(sys.modules.get(package), "LightningModule", None)
        found = [] if kind is None else [one for one in roots if isinstance(one, kind) and _is_trained(one)]
        if len(found) == 1:
            for step in (name,) if name else STEPS[::-1] if test else STEPS:
                if getattr(type(found[0]), step) is not getattr(kind, step):
                    return EvaluationStep(found[0], step, package)
    return None


def _is_trained(module: Any) -> bool:
    trainer = module._trainer
    return trainer is not None and trainer.training


def _given(step: Any) -> int:
    """How many of batch, its number and its loader's number a step takes."""
    places = inspect.signature(step).parameters.values()
    if any(one.name == "dataloader_iter" for one in places):
        raise Refused("the evaluation step takes its batches itself (dataloader_iter)")
    return min(3, sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in places)) or 2
