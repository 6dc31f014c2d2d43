"""Rows 21 and 22: ``kill -9`` while bundles are exported and imported in a loop, and what the disk is asked to do."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING, NoReturn

import pytest

from onthefly.bundle import files, gather
from onthefly.bundle.archive import Bundle
from onthefly.bundle.refusals import BundleError
from onthefly.hub.importing import import_bundle
from tests.bundle.forging import ID, good
from tests.bundle.test_archive import checkpoint
from tests.reporting import note

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KILLS = 200 if os.environ.get("ONTHEFLY_FULL") else 10
SEED = 22


def kill_one(work: Callable[[], object], moment: float) -> None:
    """Do ``work`` for ever in a child, and kill that after its first time and ``moment`` seconds."""
    told, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        _forever(work, tells)
    os.close(tells)
    assert os.read(told, 1) == b"x", "it ended before it did anything"
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(told)
    assert os.WTERMSIG(status) == signal.SIGKILL, "it ended by itself"


def _forever(work: Callable[[], object], tells: int) -> NoReturn:
    try:
        signal.alarm(60)
        while True:
            work()
            os.write(tells, b"x")
    finally:
        os._exit(1)


def damaged(path: Path) -> bool:
    """Whether a bundle that is there is not whole."""
    try:
        with Bundle(path) as bundle:
            for name in bundle.members:
                bundle.read(name)
    except BundleError:
        return True
    return False


def in_place(path: Path, write: Callable[[Path], object]) -> int:
    """What the product does not do: write the file under its final name."""
    path.unlink(missing_ok=True)
    write(path)
    return path.stat().st_size


@pytest.mark.timeout(900)
@pytest.mark.parametrize("protected", [True, False])
def test_kills_leave_whole_bundles_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protected: bool) -> None:
    """Written in place instead, some are not: the test sees it."""
    session, stage, target = tmp_path / "session", tmp_path / "stage", tmp_path / "out" / "a.otf"
    stage.mkdir()
    target.parent.mkdir()
    (stage / "session.json").write_bytes(b"{}")
    (stage / "script").mkdir()
    (stage / "script" / "big.py").write_bytes(random.Random(SEED).randbytes(3 << 20))
    checkpoint(session / "checkpoints", "a-1")
    if not protected:
        monkeypatch.setattr(files, "replace_file", in_place)
    chance, bad = random.Random(SEED), 0
    for _ in range(KILLS):
        kill_one(lambda: gather.pack(target, stage, session), chance.uniform(0, 0.05))
        bad += not target.exists() or damaged(target)
    gather.pack(target, stage, session)
    assert [path.name for path in target.parent.iterdir()] == ["a.otf"], "leftovers are swept by the next export"
    assert (bad == 0) == protected
    if protected:
        note("F2", export_kills=KILLS, export_unreadable=bad)


@pytest.mark.timeout(900)
def test_kills_leave_whole_sessions_only(tmp_path: Path) -> None:
    good(tmp_path)
    sessions, chance = tmp_path / "sessions", random.Random(SEED)
    for _ in range(KILLS):
        kill_one(lambda: import_bundle(tmp_path / "good.otf", sessions), chance.uniform(0, 0.2))
        for path in sessions.iterdir():
            if not path.name.startswith(files.PREFIX):
                assert {one.name for one in path.iterdir()} == {
                    "session.json", "store.duckdb", "environment.json", "script", "checkpoints"
                }  # fmt: skip
    import_bundle(tmp_path / "good.otf", sessions)
    names = [path.name for path in sessions.iterdir()]
    assert ID in names
    assert not [name for name in names if name.startswith(files.PREFIX)]
    note("F2", import_kills=KILLS, import_unreadable=0)


def test_the_order_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are flushed before they get their name, and the name after that."""
    done: list[str] = []
    fsync, replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(_what(number)), fsync(number))[1])
    monkeypatch.setattr(type(tmp_path), "replace", lambda self, to: (done.append("rename"), replace(self, to))[1])
    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / "session.json").write_bytes(b"{}")
    gather.pack(tmp_path / "a.otf", stage, tmp_path, checkpoints=["none"])
    assert done == ["file", "rename", "folder"]


def _what(number: int) -> str:
    return "folder" if os.path.isdir(f"/proc/self/fd/{number}") else "file"
