"""The arguments of ``Trainer`` and ``fit``: checked, completed, and said what has no effect."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import nn

from onthefly.errors import UsageError, report
from onthefly.trainer.data import POLICIES
from onthefly.trainer.step import autocast, gradient_scaler

if TYPE_CHECKING:
    from collections.abc import Callable

NEEDLESS = {
    "dashboard_host": "the hub serves the loopback interface; see `onthefly hub --host`",
    "connect_timeout": "",
    "reconnect_interval": "",
    "backlog_limit": "",
    "deterministic_pauses": "every pause is",
    "enforce_sampler_state": "samplers are never replaced",
    "model_factory": "runs are forked and merged on the model itself",
    "save_dir": "checkpoints lie in the session's folder",
    "ckpt_keep": "`onthefly ctl SESSION keep` bounds their bytes",
}
"""Arguments that this design makes needless."""

INTERVALS = ("epoch", "step")


@dataclass
class Plan:
    """What :meth:`Trainer.fit` was asked to do."""

    model: nn.Module
    optimizer: Any
    loss_fn: Optional[Callable[..., Any]]
    train_loader: Any
    val_loader: Any
    test_loader: Any
    scheduler: Any
    scheduler_interval: str
    device: torch.device
    amp: bool
    grad_clip_norm: Optional[float]
    seed: Optional[int]
    data_order_policy: str
    val_every_n_epochs: int
    max_epochs: Optional[int]
    max_steps: Optional[int]
    tests: bool
    """Evaluate on the test loader when training has ended."""

    def state(self) -> dict[str, Any]:
        """What steps are called with."""
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "loss_fn": self.loss_fn,
            "scheduler": self.scheduler,
            "device": self.device,
            "amp": self.amp,
            "autocast": autocast(self.device, self.amp),
            "scaler": gradient_scaler(self.device, self.amp),
            "grad_clip_norm": self.grad_clip_norm,
            "train_loader": self.train_loader,
            "epoch": 0,
            "step": 0,
        }

    def step_scheduler(self, results: dict[str, float]) -> None:
        """At the end of an epoch; ``ReduceLROnPlateau`` looks at the validation loss, if there is a new one."""
        if not isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step()
        elif "val_loss" in results:
            self.scheduler.step(results["val_loss"])


def plan_of(
    given: dict[str, Any],
    *,
    max_epochs: Optional[int],
    max_steps: Optional[int],
    tests: bool,
    val_every_n_epochs: Optional[int],
) -> Plan:
    """The plan of these arguments of ``Trainer.fit``, by name, and of what the constructor was given.

    Raises:
        UsageError: naming the argument and what to do.
    """
    for name, kind, what in (
        ("model", nn.Module, "a torch.nn.Module"),
        ("optimizer", object, "an optimizer"),
        ("train_loader", object, "a DataLoader"),
    ):
        if given[name] is None:
            raise UsageError(f"fit needs {name}", f"pass {name}=, {what}")
        if not isinstance(given[name], kind):
            raise UsageError(f"{name} is a {type(given[name]).__name__}", f"pass {what}")
    if not hasattr(given["optimizer"], "step"):
        raise UsageError(f"optimizer is a {type(given['optimizer']).__name__}", "pass a torch.optim.Optimizer")
    if given["loss_fn"] is not None and not callable(given["loss_fn"]):
        raise UsageError(f"loss_fn is a {type(given['loss_fn']).__name__}, which cannot be called",
                         "pass a function or a module, for instance torch.nn.CrossEntropyLoss()")  # fmt: skip
    for name in ("train_loader", "val_loader", "test_loader"):
        if given[name] is not None and not hasattr(given[name], "__iter__"):
            raise UsageError(f"{name} is a {type(given[name]).__name__}, which cannot be iterated", "pass a DataLoader")
    every = val_every_n_epochs if given["val_every_n_epochs"] is None else given["val_every_n_epochs"]
    if every and given["val_loader"] is None:
        raise UsageError("val_every_n_epochs is given, and val_loader is not", "pass val_loader=, or leave it out")
    if tests and given["test_loader"] is None:
        raise UsageError("do_test_after is given, and test_loader is not", "pass test_loader=, or leave it out")
    _check_word("data_order_policy", given["data_order_policy"], POLICIES)
    _check_word("scheduler_interval", given["scheduler_interval"], INTERVALS)
    plateau = isinstance(given["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)
    if plateau and (not every or given["scheduler_interval"] != "epoch"):
        raise UsageError("ReduceLROnPlateau looks at the validation loss, and there is none",
                         "pass val_loader= and val_every_n_epochs=1, with scheduler_interval='epoch'")  # fmt: skip
    known: dict[str, Any] = {name: value for name, value in given.items() if name in Plan.__dataclass_fields__}
    known.update(val_every_n_epochs=every or 0, device=_device(given["device"], given["model"]))
    plan = Plan(**known, max_epochs=max_epochs, max_steps=max_steps, tests=tests)
    plan.model.to(plan.device)
    if isinstance(plan.loss_fn, nn.Module):
        plan.loss_fn.to(plan.device)
    return plan


def merged(given: dict[str, Any], defaults: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """``given`` with the session's defaults where an argument was left at its own."""
    check_unknown("session_defaults", {name: value for name, value in defaults.items() if name not in given}, function)
    own = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    return {name: defaults.get(name, value) if value is own[name] else value for name, value in given.items()}


def check_unknown(where: str, unknown: dict[str, Any], function: Callable[..., Any]) -> None:
    """Refuse arguments that the function does not have."""
    for name in unknown:
        known = [one for one in inspect.signature(function).parameters if one not in ("self", "unknown")]
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
        raise UsageError(f"{where} has no argument {name!r}", hint)


def say_ineffective(given: dict[str, Any], function: Callable[..., Any]) -> None:
    """Name the arguments, of those that were passed, that have no effect: one line."""
    own = inspect.signature(function).parameters
    passed = [name for name in NEEDLESS if name in given and given[name] != own[name].default]
    if passed:
        told = [f"{name} ({NEEDLESS[name]})" if NEEDLESS[name] else name for name in passed]
        report(f"arguments that are not needed, and have no effect: {', '.join(told)}")


def _check_word(name: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise UsageError(f"{name} is {word!r}", f"it can be {' or '.join(map(repr, words))}")


def _device(given: Any, model: nn.Module) -> torch.device:
    """The device asked for; else where the model lies, or the accelerator if that is the CPU and there is one."""
    if given is not None:
        return torch.device(given)
    here = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    if here.type == "cpu":
        for name, module in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
            if module.is_available():
                return torch.device(name)
    return here
