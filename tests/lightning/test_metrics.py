"""What Lightning logs is recorded: the values of a CSV file of the script's own, at the steps that we count."""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from onthefly.protocol import Metrics
from tests.lightning import runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.watching import Kept

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")

Series = dict[str, list[tuple[int, float]]]

LIVE = ("grad_norm", "weight_norm", "activation_zeros")
"""Looked at by us now and then: nobody has logged these."""


def recorded(kept: Kept) -> Series:
    """Step and value of what was logged, by name, in order."""
    found: Series = {}
    for message in kept.messages:
        if isinstance(message, Metrics) and message.complete:
            for name, values in message.values.items():
                if name in LIVE:
                    continue
                pairs = zip(array("q", message.step), array("d", values))
                found.setdefault(name.removeprefix("script/"), []).extend(pairs)
    return found


def in_file(run: runs.Run) -> Series:
    """Step and value in the files of the script's CSV loggers."""
    found: Series = {}
    for number in range(len(run.trainers)):
        for row in run.logged(number):
            for name, value in row.items():
                if value and name not in ("step", "epoch") and not name.startswith("lr-"):
                    found.setdefault(name, []).append((int(row["step"]), float(value)))
    return found


def values(series: Series) -> dict[str, list[float]]:
    return {name: [value for _, value in pairs] for name, pairs in series.items()}


def check(kind: str, kept: Kept, run: runs.Run) -> None:
    """Of one of the kinds: values are those of the CSV file, at the steps that we count."""
    ours, theirs = recorded(kept), in_file(run)
    assert values(ours) == values(theirs)
    validated = set() if kind == "without_a_loader" else {"val_loss", "val_each"}
    assert set(ours) == {"loss", "train_loss_step", "train_loss_epoch", *validated}
    if kind in ("automatic", "accumulating", "bfloat", "twice", "in_parts", "with_callbacks"):
        same = [name for name in ours if name != "val_each"]  # whose axis there is the number of the batch
        assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    check_steps(kind, kept)


def check_steps(kind: str, kept: Kept) -> None:
    """The number that is logged is the one that was back-propagated: the record of that loss says which step it was."""
    logged, rows = recorded(kept)["train_loss_step"], kept.rows()
    factor = {"accumulating": 4, "by_hand": 2}.get(kind, 1)
    losses: dict[int, list[float]] = {}
    for row in rows:
        losses.setdefault(row.step, []).append(row.loss * factor)
    for step, value in logged:
        assert any(abs(value - loss) <= 1e-6 * abs(loss) for loss in losses[step]), (step, value)
    ends = [step for step, _ in recorded(kept)["train_loss_epoch"]]
    epochs = [[row.step for row in rows if row.epoch == epoch] for epoch in range(2)]
    if kind not in ("twice", "folds", "from_a_checkpoint", "without_a_loader", "two_optimizers"):
        assert ends[:2] == [epoch[-1] for epoch in epochs]


def test_a_validation_belongs_to_the_step_before_it(lightning: Any, session: Callable[[], Any]) -> None:
    with session() as kept:
        runs.play("in_parts", lightning)
    found = recorded(kept)
    assert [step for step, _ in found["val_loss"]] == [2, 5, 9, 12]
    assert [step for step, _ in found["val_each"]] == [step for step in (2, 5, 9, 12) for _ in range(3)]


class Fits:
    """A trainer without a logger, at Lightning's own pace, and what is recorded of it."""

    def __init__(self, pl: Any, **given: Any) -> None:
        self.trainer = pl.Trainer(
            **{"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
               "enable_progress_bar": False, "enable_model_summary": False, **given}
        )  # fmt: skip
        self.module = runs.module_class(pl)()


