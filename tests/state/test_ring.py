"""The ring keeps the newest and the pinned within its budgets, in memory and on the disk apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from onthefly.bundle import files as bundle_files
from onthefly.bundle.refusals import NoSuchBundle
from onthefly.errors import Guard, Refused
from onthefly.state.files import Outcome, Writer, write_form
from onthefly.state.form import Place
from onthefly.state.ring import Entry, Ring
from tests.state.test_files import form

if TYPE_CHECKING:
    from pathlib import Path


class Kept:
    """A snapshot of so many bytes."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def place(step: int, run: str = "baseline") -> Place:
    """A place."""
    return Place(run, step, 0, step)


def fill(ring: Ring, count: int, nbytes: int = 10) -> None:
    """So many in memory."""
    for step in range(count):
        ring.add(f"s-{step}", place(step), "every", Kept(nbytes), awaited=False)


def rows(ring: Ring, *fields: str) -> list[tuple[Any, ...]]:
    """Some fields of all."""
    return [tuple(row[field] for field in fields) for row in ring.rows()]


def write(ring: Ring, step: int, **more: Any) -> Entry:
    """One, on the disk."""
    name = ring.name_for(place(step))
    entry = ring.add(name, place(step), "asked", **more)
    written = write_form(form(), ring.parent, name, {"reason": "asked"})
    ring.wrote(Outcome(name, written.path, written.bytes, written.seconds, "durable"))
    return entry


def on_disk(ring: Ring) -> list[str]:
    """What stands there under any name."""
    return sorted(path.name for path in ring.parent.iterdir())


def test_the_oldest_leave_memory_first(tmp_path: Path) -> None:
    ring = Ring(tmp_path, memory_bytes=35, keep=10)
    fill(ring, 6)
    assert rows(ring, "name", "bytes_memory") == [("s-3", 10), ("s-4", 10), ("s-5", 10)]
    ring.pin("s-3")
    fill(ring, 0)
    ring.add("big", place(9), "asked", Kept(1000), awaited=False)
    assert rows(ring, "name", "pinned") == [("s-3", True), ("big", False)], "the newest stays, however large"
    ring.pin("s-3", False)
    ring.add("last", place(10), "asked", Kept(1), awaited=False)
    assert rows(ring, "name") == [("last",)]


def test_no_more_than_so_many(tmp_path: Path) -> None:
    ring = Ring(tmp_path, keep=2)
    fill(ring, 4)
    assert rows(ring, "name", "step", "reason", "durability") == [
        ("s-2", 2, "every", "accepted"), ("s-3", 3, "every", "accepted"),
    ]  # fmt: skip


def test_memory_and_disk_are_apart(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "c", memory_bytes=15, keep=3)
    for step in range(5):
        write(ring, step, snapshot=Kept(10))
    assert rows(ring, "name", "bytes_memory") == [("baseline-2", 0), ("baseline-3", 0), ("baseline-4", 10)]
    assert on_disk(ring) == ["baseline-2", "baseline-3", "baseline-4"]
    size = ring.rows()[0]["bytes_disk"]
    tight = Ring(tmp_path / "c", disk_bytes=size + size // 2, keep=9)
    assert tight.look() == []
    write(tight, 9)
    assert on_disk(tight) == ["baseline-9"]


def test_the_newest_acknowledged_stays_while_newer_ones_fail(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "c", keep=1)
    write(ring, 0)
    for step in (1, 2):
        ring.add(f"x-{step}", place(step), "every")
        ring.wrote(Outcome(f"x-{step}", error="the disk is full", remedy="free some"))
    assert rows(ring, "name", "error") == [("baseline-0", ""), ("x-2", "the disk is full")]
    assert on_disk(ring) == ["baseline-0"]


def test_what_is_being_written_is_not_forgotten(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "c", keep=1)
    ring.add("a", place(0), "asked")
    ring.add("b", place(1), "asked")
    assert rows(ring, "name") == [("a",), ("b",)]


def test_found_again(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "c")
    for step in (3, 20, 100):
        write(ring, step)
    (ring.parent / "baseline-20" / "manifest.json").write_bytes(b"{}")
    (ring.parent / "odd").mkdir()
    again = Ring(tmp_path / "c")
    damaged = again.look()
    assert len(damaged) == 2
    assert all("manifest" in text for text in damaged)
    assert rows(again, "name", "step", "durability", "bytes_disk", "time") == [
        row for row in rows(ring, "name", "step", "durability", "bytes_disk", "time") if row[0] != "baseline-20"
    ] or rows(again, "name") == [("baseline-3",), ("baseline-100",)]
    assert again.get("last").name == "baseline-100"
    assert again.get("baseline-3").path == tmp_path / "c" / "baseline-3"


def test_names_are_free(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    assert ring.name_for(place(7)) == "baseline-7"
    ring.add("baseline-7", place(7), "asked")
    (tmp_path / "baseline-7-2").mkdir()
    assert ring.name_for(place(7)) == "baseline-7-3"
    assert ring.name_for(place(7, "r" * 64)) == "r" * 40 + "-7"


def test_asked_for(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "c")
    with pytest.raises(NoSuchBundle, match="there are: none"):
        ring.get("last")
    write(ring, 1)
    write(ring, 2)
    with pytest.raises(NoSuchBundle, match="there are: baseline-1, baseline-2"):
        ring.get("baseline-3")
    before = ring.newest(lambda entry: entry.place.step < 2)
    assert before is not None
    assert before.name == "baseline-1"
    ring.drop("baseline-1")
    assert on_disk(ring) == ["baseline-2"]
    assert rows(ring, "name") == [("baseline-2",)]


def test_dropped_while_it_is_written(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "c")
    ring.add("a", place(1), "asked")
    ring.drop("a")
    written = write_form(form(), ring.parent, "a")
    ring.wrote(Outcome("a", written.path, written.bytes, written.seconds, "durable"))
    assert (on_disk(ring), ring.rows()) == ([], [])


def test_what_the_disk_does_not_let_go_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(tmp_path / "c")
    write(ring, 1)

    def refuses(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(bundle_files, "remove_folder", refuses)
        with pytest.raises(Refused, match="baseline-1 stays: it cannot be removed: Permission denied"):
            ring.drop("baseline-1")
    assert rows(ring, "name") == [("baseline-1",)]
    ring.drop("baseline-1")
    assert ring.rows() == []


def test_with_the_writer(tmp_path: Path) -> None:
    ring, writer = Ring(tmp_path / "c", keep=2), Writer(tmp_path / "c", Guard("checkpoints", strict=True))
    for step in range(5):
        name = ring.name_for(place(step))
        ring.add(name, place(step), "every")
        writer.submit(form(), name, ring.wrote)
        assert writer.flush(30)
    assert writer.close(30)
    assert on_disk(ring) == ["baseline-3", "baseline-4"]
    assert rows(ring, "name", "durability") == [("baseline-3", "durable"), ("baseline-4", "durable")]
