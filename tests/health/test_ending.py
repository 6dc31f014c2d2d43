"""Examinations that do not come to their end: cancelled, refused, in a script that raises; nothing of ours stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from torch.utils.data import Dataset

from onthefly.health.table import ROWS
from onthefly.protocol import Checked, Controlled
from tests.actions.desk import desk
from tests.health.examined import PAUSED_AT, Training
from tests.health.test_activations import hooks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.actions.desk import Commander


def results(commander: Commander) -> dict[str, Any]:
    return {message.result.check: message.result for message in commander.kept.messages if isinstance(message, Checked)}


class Endless(Dataset[Any]):
    """Has the check cancelled while it reads it."""

    def __init__(self, training: Training, commander: Commander) -> None:
        self.training, self.commander, self.reads = training, commander, 0

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        if self.commander.kept.session._gate.paused and index == 5:
            self.commander.send("cancel")
        return self.training.inputs[index], self.training.targets[index]


def test_a_check_that_runs_is_cancelled_and_those_after_it_do_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onthefly.health import data

    monkeypatch.setattr(data, "PROGRESS", 1)
    training = Training()
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        training.dataset = Endless(training, commander)
        training.run(commander, {PAUSED_AT: [("pause", {}), ("health", {}), ("resume", {})]})
        found = results(commander)
        assert found["numerics"].verdict == "good"
        assert (found["data"].verdict, found["data"].says) == ("unknown", "cancelled")
        assert "gradients" not in found
        assert [answer.status for answer in commander.answers()] == ["applied"] * 4
        assert hooks(training.model) == 0


def test_progress_is_shown_and_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onthefly.actions import health

    monkeypatch.setattr(health, "SHOWN_SECONDS", 0.0)
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        Training().run(commander, {PAUSED_AT: [("pause", {}), ("health", {"checks": ["data"]}), ("resume", {})]})
        shown = [message.controls.progress for message in commander.kept.messages if isinstance(message, Controlled)]
        assert any(one is not None and (one.what, one.of) == ("data: loader0", 40) for one in shown)
        assert shown[-1] is None


def test_what_is_refused(tmp_path: Path) -> None:
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        Training().run(commander, {
            2: [("health", {})],
            4: [("pause", {}), ("health", {"checks": ["pulse"]}), ("health", {"checks": ["gradients"]})],
            5: [("resume", {})],
        })  # fmt: skip
        answers = commander.answers()
        assert [answer.status for answer in answers] == ["refused", "applied", "refused", "applied", "applied"]
        assert answers[0].reason == "the script is not paused"
        assert "pause" in answers[0].remedy
        assert all(row.name in answers[2].remedy for row in ROWS)


def test_a_script_that_raises_in_the_step_that_is_looked_at_keeps_no_hook(tmp_path: Path) -> None:
    training = Training()

    def fail(training: Training, step: int, loss: Any) -> None:
        if step == PAUSED_AT + 1:
            assert hooks(training.model) > 0
            raise KeyError("the script's own")

    training.after = fail
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        at: Any = {PAUSED_AT: [("pause", {}), ("health", {"checks": ["activations", "gradients", "determinism"]})]}
        with pytest.raises(KeyError, match="the script's own"):
            training.run(commander, at)
        session = commander.kept.session
        session.close(KeyError())
        assert hooks(training.model) == 0
        assert session._gate.watch is None
        found = results(commander)
        assert {name: one.verdict for name, one in found.items()} == dict.fromkeys(
            ("activations", "gradients", "determinism"), "unknown")  # fmt: skip
        assert all("ended before" in one.says for one in found.values())


def test_a_check_with_a_fault_of_its_own_says_so_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onthefly.health import activations

    def fail(*given: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(activations, "_judged", fail)
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        training = Training()
        training.run(commander, {
            PAUSED_AT: [("pause", {}), ("health", {"checks": ["activations", "gradients"]})],
            PAUSED_AT + 1: [("resume", {})],
        })  # fmt: skip
        found = results(commander)
        assert found["activations"].says == "the check failed: ZeroDivisionError: ours"
        assert found["gradients"].verdict in ("good", "warning")
        assert hooks(training.model) == 0
