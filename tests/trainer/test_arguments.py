"""What ``Trainer`` is given and cannot use: one clear message with the remedy, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from onthefly import Trainer
from onthefly.errors import UsageError
from tests.trainer.by_hand import parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Home

pytestmark = pytest.mark.dear


@pytest.fixture
def trainer() -> Iterator[Trainer]:
    with Trainer(project="p", run_name="r", max_epochs=1, auto_connect=False) as made:
        yield made


def fit(trainer: Trainer, **changed: Any) -> Any:
    given = parts()
    arguments: dict[str, Any] = {"model": given.model, "optimizer": given.optimizer, "train_loader": given.loader,
                                 "loss_fn": nn.CrossEntropyLoss()}  # fmt: skip
    return trainer.fit(**{**arguments, **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train_loader": None}, "fit needs train_loader"),
        ({"model": None}, "fit needs model"),
        ({"optimizer": None}, "fit needs optimizer"),
        ({"model": len}, "model is a builtin_function_or_method"),
        ({"optimizer": 0.1}, "optimizer is a float"),
        ({"train_loader": 5}, "train_loader is a int, which cannot be iterated"),
        ({"loss_fn": "cross_entropy"}, "loss_fn is a str, which cannot be called"),
        ({"val_every_n_epochs": 1}, "val_loader is not"),
        ({"learning_rate": 1}, "fit has no argument 'learning_rate'"),
        ({"train_loadr": 1}, "did you mean 'train_loader'"),
        ({"data_order_policy": "shuffle"}, "'user' or 'epoch_reseed' or 'fixed_order'"),
        ({"scheduler_interval": "batch"}, "'epoch' or 'step'"),
        ({"scheduler": ReduceLROnPlateau(torch.optim.SGD([torch.zeros(1)]))}, "looks at the validation loss"),
    ],
)
def test_it_is_said_before_training(trainer: Trainer, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        fit(trainer, **changed)
    assert raised.value.remedy


def loader_of(rows: Any) -> Any:
    return DataLoader(rows, 4, collate_fn=lambda batch: batch[0])


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (torch.zeros(4, 5), "a batch that is a Tensor"),
        ([torch.zeros(4, 5)], "a batch that is a list of 1"),
        ({"inputs": torch.zeros(4, 5), "a": 1, "b": 2}, "takes none of 'inputs', 'a', 'b'"),
        ({"input": torch.zeros(4, 5)}, "gives no loss for a batch with 'input'"),
        ("text", "a batch that is a str"),
    ],
)
def test_a_batch_of_unclear_meaning_asks_for_a_step_of_ones_own(trainer: Trainer, batch: Any, said: str) -> None:
    given = parts(dropout=0.0)
    loss_fn = None if isinstance(batch, dict) and "input" in batch else nn.CrossEntropyLoss()
    with pytest.raises(UsageError, match=said) as raised:
        fit(trainer, model=given.model, train_loader=loader_of([batch]), loss_fn=loss_fn)
    assert "@trainer.training_step" in str(raised.value)


def test_a_loss_is_missing_or_is_none(trainer: Trainer) -> None:
    with pytest.raises(UsageError, match="loss_fn is missing"):
        fit(trainer, loss_fn=None)
    trainer.close()
    with (
        Trainer(max_epochs=1, auto_connect=False) as another,
        pytest.raises(UsageError, match="gives a float, where a loss is needed"),
    ):
        fit(another, loss_fn=lambda output, target: 0.5)


def test_fit_twice(trainer: Trainer) -> None:
    fit(trainer)
    with pytest.raises(UsageError, match=r"has been fitted already.*make another Trainer"):
        fit(trainer)


def test_two_trainers(trainer: Trainer) -> None:
    with pytest.raises(UsageError, match=r"call close\(\) on that one first"):
        Trainer(project="other")
    trainer.close()
    Trainer(project="other").close()


def test_a_trainer_that_nobody_holds_is_no_second_one() -> None:
    Trainer(project="dropped")
    Trainer(project="other").close()


@pytest.mark.parametrize(
    ("given", "said"), [({"max_epoch": 3}, "did you mean 'max_epochs'"), ({"nonsense": 1}, "known: project, run_name")]
)
def test_unknown_arguments_of_the_constructor(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Trainer(**given)


def test_defaults_of_the_session_that_fit_does_not_know() -> None:
    with (
        Trainer(max_epochs=1, auto_connect=False, session_defaults={"grad_clip": 1.0}) as made,
        pytest.raises(UsageError, match="session_defaults has no argument 'grad_clip'"),
    ):
        fit(made)


def test_do_test_after_without_a_loader() -> None:
    with (
        Trainer(max_epochs=1, auto_connect=False, do_test_after=True) as made,
        pytest.raises(UsageError, match="test_loader is not"),
    ):
        fit(made)


def test_what_has_no_effect_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    with Trainer(max_epochs=1, auto_connect=False, connect_timeout=3.0, backlog_limit=5) as made:
        fit(made, enforce_sampler_state=False, save_dir="x", ckpt_keep=3)
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        "onthefly: arguments that are not needed, and have no effect: connect_timeout, backlog_limit",
        "onthefly: arguments that are not needed, and have no effect: enforce_sampler_state (samplers are never "
        "replaced), save_dir (checkpoints lie in the session's folder), ckpt_keep (`onthefly ctl SESSION keep` bounds "
        "their bytes)",
    ]


def test_without_a_limit_it_says_that_it_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    data = TensorDataset(torch.zeros(8, 5), torch.zeros(8, dtype=torch.int64))

    class Enough(Exception):
        pass

    with Trainer(auto_connect=False) as made:

        @made.training_step
        def step(batch: Any, state: dict[str, Any]) -> None:
            if state["epoch"] == 20:
                raise Enough

        assert callable(step)
        with pytest.raises(Enough):
            fit(made, train_loader=DataLoader(data, 8))
    assert "until it is stopped" in capfd.readouterr().err


EVERY = """
import torch
from onthefly import Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
model = nn.Linear(5, 3)
data = TensorDataset(torch.randn(40, 5), torch.randint(0, 3, (40,)))
with Trainer(project="p", run_name="r", max_epochs=1) as trainer:
    trainer.fit(model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1), train_loader=DataLoader(data, 4),
                loss_fn=nn.CrossEntropyLoss(), ckpt_every_steps=EACH)
"""


def test_a_checkpoint_every_few_steps(home: Home) -> None:
    ended = home.python("-c", EVERY.replace("EACH", "4"))
    assert ended.code == 0, ended.err
    found = sorted(path.name for path in home.data.glob("sessions/*/checkpoints/r-*"))
    assert found == ["r-4", "r-8"]
    refused = home.python("-c", EVERY.replace("EACH", "-4"))
    assert b"a checkpoint every -4 steps" in refused.err
