"""The check of memory: graphs that are kept alive, a full machine, and what takes how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from onthefly.health import memory
from tests.health.examined import Training, verdict

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def others_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that other tests of this process have left alive are none of the script's."""
    there, find = memory.kept_graphs(), memory.kept_graphs
    monkeypatch.setattr(memory, "kept_graphs", lambda: [one for one in find() if all(one is not old for old in there)])


def test_a_sound_run_is_good_and_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "host", lambda: (100, 50))
    found = verdict(tmp_path, Training(), "memory", pure=True)
    assert found.verdict == "good", found
    sizes = {row["name"]: row["bytes"] for row in found.rows}
    parameters = 4 * (3 * 8 + 8 + 8 * 2 + 2)
    assert (sizes["parameters"], sizes["gradients"]) == (parameters, parameters)
    assert sizes["optimizer state"] == 2 * parameters + 4 * 4  # two moments, and four step counts
    assert int(found.numbers["resident"] or 0) > 1e6


def test_losses_that_keep_their_graphs_are_found(tmp_path: Path) -> None:
    training = Training()
    sums: list[Any] = []
    training.after = lambda training, step, loss: sums.extend(loss + number for number in range(20))
    found = verdict(tmp_path, training, "memory")
    assert found.verdict == "bad"
    assert "loss.item()" in found.do
    assert int(found.numbers["kept_graphs"] or 0) >= 7 * 20


@pytest.mark.parametrize(("left", "kind"), [(3, "bad"), (10, "warning"), (50, "good")])
def test_a_full_machine_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int, kind: str) -> None:
    monkeypatch.setattr(memory, "host", lambda: (100, left))
    assert verdict(tmp_path, Training(), "memory").verdict == kind
