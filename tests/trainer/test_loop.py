"""``Trainer`` trains as the loop by hand does, bit for bit, and no more than it was asked for."""

from __future__ import annotations

import math
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LinearLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

from onthefly import Trainer
from onthefly.errors import UsageError
from onthefly.sessions import Unwatched
from tests.trainer.by_hand import Parts, differences, parts, state, train

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _one_trainer_a_test() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    yield
    trainer = __import__("onthefly.trainer.trainer", fromlist=["_open"])._open
    if trainer is not None and trainer() is not None:
        trainer().close()


def fit(given: Parts, epochs: int | None = 3, **arguments: Any) -> Trainer:
    """The same by the Trainer, watched by nobody."""
    names = ("max_steps", "do_test_after", "session_defaults")
    own = {name: arguments.pop(name) for name in names if name in arguments}
    trainer = Trainer(project="p", run_name="r", max_epochs=epochs, auto_connect=False, **own)
    arguments = {"loss_fn": nn.CrossEntropyLoss(), "model": given.model, "optimizer": given.optimizer,
                 "train_loader": given.loader, **arguments}  # fmt: skip
    trainer.fit(**arguments)
    return trainer


def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], Any]]:
    """What is logged from now on."""
    found: list[tuple[dict[str, Any], Any]] = []
    monkeypatch.setattr(Unwatched, "log", lambda self, values, *, step=None: found.append((dict(values), step)))
    return found


@pytest.mark.parametrize("sampler", ["shuffle", "weighted", "batch_sampler", "in_order"])
def test_it_is_the_loop_by_hand(sampler: str) -> None:
    mine, theirs = parts(sampler=sampler), None
    train(mine, 3)
    expected = state(mine)
    theirs = parts(sampler=sampler)
    fit(theirs)
    assert differences(expected, state(theirs)) == []


def test_validation_costs_what_it_costs_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = parts()
    losses = train(mine, 3, validate=True)
    expected = state(mine)
    theirs = parts()
    found = logged(monkeypatch)
    fit(theirs, val_loader=theirs.valid, val_every_n_epochs=1)
    assert differences(expected, state(theirs)) == []
    assert [values["val_loss"] for values, _ in found] == pytest.approx(losses, rel=1e-12)
    assert theirs.model.training


def test_without_a_word_nothing_is_validated_clipped_or_reseeded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*given: Any, **named: Any) -> Any:
        raise AssertionError("nobody asked for it")

    theirs = parts()
    monkeypatch.setattr(torch, "manual_seed", refuses)
    monkeypatch.setattr(random, "seed", refuses)
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", refuses)
    fit(theirs, val_loader=[None], test_loader=[None])


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_schedulers_step_when_they_should(interval: str) -> None:
    def scheduler(given: Parts) -> Any:
        if interval == "epoch":
            return StepLR(given.optimizer, 1, gamma=0.5)
        return OneCycleLR(given.optimizer, 0.1, total_steps=24)

    mine = parts()
    theirs_by_hand = scheduler(mine)
    if interval == "epoch":
        train(mine, 3, after_epoch=lambda result: theirs_by_hand.step())
    else:
        train(mine, 3, after_step=lambda step: theirs_by_hand.step())
    expected = state(mine)
    theirs = parts()
    fit(theirs, scheduler=scheduler(theirs), scheduler_interval=interval)
    assert differences(expected, state(theirs)) == []


def test_a_scheduler_that_looks_at_the_validation_loss() -> None:
    mine = parts()
    by_hand = ReduceLROnPlateau(mine.optimizer, patience=0, threshold=0.5)
    train(mine, 4, validate=True, after_epoch=lambda result: by_hand.step(result or 0.0))
    expected = state(mine)
    theirs = parts()
    plateau = ReduceLROnPlateau(theirs.optimizer, patience=0, threshold=0.5)
    fit(theirs, 4, scheduler=plateau, val_loader=theirs.valid, val_every_n_epochs=1)
    assert differences(expected, state(theirs)) == []
    assert theirs.optimizer.param_groups[0]["lr"] < 0.01


