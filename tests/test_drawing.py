"""What `make test` leaves out of the dear tests comes in turn, and nothing else is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import drawn


class Item:
    """As much of a collected test as is looked at."""

    def __init__(self, file: str, *marks: Any, fixtures: tuple[str, ...] = ()) -> None:
        self.path, self.fixturenames = Path(file), fixtures
        self._marks = {mark.name: mark.mark for mark in marks}

    def get_closest_marker(self, name: str) -> Any:
        return self._marks.get(name)

    def iter_markers(self, name: str) -> list[Any]:
        return [self._marks[name]] if name in self._marks else []


SKIPPED = pytest.mark.skipif(True, reason="of the full tier")


def kept(items: list[Any], share: float, seed: str) -> set[int]:
    """Places of those that are run."""
    return {items.index(one) for one in drawn(items, share, seed)}


def test_each_folder_has_its_share_and_all_come_in_turn() -> None:
    items = [Item("a/one", fixtures=("home",)) for _ in range(7)] + [Item("b/one", pytest.mark.dear)]
    sets = [kept(items, 0.33, str(seed)) for seed in range(60)]
    assert {len(places) for places in sets} == {3 + 1}
    assert set().union(*sets) == set(range(8))
    assert len({frozenset(places) for places in sets}) > 10
    assert kept(items, 0.33, "7") == kept(items, 0.33, "7")


def test_others_are_run_each_time() -> None:
    always = [
        Item("a/one"),
        Item("a/one", pytest.mark.dear, pytest.mark.always),
        Item("a/one", SKIPPED),
    ]
    items = [*always, *[Item("a/one", pytest.mark.dear) for _ in range(4)]]
    for seed in range(20):
        assert kept(items, 0.1, str(seed)) >= {0, 1, 2}
        assert len(kept(items, 0.1, str(seed))) == 4


def test_a_skipped_one_takes_nobodys_place() -> None:
    skipped = [Item("a/one", pytest.mark.dear, SKIPPED) for _ in range(50)]
    items = [*skipped, Item("a/one", pytest.mark.dear), Item("a/one", pytest.mark.dear)]
    assert all(len(kept(items, 0.5, str(seed)) & {50, 51}) == 1 for seed in range(20))
