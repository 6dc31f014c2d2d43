"""Purity: a Lightning run ends with the same bits plain, watched, attached, and paused again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from onthefly import attach_lightning
from tests.lightning import runs
from tests.purity.test_loops import storm

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


def attach(pl: Any, trainer: Any, module: Any) -> None:
    attach_lightning(trainer=trainer, model=module, project="demo", run_name="lit")


@pytest.mark.parametrize("kind", runs.KINDS)
def test_watching_and_attaching_change_nothing(kind: str, lightning: Any, session: Callable[[], Any]) -> None:
    plain, _ = runs.play(kind, lightning)
    with session() as kept:
        observed, _ = runs.play(kind, lightning)
    assert observed == plain
    assert len(kept.rows()) == len(runs.STEPS[kind])
    with session() as kept, storm(kept.session._gate):
        attached, _ = runs.play(kind, lightning, attach)
    assert attached == plain
    assert len(kept.rows()) == len(runs.STEPS[kind])
    assert "paused" in kept.states()


def test_the_other_package(session: Callable[[], Any], pl: Any) -> None:
    plain, _ = runs.play("automatic", pl)
    with session() as kept:
        attached, _ = runs.play("automatic", pl, attach)
    assert attached == plain
    assert kept.session.run == "lit"


def test_the_model_runs_once_a_batch(session: Callable[[], Any], pl: Any) -> None:
    """The system we succeed ran it twice: BatchNorm had seen 600 batches of 300."""
    with session():
        _, run = runs.play("automatic", pl, attach)
    (module,) = run.modules
    assert module.net[1].num_batches_tracked == 2 * runs.BATCHES


def test_a_second_forward_would_be_seen(
    lightning: Any, session: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = runs.play("automatic", lightning)

    def forward_again(pl: Any, trainer: Any, module: Any) -> None:
        step = module.training_step
        module.training_step = lambda batch, batch_idx: (module.net(batch[0]), step(batch, batch_idx))[1]

    twice, run = runs.play("automatic", lightning, forward_again)
    assert twice != plain
    assert run.modules[0].net[1].num_batches_tracked == torch.tensor(4 * runs.BATCHES)
