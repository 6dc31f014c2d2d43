"""The oldest sessions make room, and only those that may go; a link in the data folder leads nowhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from onthefly.hub.folder import DataFolder, SessionFile
from onthefly.hub.registry import Registry
from onthefly.hub.storekeeping import Storekeeper
from onthefly.settings import Settings
from tests.bundle.forging import session

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 100_000


def make(data: Path, name: str, started: float, **changes: object) -> None:
    """A session's folder of some :data:`SIZE` bytes."""
    folder = data / "sessions" / name
    folder.mkdir(parents=True)
    info = session(id=name, started=started, **changes)
    (folder / "session.json").write_bytes(msgspec.json.encode(SessionFile(node="", hub_pid=0, session=info)))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "big").write_bytes(bytes(SIZE))


def room(data: Path, budget: int) -> tuple[list[str], Registry]:
    """What is removed to make room."""
    folder = DataFolder(data)
    registry = Registry(folder)
    return asyncio.run(Storekeeper(registry, folder, budget).make_room()), registry


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight sessions, the oldest first; half of them must stay."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(bytes(SIZE))
    data = tmp_path / "data"
    make(data, "aaaaaaaa", 1.0, pinned=True)
    make(data, "bbbbbbbb", 2.0, state="imported")
    make(data, "cccccccc", 3.0)
    make(data, "dddddddd", 4.0, state="crashed")
    make(data, "eeeeeeee", 5.0, state="running")
    make(data, "ffffffff", 6.0, state="lost")
    make(data, "gggggggg", 7.0)
    make(data, "hhhhhhhh", 8.0)
    (data / "sessions" / "cccccccc" / "checkpoints" / "out").symlink_to(outside)
    return data


def test_within_the_budget_nothing_goes(data: Path) -> None:
    assert room(data, 9 * SIZE)[0] == []
    assert room(data, 0)[0] == []


def test_the_oldest_that_may_go_first(data: Path, tmp_path: Path) -> None:
    removed, registry = room(data, int(7.5 * SIZE))
    assert removed == ["cccccccc"]
    assert (tmp_path / "outside" / "secret").exists()
    notices = registry.sessions["hhhhhhhh"].info.notices
    assert "cccccccc" in notices[0].text
    assert "ONTHEFLY_DATA_BUDGET" in notices[0].remedy
    assert room(data, 1)[0] == ["dddddddd", "gggggggg"]
    assert {path.name for path in (data / "sessions").iterdir()} == {
        "aaaaaaaa", "bbbbbbbb", "eeeeeeee", "ffffffff", "hhhhhhhh"
    }  # fmt: skip


def test_why_each_stays(data: Path) -> None:
    folder = DataFolder(data)
    found = asyncio.run(Storekeeper(Registry(folder), folder, 1).measured())
    assert {row.id[0]: row.kept for row in found.sessions} == {
        "a": "pinned", "b": "imported", "c": "", "d": "", "e": "running", "f": "running", "g": "", "h": "newest",
    }  # fmt: skip
    assert all(SIZE < row.bytes < SIZE + 5000 and row.checkpoints == SIZE for row in found.sessions)
    assert (found.budget, found.place) == (1, str(data / "sessions"))


def test_leftovers_are_swept_at_the_start(data: Path) -> None:
    for place in (data / "sessions", data / "sessions" / "aaaaaaaa"):
        (place / ".tmp-0-1-x").mkdir()
        (place / f".tmp-{_node()}-4194303-x").mkdir()
    DataFolder(data)
    assert len(list(data.rglob(".tmp-*"))) == 2  # of another machine: for a day


def _node() -> str:
    from onthefly.bundle import files

    return files.temporary_name().split("-")[1]


def test_a_link_is_no_session(data: Path, tmp_path: Path) -> None:
    make(tmp_path / "other", "kkkkkkkk", 1.0)
    (data / "sessions" / "kkkkkkkk").symlink_to(tmp_path / "other" / "sessions" / "kkkkkkkk")
    assert "kkkkkkkk" not in Registry(DataFolder(data)).sessions


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 10 << 30), ("500M", 500 << 20), ("1.5g", 3 << 29), ("20GB", 20 << 30), ("0", 0), ("many", 10 << 30)],
)
def test_a_budget_in_words(text: str, count: int) -> None:
    assert Settings({"ONTHEFLY_DATA_BUDGET": text}).data_budget == count
