"""Examples of torch's documentation, and snippets of our own, do and leave behind under us what they do plain.

Every line's output, error with its traceback, and warnings; every value, tensors byte by byte; the random state. As the
first thing in a process, and between steps of training.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import FULL
from tests.purity import compared, documented

if TYPE_CHECKING:
    from tests.conftest import Home

ORDERS = ["cold", "trained"]
SNIPPETS = sorted((Path(__file__).parent / "snippets").glob("*.txt"))

DIFFERS, OPEN = "# differs: ", "# open: "
"""What a snippet begins with that cannot be the same, with the reason, and one that should be and is not yet."""


def snippets() -> list[tuple[str, str]]:
    return [
        (f"{path.stem} {place}", source)
        for path in SNIPPETS
        for place, source in enumerate(path.read_text(encoding="utf-8").strip().split("\n\n"))
    ]


def differing(home: Home, items: list[tuple[str, str]], order: str) -> list[compared.Difference]:
    """Where watched differs from plain, and plain not from itself, which is asked where it matters."""
    plain = compared.perform(home, items, order, watched=False)
    watched = compared.perform(home, items, order, watched=True)
    found = compared.differences(plain, plain, watched)
    if not open_of(found, items):
        return found
    return compared.differences(plain, compared.perform(home, items, order, watched=False), watched)


def open_of(found: list[compared.Difference], items: list[tuple[str, str]]) -> list[str]:
    """Those that are not said to differ."""
    sources = dict(items)
    return [
        f"{each.name} | {each.place}\n{sources[each.name]}\n- {each.plain}\n+ {each.watched}\n"
        for each in found
        if not sources[each.name].startswith((DIFFERS, OPEN))
    ]


@pytest.mark.timeout(300)
def test_a_sample_of_both(home: Home) -> None:
    chosen = random.Random(os.environ["ONTHEFLY_SEED"])
    items = [*chosen.sample(documented.examples(every=False), 30), *chosen.sample(snippets(), 30)]
    assert open_of(differing(home, items, chosen.choice(ORDERS)), items) == []


@FULL
@pytest.mark.timeout(900)
@pytest.mark.parametrize("order", ORDERS)
def test_every_example_of_torchs_documentation(home: Home, order: str) -> None:
    items = documented.examples(every=True)
    assert len(items) > 900
    assert open_of(differing(home, items, order), items) == []


@FULL
@pytest.mark.timeout(600)
@pytest.mark.parametrize("order", ORDERS)
def test_every_snippet(home: Home, order: str) -> None:
    items = snippets()
    assert len(items) > 350
    found = differing(home, items, order)
    assert open_of(found, items) == []
    said = {name for name, source in items if source.startswith((DIFFERS, OPEN))}
    assert said == {each.name for each in found}, "it does not differ any more"


@FULL
@pytest.mark.xfail(raises=AssertionError, strict=True, reason="a warning of C++ names a line of ours")
def test_a_warning_of_an_operator_names_the_line_of_the_script(home: Home) -> None:
    items = [(name, source) for name, source in snippets() if source.startswith(OPEN)]
    assert differing(home, items, "cold") == []


def test_what_would_be_seen(home: Home) -> None:
    """Of an example that draws, names another value, warns or raises; and of one that ends its process."""
    items = [
        ("one", "x = torch.rand(1)\nx"), ("other", "x = torch.rand(2)[1:]\nx"),
        ("ends", "import os\nos._exit(3)"),
        ("warns", "import warnings\nwarnings.warn('a')\n1 / 0"), ("not", "import warnings\n'a'\n1 / 1"),
    ]  # fmt: skip
    seen = compared.perform(home, items, "cold", watched=False)
    assert seen["ends"] == {"ended": "3"}

    def places(one: str, other: str) -> set[str]:
        plain = {"": seen[one]}
        return {each.place for each in compared.differences(plain, plain, {"": seen[other]})}

    assert places("one", "one") == set()
    assert places("one", "other") == {"random", "value x", "1 printed"}
    assert places("warns", "not") == {"1 warned", "1 printed", "2 raised", "2 printed"}
