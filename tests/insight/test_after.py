"""A test when training has ended: by what was seen on the way, since there is no step after the last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.insight import scripts
from tests.insight.played import ask
from tests.insight.test_kinds import unchanged

if TYPE_CHECKING:
    from pathlib import Path

    from tests.actions.played import Commands

SCAN: Commands = {4: [("pause", {}), ("scan", {})], **{place: [("resume", {})] for place in range(5, 10)}}


@pytest.mark.parametrize("commands", [{}, SCAN], ids=["alone", "beside a scan"])
def test_the_model_is_tested_at_the_end(tmp_path: Path, commands: Commands, capfd: pytest.CaptureFixture[str]) -> None:
    source = scripts.HEAD + scripts.CLASSIFIER + scripts.TAIL
    asked, plain = ask(tmp_path, source, commands, str(tmp_path / "brute.json"), ONTHEFLY_TEST_AFTER="1")
    unchanged(asked, plain)
    done = asked.test
    brute = json.loads((tmp_path / "brute.json").read_text())[-1]
    assert (done.step, done.count, done.loader) == (12, 30, "valid_loader")
    assert asked.losses(done.label) == pytest.approx(dict(enumerate(brute[:30])), rel=1e-5)
    assert done.how.endswith("; the script ended before a step after it")
    assert not done.how.startswith("recipe, reproduced 2 of 2"), "it was seen in the second epoch as well"
    assert f"{done.label} after training: loss " in capfd.readouterr().err


def test_that_there_is_none_is_said(tmp_path: Path) -> None:
    source = scripts.CLASSIFIER.replace("loss = F", "factor = float(inputs.sum().item() != 0); loss = factor * F")
    asked, plain = ask(tmp_path, scripts.HEAD + source, {}, ONTHEFLY_TEST_AFTER="1")
    unchanged(asked, plain)
    assert "left the tensors" in asked.test.reason
    assert any("no test was made after training" in text for text in asked.run.commander.kept.notices())
