"""The examples are scripts that learn something, the same each time, and know nothing of OnTheFly."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Callable

import pytest

from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from tests.conftest import Home

EXAMPLES: dict[str, tuple[str, Callable[[float, str], bool]]] = {
    "digits": ("accuracy", lambda value, out: value > 0.97),
    "tabular": ("R2", lambda value, out: value > 0.35),
    "text": ("perplexity", lambda value, out: value < 0.5 * float(re.findall(r"unigram  perplexity (\S+)", out)[0])),
}
"""What the last line of each says, and whether that is a result."""

SECONDS = 60.0
"""Of one core: what an example may take."""

LEARNED = list(EXAMPLES) if os.environ.get("ONTHEFLY_FULL") == "1" else ["tabular"]


@pytest.mark.parametrize("name", LEARNED)
def test_it_learns(home: Home, name: str) -> None:
    metric, good = EXAMPLES[name]
    before = os.times().children_user
    ended = home.python(str(REPOSITORY / "examples" / f"{name}.py"), timeout=100)
    out = ended.out.decode()
    assert (ended.code, ended.err) == (0, b"")
    assert good(float(re.findall(rf"{metric} (\S+)", out)[-1]), out)
    assert os.times().children_user - before < SECONDS


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_is_plain(name: str) -> None:
    source = (REPOSITORY / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert "onthefly" not in source.lower()
    for option in ("--epochs", "--workers", "--seed", "--save"):
        assert option in source
