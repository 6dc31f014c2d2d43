"""The test after training: what ``trainer.test`` on the next line would do, under a label, and nothing else changed."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from onthefly import attach_lightning
from tests.lightning import runs
from tests.loops.state import digest, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")

LABEL = "ONTHEFLY_TEST_LABEL"


class Story:
    """A script that fits, tests in one of three ways, and goes on; and all that happened."""

    def __init__(self, pl: Any, folder: Path, way: str, **given: Any) -> None:
        self.hooks: list[str] = []
        self.labels: list[str | None] = []
        hooks, labels = self.hooks, self.labels

        class Module(runs.module_class(pl)):  # type: ignore[misc]
            def on_test_end(self) -> None:
                labels.append(os.environ.get(LABEL))

        class Told(pl.Callback):  # type: ignore[misc]
            def __getattribute__(self, name: str) -> Any:
                if name.startswith(("setup", "teardown", "on_fit", "on_train_", "on_test_", "on_exception")):
                    return lambda *given, **named: hooks.append(name)
                return super().__getattribute__(name)

        class Logger(pl.loggers.CSVLogger):  # type: ignore[misc]
            def finalize(self, status: str) -> None:
                hooks.append(f"finalize {status}")
                super().finalize(status)

        self.folder = folder / way.replace(" ", "_")
        self.valid = runs.loaders()[1]
        torch.manual_seed(3)
        self.module = Module()
        saves = pl.callbacks.ModelCheckpoint(self.folder / "best", monitor="val_loss")
        self.trainer = pl.Trainer(
            **{"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
               "log_every_n_steps": 1, "default_root_dir": self.folder, "callbacks": [Told(), saves],
               "logger": Logger(self.folder, name="csv", version=0), **given}
        )  # fmt: skip
        self.way = way

    def fit(self, **named: Any) -> None:
        """As the script does it."""
        if self.way == "ours" and not any(type(known).__name__ == "OnTheFly" for known in self.trainer.callbacks):
            attach_lightning(trainer=self.trainer, model=self.module, project="demo", run_name="lit",
                             auto_connect=False, test_loader=self.valid, do_test_after=True)  # fmt: skip
        self.trainer.fit(self.module, *runs.loaders(), **named)
        if self.way == "the script's":
            self.trainer.test(self.module, self.valid)

    def learned(self) -> str:
        """What the test must not change."""
        return digest([self.module.state_dict(), [one.state_dict() for one in self.trainer.optimizers], surroundings()])

    def rest(self) -> list[Any]:
        """What the script may look at afterwards."""
        trainer = self.trainer
        return [
            self.hooks, dict(trainer.callback_metrics), dict(trainer.logged_metrics), trainer.global_step,
            trainer.current_epoch, trainer.state, trainer.training, trainer.testing, self.module.training,
            os.path.basename(trainer.checkpoint_callback.best_model_path), trainer.checkpoint_callback.best_model_score,
            (self.folder / "csv/version_0/metrics.csv").read_text(), self.module.device, trainer.should_stop,
            [name for name, parameter in self.module.named_parameters() if parameter.grad is None],
        ]  # fmt: skip


def test_it_is_the_scripts_own_test(pl: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Hook by hook, file by file, print by print; but for the random numbers, which go on as without a test."""
    stories, printed = {}, {}
    for way in ("none", "the script's", "ours"):
        story = stories[way] = Story(pl, tmp_path, way)
        capfd.readouterr()
        story.fit()
        learned, rest = story.learned(), story.rest()
        printed[way] = capfd.readouterr().out
        story.fit(ckpt_path=story.trainer.checkpoint_callback.best_model_path)  # goes on from there
        story.trainer.save_checkpoint(story.folder / "end.ckpt")
        story.trainer.test(story.module, story.valid, verbose=False)
        stories[way] = [learned, rest, story.learned(), story.rest(), story.labels]
    assert "test_loss" in printed["ours"]
    assert printed["ours"] == printed["the script's"]
    assert repr(stories["ours"][1]) == repr(stories["the script's"][1])
    assert repr(stories["ours"][3]) == repr(stories["the script's"][3])
    assert stories["ours"][0] == stories["none"][0]
    assert stories["the script's"][0] != stories["none"][0], "this test draws random numbers"
    first, second, by_itself = stories["ours"][4]
    assert (int(first[5:]) + 1, by_itself) == (int(second[5:]), None)
    assert stories["the script's"][4] == [None] * 3
    assert LABEL not in os.environ


def test_a_label_that_was_there_is_put_back(lightning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LABEL, "mine")
    story = Story(lightning, tmp_path, "ours")
    story.fit()
    assert story.labels[0] != "mine"
    assert os.environ[LABEL] == "mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_a_fit_that_does_not_end_is_not_tested(lightning: Any, tmp_path: Path, error: Any) -> None:
    story = Story(lightning, tmp_path, "ours")

    def fails() -> None:
        raise error

    story.module.on_train_epoch_end = fails
    with pytest.raises((SystemExit, ValueError)):
        story.fit()
    assert story.labels == []
    assert story.hooks[-1] == "finalize failed"
    assert story.hooks.count("on_exception") == 1


