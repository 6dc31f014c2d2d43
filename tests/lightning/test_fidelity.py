"""Fidelity: every loss that Lightning back-propagates, and all it logs, against brute force and a CSV file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.fidelity.brute_force import BruteForce
from tests.lightning import runs, test_metrics
from tests.reporting import seen

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


def judge(kind: str, pl: Any, session: Callable[[], Any], patch: pytest.MonkeyPatch) -> None:
    """Run it beside brute force, and compare."""
    truth = BruteForce(patch)
    with session() as kept:
        _, run = runs.play(kind, pl)
    rows, known = kept.rows(), runs.data().tensors[0]
    truth.check(rows, names_known=False)
    assert [row.step for row in rows] == runs.STEPS[kind]
    assert len(rows) == len(runs.GIVEN)
    identity = "none" if kind == "without_a_loader" else "index"
    for row, given in zip(rows, runs.GIVEN):
        assert (row.certificate, row.identity) == ("exact", identity), row.reason
        assert len(row.losses) == len(given)
        assert identity == "none" or torch.equal(known[row.samples], given)
    assert kept.session.step == runs.STEPS[kind][-1] + (kind not in ("by_hand", "two_optimizers"))
    test_metrics.check(kind, kept, run)
    seen("framework", f"Lightning ({pl.__name__}): {kind.replace('_', ' ')}", kept)


@pytest.mark.parametrize("kind", runs.KINDS)
def test_every_sample(kind: str, lightning: Any, session: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    judge(kind, lightning, session, monkeypatch)


@pytest.mark.parametrize("kind", ["automatic", "two_optimizers"])
def test_the_other_package(kind: str, pl: Any, session: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    judge(kind, pl, session, monkeypatch)


def test_epochs_are_those_of_the_loader(lightning: Any, session: Callable[[], Any]) -> None:
    """Also where each ends early, with validations in between."""
    with session() as kept:
        runs.play("in_parts", lightning)
    assert [row.epoch for row in kept.rows()] == [0] * 7 + [1] * 7