def test_without_a_logger_and_at_lightnings_pace(lightning: Any, session: Callable[[], Any]) -> None:
    with session() as kept:
        fits = Fits(lightning, log_every_n_steps=4, num_sanity_val_steps=2)
        fits.trainer.fit(fits.module, *runs.loaders())
        fits.trainer.validate(fits.module, runs.loaders()[1], verbose=False)
        fits.trainer.test(fits.module, runs.loaders()[1], verbose=False)
    found = recorded(kept)
    assert [step for step, _ in found["loss"]] == [3, 7]
    assert [step for step, _ in found["val_loss"]] == [8, 9], "in training, and by itself"
    assert [step for step, _ in found["test_loss"]] == [9]


def test_nothing_more_is_computed(lightning: Any, session: Callable[[], Any]) -> None:
    """A metric is asked for its value as often as without us."""
    from torchmetrics import MeanMetric

    class Counted(MeanMetric):
        asked = 0

        def compute(self) -> Any:
            Counted.asked += 1
            return super().compute()

    def train() -> int:
        Counted.asked = 0
        fits = Fits(lightning)
        metric = fits.module.metric = Counted()

        def step(batch: Any, batch_idx: int) -> Any:
            loss = fits.module.loss(fits.module.net(batch[0]), batch[1])
            metric.update(loss)
            fits.module.log("mean", metric, on_step=False, on_epoch=True)
            return loss

        fits.module.training_step = step
        fits.trainer.fit(fits.module, *runs.loaders())
        return Counted.asked

    plain = train()
    with session() as kept:
        assert train() == plain > 0
    assert len(recorded(kept)["mean"]) == 1


def test_a_step_of_the_scripts_own_is_no_metric(lightning: Any, session: Callable[[], Any]) -> None:
    """``self.log("step", epoch)`` has loggers draw by epoch."""
    fits = Fits(lightning)
    fits.module.on_train_epoch_end = lambda: fits.module.log_dict({"by_epoch": 1.0, "step": 77.0})
    with session() as kept:
        fits.trainer.fit(fits.module, *runs.loaders())
    found = recorded(kept)
    assert found["by_epoch"] == [(8, 1.0)]
    assert "step" not in found


def test_a_profiler_counts_no_operator_of_ours(lightning: Any, session: Callable[[], Any]) -> None:
    def counts() -> dict[str, int]:
        torch.manual_seed(0)
        fits = Fits(lightning, log_every_n_steps=1, num_sanity_val_steps=0)
        with profile(activities=[ProfilerActivity.CPU]) as measured:
            fits.trainer.fit(fits.module, *runs.loaders())
        return {event.key: event.count for event in measured.key_averages() if event.key.startswith("aten::")}

    plain = counts()
    with session() as kept:
        assert counts() == plain
    assert any("profiler" in text for text in kept.notices())


def test_another_lightning_is_told_once_and_left_alone(
    lightning: Any, session: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    connector: Any = sys.modules[f"{lightning.__name__}.trainer.connectors.logger_connector.logger_connector"]
    real = connector._LoggerConnector

    class Renamed(real):
        on_batch_start = None

    with monkeypatch.context() as patch, session() as kept:
        patch.setattr(connector, "_LoggerConnector", Renamed)
        kept.session._lightning_there()
        kept.session._lightning_there()
    (told,) = kept.notices()
    assert told.startswith(f"what lightning.pytorch {lightning.__version__} logs is not recorded")
    assert vars(Renamed)["on_batch_start"] is None


def test_slots_wait_for_lightning_and_go_with_the_session(
    lightning: Any, session: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = sys.modules[f"{lightning.__name__}.trainer.connectors.logger_connector.logger_connector"]
    before, finders = vars(module._LoggerConnector)["log_metrics"], list(sys.meta_path)
    with session() as kept:
        assert vars(module._LoggerConnector)["log_metrics"] is before
        next(iter(runs.loaders()[0]))
        assert vars(module._LoggerConnector)["log_metrics"] is not before
        assert sys.meta_path == finders
    assert vars(module._LoggerConnector)["log_metrics"] is before
    with session() as kept:
        pass
    kept.session._lightning_there()  # too late
    assert vars(module._LoggerConnector)["log_metrics"] is before
