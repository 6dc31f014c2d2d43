"""Frames leave in order and stay until the hub has them, in memory or on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from onthefly.link import outbox
from onthefly.link.frames import LENGTH, decode, encode
from onthefly.link.outbox import Outbox
from onthefly.protocol import AGENT_KINDS, Noticed
from tests.hub.agent import hello

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = Noticed(text="a block", time=0.0)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """One that goes to disk with its fourth frame."""
    monkeypatch.setattr(outbox, "MEMORY_BYTES", 3 * len(encode(1, BLOCK)))
    return Outbox(hello(), tmp_path / "spool" / "0-1.frames")


def add(box: Outbox, count: int) -> None:
    """So many frames more."""
    for _ in range(count):
        box.add(BLOCK)


def sent(box: Outbox, most: int = 1000) -> list[int]:
    """The numbers of the frames that go out now, at most so many."""
    return [decode(frame[LENGTH.size :], AGENT_KINDS)[0] for _, frame in zip(range(most), box.unsent())]


def test_a_slow_hub_gets_what_went_to_disk_before_what_came_after(box: Outbox, tmp_path: Path) -> None:
    add(box, 2)
    assert sent(box) == [1, 2]
    add(box, 3)  # over the limit with the fourth: all go to disk
    assert (tmp_path / "spool" / "0-1.frames").exists()
    assert sent(box) == [1, 2, 3, 4, 5], "the hub leaves out what it has"
    add(box, 2)
    assert sent(box) == [6, 7], "and on from there"
    add(box, 2)  # to disk again
    assert sent(box) == [5, 6, 7, 8, 9]
    box.acknowledged(5)
    assert not box.empty()
    box.acknowledged(9)
    assert box.empty()
    assert not (tmp_path / "spool" / "0-1.frames").exists()


def test_a_new_connection_gets_all_that_is_not_acknowledged(box: Outbox) -> None:
    add(box, 6)
    assert sent(box) == [1, 2, 3, 4, 5, 6]
    box.rewind(2)
    assert sent(box) == [1, 2, 3, 4, 5, 6]
    assert sent(box, 2) == []
    box.rewind(3)
    assert sent(box, 2) == [1, 2]
    assert sent(box, 3) == [3, 4, 5], "broken off on disk, it goes on there"
    box.rewind(4)
    add(box, 1)
    assert sent(box) == [5, 6, 7]
    box.acknowledged(7)
    add(box, 1)
    assert sent(box) == [8]
    assert sent(box) == []
