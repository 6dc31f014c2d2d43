"""What Lightning's own checkpoint holds beside the states of modules, optimizers and schedulers.

Taken with every checkpoint of a run that Lightning's ``Trainer`` drives: the progress of its loops and the module's
hyper-parameters, so that :func:`onthefly.state.export.export_ckpt` can write a file that ``load_from_checkpoint`` and
``trainer.fit(ckpt_path=...)`` read. Not asked is what would run the user's code: ``on_save_checkpoint`` and the states
of callbacks.

A checkpoint of ours lies behind an optimizer's step, one of Lightning's behind a batch: the loops are described as they
are when this batch is over. Where more would happen to what is trained until then, only the weights are for Lightning.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from onthefly.errors import outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from onthefly.state.objects import Objects

PACKAGES = ("lightning", "pytorch_lightning")
LOOPS = ("fit_loop", "validate_loop", "test_loop", "predict_loop")


def section(objects: Objects) -> dict[str, Any] | None:
    """The rest of Lightning's checkpoint, as a plain tree; None where no ``Trainer`` drives one of those modules."""
    for name, module in objects.modules.items():
        package = _package(type(module))
        trainer = getattr(module, "_trainer", None) if package else None
        if trainer is not None:
            found, fault = outcome(_rest, objects, name, module, trainer)
            return found if fault is None else {"refused": f"{type(fault).__name__}: {fault}"}
    return None


def _package(kind: type) -> str:
    """The package of the ``LightningModule`` that a class derives from; empty: of none."""
    for base in kind.__mro__:
        top = base.__module__.partition(".")[0]
        if base.__name__ == "LightningModule" and top in PACKAGES:
            return top
    return ""


def _rest(objects: Objects, name: str, module: Any, trainer: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "module": name, "version": str(sys.modules[_package(type(module))].__version__),
        "epoch": trainer.current_epoch, "global_step": trainer.global_step,
        "optimizers": _states(objects.optimizers, trainer.optimizers),
        "schedulers": _states(objects.schedulers, (config.scheduler for config in trainer.lr_scheduler_configs)),
        "loops": {loop: getattr(trainer, loop).state_dict() for loop in LOOPS}, "within": _within(module, trainer),
    }  # fmt: skip
    _batch_over(found["loops"]["fit_loop"])
    if module.hparams:
        found["hyper_parameters"] = dict(module.hparams)
        found["hparams_name"] = getattr(module, "_hparams_name", None)
    return found


def _within(module: Any, trainer: Any) -> str:
    """Why ``fit`` could not go on from here; empty where it can."""
    if not module.automatic_optimization:
        return "with manual optimization, a step of an optimizer is not the end of a batch"
    if any(config.interval == "step" for config in trainer.lr_scheduler_configs):
        return "a scheduler that steps with each batch has not done so here"
    return ""


def _batch_over(fit: dict[str, Any]) -> None:
    """Count the batch whose step was just done as done."""
    step = fit["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    if step["total"]["completed"] == step["total"]["ready"]:
        return
    for counts in (step, fit["epoch_loop.batch_progress"]):
        for kind in ("total", "current"):
            counts[kind] = dict.fromkeys(counts[kind], counts[kind]["ready"])
    fit["epoch_loop.state_dict"]["_batches_that_stepped"] += 1


def _states(known: Mapping[str, Any], things: Iterable[Any]) -> list[Any]:
    """The name under which the state of each is kept; of one that nothing in the script names, its state."""
    names = {id(thing): name for name, thing in known.items()}
    return [names.get(id(thing)) or thing.state_dict() for thing in things]
