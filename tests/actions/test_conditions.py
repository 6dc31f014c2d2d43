"""Pauses on conditions, through the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from onthefly.protocol import StateChanged
from tests.actions.test_subset import LOADERS, train

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("text", "step"), [("loss > 0", 3), ("step >= 7 and isfinite(loss)", 7), ("epoch >= 1", 13)])
def test_held_where_it_holds(text: str, step: int, tmp_path: Path) -> None:
    _, commander = train(LOADERS["plain"](), tmp_path, {2: ("pause", {"when": text})})
    told = [message for message in commander.kept.messages if isinstance(message, StateChanged)]
    (held,) = [message for message in told if message.state == "paused"]
    assert (held.step, held.reason) == (step, f"{text} was reached")
    assert [answer.status for answer in commander.answers()] == ["applied"] * 2


@pytest.mark.parametrize("text", ["loss <", "import os", "loss ** ", "loss < 1 < nothing("])
def test_a_mistake_is_refused(text: str, tmp_path: Path) -> None:
    batches, commander = train(LOADERS["plain"](), tmp_path, {2: ("pause", {"when": text})}, 1)
    assert commander.answers()[-1].status == "refused"
    assert len(batches) == 12
