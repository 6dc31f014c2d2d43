"""``attach_lightning``: what it adds, what it refuses with which remedy, and what it says once."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

import onthefly
import onthefly.lightning
from onthefly import attach_lightning
from onthefly.errors import UsageError
from onthefly.sessions import Unwatched
from tests.lightning import runs
from tests.lightning.conftest import PACKAGES, package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def unsaid() -> Iterator[None]:
    """Nothing was said before in this process."""
    onthefly.lightning._said.clear()
    yield
    onthefly.lightning._said.clear()


def arguments(pl: Any, **changed: Any) -> dict[str, Any]:
    """Good ones, but for those given; no session is opened."""
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    return {"trainer": trainer, "model": runs.module_class(pl)(), "project": "demo", "run_name": "lit",
            "auto_connect": False, **changed}  # fmt: skip


def other(pl: Any) -> Any:
    """The other package."""
    return package(PACKAGES[pl.__name__ == PACKAGES[0]])


BAD: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "an unknown argument": (lambda pl: {"losses": print}, "no argument 'losses' (did you mean loss_fn?)"),
    "one like no other": (lambda pl: {"zzz": 1}, "no argument 'zzz' (it has: trainer, model"),
    "no trainer": (lambda pl: {"trainer": None}, "trainer is a NoneType, and no Trainer of lightning"),
    "something else's trainer": (lambda pl: {"trainer": type("Trainer", (), {})()}, "pass the object whose fit you"),
    "no model": (lambda pl: {"model": None}, "model is a NoneType, and no LightningModule"),
    "a plain module": (lambda pl: {"model": nn.Linear(1, 1)}, "model is a Linear, and no LightningModule of"),
    "the other package's model": (lambda pl: {"model": runs.module_class(other(pl))()}, "import both from there"),
    "no data module": (lambda pl: {"datamodule": [1]}, "datamodule is a list, and no LightningDataModule"),
    "a loss that is no function": (lambda pl: {"loss_fn": 0.5}, "loss_fn is a float, which cannot be called"),
    "a project that is no text": (lambda pl: {"project": 3}, "project is 3, and not text"),
    "a run without a name": (lambda pl: {"run_name": None}, "run_name is None, and not text"),
    "a test that is no choice": (lambda pl: {"do_test_after": "no"}, "do_test_after is 'no', and neither True nor"),
    "a connection that is no choice": (lambda pl: {"auto_connect": 1}, "auto_connect is 1, and neither"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_one_message(case: str, lightning: Any, pl: Any) -> None:
    change, message = BAD[case]
    given = arguments(pl, **change(pl))
    trainer = given["trainer"]
    before = list(trainer.callbacks) if hasattr(trainer, "callbacks") else None
    with pytest.raises(UsageError) as caught:
        attach_lightning(**given)
    assert message in str(caught.value)
    assert caught.value.remedy
    if before is not None:
        assert trainer.callbacks == before


def test_missing_arguments_are_pythons_own(lightning: Any) -> None:
    with pytest.raises(TypeError, match="missing 2 required keyword-only arguments: 'project' and 'run_name'"):
        attach_lightning(trainer=None, model=None)  # pyright: ignore[reportCallIssue]


def test_attached_twice(lightning: Any) -> None:
    given = arguments(lightning)
    attach_lightning(**given)
    with pytest.raises(UsageError, match=r"attached already.*once for each trainer"):
        attach_lightning(**given)


def test_within_fit_it_is_too_late(lightning: Any) -> None:
    given = arguments(lightning)
    caught: list[UsageError] = []

    def late() -> None:
        try:
            attach_lightning(**given)
        except UsageError as error:
            caught.append(error)

    given["model"].on_train_start = late
    given["trainer"].fit(given["model"], *runs.loaders())
    assert "call attach_lightning before trainer.fit" in str(caught[0])


def test_after_fit_it_is_said_and_the_next_is_recorded(
    lightning: Any, session: Callable[[], Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """An error here would lose what the script does after hours of training."""
    given = arguments(lightning)
    trainer, model = given["trainer"], given["model"]
    with session() as kept:
        trainer.fit(model, *runs.loaders())
        attach_lightning(**given)
        trainer.fit_loop.max_epochs = 2
        trainer.fit(model, *runs.loaders())
    assert capfd.readouterr().err.count("trainer.fit has run before attach_lightning") == 1
    assert kept.session.run == "lit"


def test_arguments_without_effect_are_said_once(lightning: Any, capfd: pytest.CaptureFixture[str]) -> None:
    needless = {"channel": object(), "channel_kwargs": {"port": 1}, "save_dir": "x", "log_every_n_steps": 5,
                "model_factory": print, "embedding_hook": print}  # fmt: skip
    attach_lightning(**arguments(lightning, **needless))
    attach_lightning(**arguments(lightning, **needless))
    err = capfd.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("onthefly:")]
    assert all(name in line for name in needless)
    assert "no effect" in line
    assert "Trainer(log_every_n_steps=)" in line


def test_what_the_readme_passes_makes_no_noise(lightning: Any, capfd: pytest.CaptureFixture[str]) -> None:
    train, valid = runs.loaders()
    given = arguments(lightning, train_loader=train, val_loader=valid, test_loader=valid, do_test_after=True)
    attach_lightning(**given, loss_fn=given["model"].loss)
    assert "onthefly" not in capfd.readouterr().err


def test_one_callback_is_added_before_those_that_save(lightning: Any) -> None:
    trainer = lightning.Trainer(accelerator="cpu", logger=False)
    before = list(trainer.callbacks)
    fit = trainer.fit
    attach_lightning(**arguments(lightning, trainer=trainer))
    added = [callback for callback in trainer.callbacks if callback not in before]
    assert [type(callback).__name__ for callback in added] == ["OnTheFly"]
    assert trainer.callbacks[-1] is before[-1] is trainer.checkpoint_callback
    assert trainer.fit == fit
    assert not [name for name in vars(trainer) if name in ("fit", "_fit_impl", "test")]


def test_auto_connect(lightning: Any, session: Callable[[], Any]) -> None:
    """Without it no session is opened; one that is open is used."""
    attached = attach_lightning(**arguments(lightning))
    assert isinstance(attached.session, Unwatched)
    with session() as kept:
        given = arguments(lightning, run_name="joined")
        assert attach_lightning(**given).session is kept.session
        given["trainer"].fit(given["model"], *runs.loaders())
    assert kept.session.run == "joined"


def test_each_fit_is_filed_under_the_name_of_its_trainer(lightning: Any, session: Callable[[], Any]) -> None:
    with session() as kept:
        both = [arguments(lightning, run_name=name) for name in ("first", "second")]
        for given in both:
            attach_lightning(**given)
        names: list[str] = []
        for given in both:
            given["trainer"].fit(given["model"], *runs.loaders())
            names.append(kept.session.run)
    assert names == ["first", "second"]
    assert len(kept.rows()) == 2 * runs.BATCHES


def test_a_trainer_with_it_can_be_sent_to_another_process(lightning: Any) -> None:
    """Strategies that spawn their ranks pickle it; the data for the test stays here."""
    train, _ = runs.loaders()
    given = arguments(lightning, test_loader=train, do_test_after=True)
    attach_lightning(**given)
    again = pickle.loads(pickle.dumps(given["trainer"].callbacks))
    (callback,) = [callback for callback in again if type(callback).__name__ == "OnTheFly"]
    assert callback.attached._test_loader is None
    assert not callback.attached.tests_after


def test_a_checkpoint_is_the_same(lightning: Any, tmp_path: Any) -> None:
    states: list[set[str]] = []
    for attach in (False, True):
        given = arguments(lightning)
        if attach:
            attach_lightning(**given)
        given["trainer"].fit(given["model"], *runs.loaders())
        given["trainer"].save_checkpoint(tmp_path / "a.ckpt")
        import torch

        checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=False)
        states.append({*checkpoint, *checkpoint["callbacks"]})
    assert states[0] == states[1]


def test_a_fault_of_ours_in_a_callback_leaves_training_alone(
    lightning: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    given = arguments(lightning)
    attached = attach_lightning(**given)
    monkeypatch.setattr(type(attached), "begins", lambda *given: {}["injected"])
    given["trainer"].fit(given["model"], *runs.loaders())
    assert given["trainer"].state.finished
    assert "following Lightning failed: KeyError" in capfd.readouterr().err


def test_switched_off_it_attaches_to_nothing(lightning: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONTHEFLY_DISABLE", "1")
    attached = attach_lightning(**arguments(lightning, auto_connect=True))
    assert isinstance(attached.session, Unwatched)


def test_it_is_at_the_door() -> None:
    assert onthefly.attach_lightning is attach_lightning
    assert "attach_lightning" in onthefly.__all__
    assert "onthefly.lightning" in sys.modules
