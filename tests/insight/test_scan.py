"""A scan gives what brute force gives, and the rest of the run is, bit for bit, what it would have been."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.insight import scripts
from tests.insight.played import ask

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.dear

SCRIPTS = [name.lower() for name in vars(scripts) if name.isupper() and name not in ("HEAD", "TAIL")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_scan_equals_brute_force(tmp_path: Path, name: str) -> None:
    source = scripts.HEAD + getattr(scripts, name.upper()) + scripts.TAIL
    at = {2: [("pause", {}), ("scan", {"loader": "loader0"})]}
    at.update({place: [("resume", {})] for place in range(3, 9)})  # wherever it is held
    asked, plain = ask(tmp_path, source, at, str(tmp_path / "brute.json"))
    done = asked.evaluations["scan_1"]
    found = re.fullmatch(r"recipe, reproduced (\d+) of (\d+)", done.how)
    assert found, (done, asked.answers)
    assert found[1] == found[2]
    assert int(found[1]) >= 3
    assert done.verified
    assert not done.partial, done.reason
    brute = json.loads((tmp_path / "brute.json").read_text())[done.step - 1]
    brute = {int(key): loss for key, loss in (brute if isinstance(brute, dict) else dict(enumerate(brute))).items()}
    assert done.count == len(brute)
    losses = asked.losses("scan_1")
    assert losses.keys() == brute.keys()
    assert losses == pytest.approx(brute, rel=1e-5, abs=1e-6)
    assert asked.run.out == plain.out
    assert asked.run.hashes == plain.hashes