def test_a_search_for_the_learning_rate_is_not_tested(lightning: Any, tmp_path: Path) -> None:
    story = Story(lightning, tmp_path, "ours")
    story.module.learning_rate = 0.1
    attach_lightning(trainer=story.trainer, model=story.module, project="demo", run_name="lit", auto_connect=False,
                     test_loader=story.valid, do_test_after=True)  # fmt: skip
    lightning.tuner.Tuner(story.trainer).lr_find(story.module, *runs.loaders(), num_training=5)
    assert story.labels == []
    story.fit()
    assert len(story.labels) == 1


def test_what_the_test_raises_reaches_the_script_once(lightning: Any, tmp_path: Path) -> None:
    story = Story(lightning, tmp_path, "ours")

    def fails(batch: Any, batch_idx: int) -> None:
        raise ValueError("in test_step")

    story.module.test_step = fails
    with pytest.raises(ValueError, match="in test_step"):
        story.fit()
    assert story.hooks.count("on_exception") == 1
    assert LABEL not in os.environ


def attached(pl: Any, model: Any, **given: Any) -> Any:
    """A trainer that tests after training, and says what it cannot."""
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    attach_lightning(trainer=trainer, model=model, project="demo", run_name="lit", auto_connect=False,
                     do_test_after=True, **given)  # fmt: skip
    return trainer


def test_without_a_test_step_it_is_said_at_once(lightning: Any, capfd: pytest.CaptureFixture[str]) -> None:
    class Module(runs.module_class(lightning)):  # type: ignore[misc]
        test_step = lightning.LightningModule.test_step

    trainer = attached(lightning, Module(), test_loader=runs.loaders()[1])
    assert "no test will run after training: Module has no test_step (give it one" in capfd.readouterr().err
    trainer.fit(Module(), *runs.loaders())
    assert "no test" not in capfd.readouterr().err


def test_without_a_loader_it_is_said_when_training_begins(lightning: Any, capfd: pytest.CaptureFixture[str]) -> None:
    model = runs.module_class(lightning)()
    said: list[str] = []
    model.on_train_start = lambda: said.append(capfd.readouterr().err)
    trainer = attached(lightning, model)
    assert "no test" not in capfd.readouterr().err
    trainer.fit(model, *runs.loaders())
    assert said[0].count("no test will run after training: there is no test loader (pass test_loader") == 1
    assert "no test" not in capfd.readouterr().err


@pytest.mark.parametrize("where", ["given to attach", "given to fit", "of the model", "data module without one"])
def test_where_the_loader_comes_from(where: str, lightning: Any, capfd: pytest.CaptureFixture[str]) -> None:
    ran: list[str] = []
    model = runs.module_class(lightning)()
    model.on_test_end = lambda: ran.append(where)
    kind = runs.datamodule_class(lightning)
    if where == "data module without one":
        kind.test_dataloader = lightning.LightningDataModule.test_dataloader
    if where == "of the model":
        model.test_dataloader = lambda: runs.loaders()[1]
        attached(lightning, model).fit(model, *runs.loaders())
    else:
        datamodule = kind()
        given = {"datamodule": datamodule} if where != "given to fit" else {}
        attached(lightning, model, **given).fit(model, datamodule=datamodule)
    without = where == "data module without one"
    assert ran == ([] if without else [where])
    assert ("there is no test loader" in capfd.readouterr().err) == without


def test_the_slot_lives_as_long_as_a_trainer_that_tests(lightning: Any) -> None:
    calls: Any = sys.modules[f"{lightning.__name__}.trainer.call"]
    before = calls._call_and_handle_interrupt
    trainers = [attached(lightning, runs.module_class(lightning)(), test_loader=[]) for _ in range(2)]
    assert calls._call_and_handle_interrupt is not before
    trainers.pop()
    gc.collect()
    assert calls._call_and_handle_interrupt is not before
    trainers.pop()
    gc.collect()
    assert calls._call_and_handle_interrupt is before


def test_a_lightning_that_ends_otherwise_is_told(
    lightning: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(sys.modules[f"{lightning.__name__}.trainer.call"], "_call_and_handle_interrupt")
        attached(lightning, runs.module_class(lightning)(), test_loader=runs.loaders()[1])
    assert "call trainer.test after trainer.fit" in capfd.readouterr().err


def test_switched_off_the_script_still_tests(
    lightning: Any, monkeypatch: pytest.MonkeyPatch, session: Callable[[], Any]
) -> None:
    """Whether it is watched must not decide what it does."""
    monkeypatch.setenv("ONTHEFLY_DISABLE", "1")
    ran: list[Any] = []
    model = runs.module_class(lightning)()
    model.on_test_end = lambda: ran.append(os.environ[LABEL])
    attached(lightning, model, test_loader=runs.loaders()[1]).fit(model, *runs.loaders())
    assert len(ran) == 1
