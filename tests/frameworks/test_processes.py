"""Each framework in a process of its own, started plainly and by us: hooks that are there before it is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import FULL, REPOSITORY

if TYPE_CHECKING:
    from tests.conftest import Ended, Home

SCRIPTS = [
    "accelerate accumulated",
    "fabric mixed",
    "geometric workers",
    "ignite classes",
    "keras loader",
    "sentence_transformers trainer",
    "skorch classifier",
    "transformers classes",
]


def trained(ended: Ended) -> list[bytes]:
    """What it printed of its weights."""
    assert ended.code == 0, ended.err.decode()
    return [line for line in ended.out.splitlines() if line.startswith(b"digest")]


@FULL
@pytest.mark.parametrize("script", SCRIPTS)
def test_weights_are_those_of_plain_python(script: str, home: Home) -> None:
    home.environment["PYTHONPATH"] = str(REPOSITORY)
    arguments = ["-m", "tests.frameworks", *script.split()]
    plain = trained(home.python(*arguments))
    assert plain
    assert trained(home.watched(*arguments)) == plain
    calls = home.get("sessions/last/backwards")
    assert calls
    assert {call["certificate"] for call in calls} == {"exact"}
