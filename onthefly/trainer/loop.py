"""The training loop: what one would write by hand, and nothing of ours in it but that it logs what steps return."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Union

import torch

from onthefly.core.test_label import next_test
from onthefly.errors import UsageError
from onthefly.trainer.data import Order, seed_all, size
from onthefly.trainer.step import DefaultStep, metrics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from onthefly.agent import Session
    from onthefly.sessions import Unwatched
    from onthefly.trainer.plan import Plan

    State = dict[str, Any]
    Step = Callable[[Any, State], Any]


def train(plan: Plan, own: Mapping[str, Step], session: Union[Session, Unwatched]) -> None:
    """Train as planned, by the script's own steps where it has registered some (``train``, ``val``, ``test``)."""
    model, scheduler, state = plan.model, plan.scheduler, plan.state()
    default = DefaultStep(model, plan.loss_fn, plan.device)
    step = own.get("train", default.train)
    order = Order(plan.train_loader, plan.data_order_policy, plan.seed or 0)
    if plan.seed is not None:
        seed_all(plan.seed)
    for epoch in itertools.count() if plan.max_epochs is None else range(plan.max_epochs):
        if state["step"] == plan.max_steps:
            break
        order.begin(epoch)
        state["epoch"], before = epoch, state["step"]
        model.train()
        for batch in plan.train_loader:
            number = session.step
            result = step(batch, state)
            if result is not None:
                session.log(metrics_of(result), step=number)
            if scheduler is not None and plan.scheduler_interval == "step":
                scheduler.step()
            state["step"] += 1
            if state["step"] == plan.max_steps:
                break
        if state["step"] == before:
            raise UsageError("train_loader gives no batch", "is the data set empty, or smaller than one batch?")
        results: dict[str, float] = {}
        if plan.val_every_n_epochs and (epoch + 1) % plan.val_every_n_epochs == 0:
            results = evaluated("val", plan.val_loader, own.get("val", default.evaluate), state, session)
        if scheduler is not None and plan.scheduler_interval == "epoch":
            plan.step_scheduler(results)
    if plan.tests:
        with next_test():
            evaluated("test", plan.test_loader, own.get("test", default.evaluate), state, session)


def evaluated(
    phase: str, loader: Any, step: Step, state: State, session: Union[Session, Unwatched]
) -> dict[str, float]:
    """What ``step`` gives for each batch, averaged over samples and logged as ``val_loss``, ``test_loss`` and so on."""
    model = state["model"]
    training = model.training
    model.eval()
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    with torch.no_grad():
        for batch in loader:
            count = size(batch)
            for name, value in metrics_of(step(batch, state)).items():
                name = name if name.startswith(phase) else f"{phase}_{name}"
                sums[name] = sums.get(name, 0.0) + float(value) * count
                counts[name] = counts.get(name, 0) + count
    model.train(training)
    results = {name: total / counts[name] for name, total in sums.items()}
    if results:
        session.log(results, step=max(0, session.step - 1))
    return results