@pytest.mark.parametrize("asked", [{"clip": 0.1}, {"amp": True}, {"clip": 0.1, "amp": True}])
def test_clipping_and_mixed_precision_when_asked(asked: dict[str, Any]) -> None:
    mine = parts()
    train(mine, 2, **asked)
    expected = state(mine)
    theirs = parts()
    fit(theirs, 2, grad_clip_norm=asked.get("clip"), amp=asked.get("amp", False))
    assert differences(expected, state(theirs)) == []


@pytest.mark.parametrize("steps", [1, 8, 11, 16])
def test_max_steps_ends_within_an_epoch(steps: int) -> None:
    mine = parts()
    train(mine, 9, after_step=lambda step: step == steps)
    expected = state(mine)
    theirs = parts()
    fit(theirs, None, max_steps=steps)
    assert differences(expected, state(theirs)) == []


@pytest.mark.parametrize("none", [{"epochs": 0}, {"epochs": 3, "max_steps": 0}])
def test_none_is_none(none: dict[str, Any]) -> None:
    theirs = parts()
    expected = state(theirs)
    fit(theirs, **none)
    assert differences(expected, state(theirs)) == []


def test_a_loss_that_is_not_a_number_is_trained_on_as_by_hand() -> None:
    def loss(output: Any, target: Any) -> Any:
        value = F.cross_entropy(output, target)
        return value * math.nan if target[0] == 2 else value

    mine = parts()
    train(mine, 2, loss=lambda model, batch: loss(model(batch[0]), batch[1]))
    expected = state(mine)
    theirs = parts()
    fit(theirs, 2, loss_fn=loss)
    assert differences(expected, state(theirs)) == []
    assert any(value.isnan().any() for value in expected.values())


