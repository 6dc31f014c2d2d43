"""Back to the first step, in place: as run ``baseline-2``, and what follows is what followed the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.actions.played import play
from tests.actions.test_trial import script

if TYPE_CHECKING:
    from pathlib import Path


def test_a_script_goes_back_to_its_first_step(tmp_path: Path) -> None:
    path = script(tmp_path, 0)
    expected = play(path, folder=tmp_path)
    again = play(path, folder=tmp_path, at={
        0: [("checkpoint", {})], 2: [("checkpoint", {})], 4: [("reset", {})], 7: [("rewind", {})], 9: [("reset", {})],
    })  # fmt: skip
    answers = again.commander.answers()
    assert [answer.status for answer in answers] == ["applied"] * 5, answers
    assert answers[2].result == {"checkpoint": "baseline-1", "step": 1, "epoch": 0}
    assert list(again.losses()) == ["baseline", "baseline-2", "rewind1", "baseline-3"]
    assert again.losses()["baseline-3"] == expected.losses()["baseline"][1:]
    assert again.hashes[9:] == expected.hashes


def test_without_a_checkpoint_of_then_it_is_refused_with_what_helps(tmp_path: Path) -> None:
    run = play(script(tmp_path, 0), folder=tmp_path, at={1: [("checkpoint", {})], 4: [("reset", {})]})
    answer = run.commander.answers()[-1]
    assert (answer.status, answer.reason) == ("refused", "no checkpoint of the first step is in memory")
    assert "onthefly reset SESSION" in answer.remedy
    assert list(run.losses()) == ["baseline"]
