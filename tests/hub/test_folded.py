"""The state of the dynamics in a file: taken up where it fits, left aside where it does not, never missed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.hub import folded, presentations
from onthefly.hub.presentations import Follower
from onthefly.hub.store import Source, Store
from tests.hub.agent import records
from tests.hub.test_dynamics import look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presentations, "WORTH_A_FILE", 12)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store.duckdb", "abcdefgh")
    made.write([(Source(0, 1, 1), records(0, 4, 3))])
    yield made
    made.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Rows of the table that were read, as conditions."""
    conditions: list[str] = []
    read = Follower._read

    def spy(self: Follower, cursor: Any, identity: str, rows: str, among: Any = None) -> Any:
        conditions.append(rows)
        return read(self, cursor, identity, rows, among)

    monkeypatch.setattr(Follower, "_read", spy)
    return conditions


def test_after_a_restart_only_what_came_since_is_read(store: Store, read: list[str]) -> None:
    first = look(store, Follower("baseline", "train", store.folder))
    assert read
    read.clear()
    assert look(store, Follower("baseline", "train", store.folder)) == first
    assert not read
    store.write([(Source(0, 1, 2), records(4, 1, 3))])
    again = look(store, Follower("baseline", "train", store.folder))
    assert set(read) == {"rowid >= 12 AND rowid < 15"}
    assert again == look(store, Follower("baseline", "train"))


def test_it_is_written_once_enough_has_come(store: Store) -> None:
    follower = Follower("baseline", "train", store.folder)
    path = folded.path_of(store.folder, "baseline", "train")
    look(store, follower)
    path.unlink()
    for number, there in ((2, False), (3, False), (4, False), (5, True)):
        store.write([(Source(0, 1, number), records(2 + number, 1, 3))])
        look(store, follower)
        assert path.exists() is there, number


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"loss_mean") + 170] ^= 1  # in the numbers: the checksum tells
    path.write_bytes(content)


def another_version(path: Path) -> None:
    text = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folded, "FORMAT", folded.FORMAT + 1)
        found = Follower("baseline", "train", path.parent)
        store = Store(path.parent / "other" / "store.duckdb", "abcdefgh")
        store.write([(Source(0, 1, 1), records(0, 4, 3))])
        look(store, found)
        store.close()
    assert path.read_bytes() != text


def another_run(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"run": "baseline"', b'"run": "Baseline"'))


def not_of_this_kind(path: Path) -> None:
    path.write_bytes(b"none of ours")


@pytest.mark.parametrize("spoil", [cut, flipped, another_version, another_run, not_of_this_kind])
def test_a_file_that_is_not_whole_is_left_aside(store: Store, read: list[str], spoil: Callable[[Path], None]) -> None:
    first = look(store, Follower("baseline", "train", store.folder))
    spoil(folded.path_of(store.folder, "baseline", "train"))
    read.clear()
    assert look(store, Follower("baseline", "train", store.folder)) == first
    assert read


def test_a_file_of_another_table_is_left_aside(store: Store) -> None:
    look(store, Follower("baseline", "train", store.folder))
    other = Store(store.folder / "store-new.duckdb", "abcdefgh")
    other.write([(Source(0, 1, 1), records(0, 6, 2))])
    assert [row["count"] for row in look(other, Follower("baseline", "train", store.folder))] == [6, 6]
    other.close()


def test_what_cannot_be_written_costs_the_shortcut_only(
    store: Store, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.WARNING, "onthefly.hub"):
        rows = look(store, Follower("baseline", "train", tmp_path / "gone"))
    assert [row["count"] for row in rows] == [4, 4, 4]
    assert "not kept over a restart" in caplog.text