class Named(Dataset[Any]):
    """Samples as dictionaries."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        x, y = self.data[index]
        return {"inputs": x, "labels": y}


class TakesInputs(nn.Module):
    def __init__(self, inner: nn.Module, knows_labels: bool) -> None:
        super().__init__()
        self.inner = inner
        if knows_labels:
            self.__dict__["forward"] = self.with_labels

    def forward(self, inputs: Any) -> Any:
        return self.inner(inputs)

    def with_labels(self, inputs: Any, labels: Any) -> dict[str, Any]:
        logits = self.inner(inputs)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def named(given: Parts, knows_labels: bool) -> Parts:
    return given._replace(
        model=TakesInputs(given.model, knows_labels), loader=DataLoader(Named(given.loader.dataset), 8, shuffle=True)
    )


@pytest.mark.parametrize("knows_labels", [True, False])
def test_batches_that_are_dictionaries(knows_labels: bool) -> None:
    mine = parts()
    train(mine, 2)
    expected = state(mine)
    theirs = named(parts(), knows_labels)
    fit(theirs, 2, loss_fn=None if knows_labels else F.cross_entropy)
    assert differences(expected, state(theirs._replace(model=theirs.model.inner))) == []


def test_a_loss_of_model_and_batch_with_more_to_log(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = parts()
    train(mine, 2)
    expected = state(mine)
    theirs = parts()
    found = logged(monkeypatch)

    def loss(model: Any, batch: Any) -> dict[str, Any]:
        return {"loss": F.cross_entropy(model(batch[0]), batch[1]), "rows": len(batch[0])}

    fit(theirs, 2, loss_fn=loss)
    assert differences(expected, state(theirs)) == []
    assert [values for values, _ in found] == 2 * (7 * [{"rows": 8}] + [{"rows": 4}])


def test_several_inputs_and_a_loss_that_is_not_reduced() -> None:
    class Sum(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any, more: Any) -> Any:
            return self.inner(x + more)

    mine = parts()
    train(mine, 2, loss=lambda model, batch: F.cross_entropy(model(batch[0] + 1.0), batch[1], reduction="none").mean())
    expected = state(mine)
    theirs = parts()
    x, y = theirs.loader.dataset.tensors  # type: ignore[attr-defined]
    loader = DataLoader(TensorDataset(x, torch.ones(60, 5), y), 8, shuffle=True)
    given = theirs._replace(model=Sum(theirs.model), loader=loader)
    fit(given, 2, loss_fn=nn.CrossEntropyLoss(reduction="none"))
    assert differences(expected, state(theirs)) == []


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(1)
        for _ in range(24):
            yield torch.randn(5, generator=generator), torch.randint(0, 3, (), generator=generator)


def test_a_stream() -> None:
    mine = parts()._replace(loader=DataLoader(Stream(), 8))
    train(mine, 2)
    expected = state(mine)
    theirs = parts()._replace(loader=DataLoader(Stream(), 8))
    fit(theirs, 2)
    assert differences(expected, state(theirs)) == []


def test_steps_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradient accumulation as the README of the system that we succeed writes it; the last window stays open."""
    mine = parts()
    model, optimizer = mine.model, mine.optimizer
    counter = 0
    for _ in range(2):
        model.train()
        for x, y in mine.loader:
            if counter % 3 == 0:
                optimizer.zero_grad()
            (F.cross_entropy(model(x), y) / 3).backward()
            if counter % 3 == 2:
                optimizer.step()
            counter += 1
    expected = state(mine)
    theirs = parts()
    found = logged(monkeypatch)
    trainer = Trainer(project="p", max_epochs=2, auto_connect=False)
    seen: list[Any] = []

    @trainer.training_step
    def step(batch: Any, state: dict[str, Any]) -> dict[str, Any]:
        place = state["step"] % 3
        seen.append((state["epoch"], state["step"]))
        if place == 0:
            state["optimizer"].zero_grad(set_to_none=True)
        x, y = batch
        with state["autocast"]:
            loss = state["loss_fn"](state["model"](x.to(state["device"])), y.to(state["device"])) / 3
        state["scaler"].scale(loss).backward()
        if place == 2:
            state["scaler"].step(state["optimizer"])
            state["scaler"].update()
        return {"loss": loss.detach()}

    @trainer.validation_step
    def validate(batch: Any, state: dict[str, Any]) -> dict[str, Any]:
        assert not state["model"].training
        assert not torch.is_grad_enabled()
        return {"rows": len(batch[0]), "val_seen": 1.0}

    @trainer.test_step
    def test(batch: Any, state: dict[str, Any]) -> dict[str, Any]:
        return {"label": float(os.environ["ONTHEFLY_TEST_LABEL"] == "test_1")}

    numbers: Any = range(12)
    trainer.do_test_after = True
    trainer.fit(model=theirs.model, optimizer=theirs.optimizer, loss_fn=F.cross_entropy, train_loader=theirs.loader,
                val_loader=DataLoader(numbers, 8, collate_fn=_pairs), test_loader=theirs.valid,
                val_every_n_epochs=2)  # fmt: skip
    assert differences({name: value for name, value in expected.items() if name != "random"},
                       {name: value for name, value in state(theirs).items() if name != "random"}) == []  # fmt: skip
    assert seen == [(number // 8, number) for number in range(16)]
    evaluations = [values for values, _ in found if "loss" not in values]
    assert evaluations == [{"val_rows": (8 * 8 + 4 * 4) / 12, "val_seen": 1.0}, {"test_label": 1.0}]
    assert "ONTHEFLY_TEST_LABEL" not in os.environ


def _pairs(rows: list[int]) -> Any:
    return torch.tensor(rows), torch.tensor(rows)


def orders(policy: str, *, seed: int | None, before: int, epochs: int = 3) -> list[list[int]]:
    """The order of the samples of each epoch, after the global generator was seeded with ``before``."""
    given = parts(count=30)
    loader = DataLoader(TensorDataset(torch.arange(30), torch.zeros(30)), 8, shuffle=True)
    torch.manual_seed(before)
    trainer = Trainer(max_epochs=epochs, auto_connect=False)
    found: dict[int, list[int]] = {}

    @trainer.training_step
    def step(batch: Any, state: dict[str, Any]) -> None:
        found.setdefault(state["epoch"], []).extend(batch[0].tolist())

    assert callable(step)
    trainer.fit(model=given.model, optimizer=given.optimizer, train_loader=loader, data_order_policy=policy, seed=seed)
    trainer.close()
    return list(found.values())


def test_the_order_of_the_data_is_what_was_asked_for() -> None:
    fixed = orders("fixed_order", seed=5, before=1)
    assert fixed[0] == fixed[1] == fixed[2]
    assert fixed == orders("fixed_order", seed=5, before=2)
    assert fixed != orders("fixed_order", seed=6, before=2)
    reseeded = orders("epoch_reseed", seed=5, before=1)
    assert reseeded[0] != reseeded[1]
    assert reseeded == orders("epoch_reseed", seed=5, before=2)
    assert reseeded[:2] == orders("epoch_reseed", seed=5, before=3, epochs=2)
    users = orders("user", seed=None, before=1)
    assert users == orders("user", seed=None, before=1)
    assert users != orders("user", seed=None, before=2)
    assert all(sorted(epoch) == list(range(30)) for epoch in fixed + reseeded + users)


def test_a_policy_leaves_the_global_generator_to_the_script() -> None:
    given = parts(dropout=0.0)
    before = torch.get_rng_state()
    fit(given, data_order_policy="epoch_reseed")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sampler_without_a_generator_is_kept_and_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    class Backwards:
        def __iter__(self) -> Iterator[int]:
            return iter(range(59, -1, -1))

        def __len__(self) -> int:
            return 60

    given = parts()
    sampler = Backwards()
    loader: Any = DataLoader(given.loader.dataset, 8, sampler=sampler)  # type: ignore[arg-type]
    fit(given._replace(loader=loader), data_order_policy="fixed_order")
    assert loader.sampler is sampler
    assert "no effect on Backwards" in capfd.readouterr().err


def test_a_sampler_that_wants_to_know_the_epoch_is_told() -> None:
    given = parts()
    sampler: Any = DistributedSampler(given.loader.dataset, num_replicas=2, rank=0)  # type: ignore[arg-type]
    fit(given._replace(loader=DataLoader(given.loader.dataset, 8, sampler=sampler)), 3)
    assert sampler.epoch == 2


def test_a_seed_that_was_given_is_used() -> None:
    seen = []
    for before in (1, 2):
        theirs = parts()
        torch.manual_seed(before)
        fit(theirs, 2, seed=7).close()
        seen.append(state(theirs))
    assert differences(*seen) == []


def test_defaults_of_the_session_are_those_of_fit() -> None:
    mine = parts()
    train(mine, 2, clip=0.1)
    expected = state(mine)
    theirs = parts()
    fit(theirs, 2, session_defaults={"grad_clip_norm": 0.1})
    assert differences(expected, state(theirs)) == []


def test_a_warm_up_that_counts_steps_of_fewer_batches() -> None:
    theirs = parts()
    fit(theirs, 1, scheduler=LinearLR(theirs.optimizer, 0.1, total_iters=8), scheduler_interval="step")
    assert theirs.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_an_empty_loader_is_no_endless_loop() -> None:
    theirs = parts()
    loader: Any = DataLoader(TensorDataset(torch.zeros(3, 5), torch.zeros(3)), 8, drop_last=True)
    with pytest.raises(UsageError, match="no batch"):
        fit(theirs._replace(loader=loader), None)
