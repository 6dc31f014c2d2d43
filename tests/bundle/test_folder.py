"""A folder is whole or not there, and what is read from it is what was written."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.bundle import files, folder
from onthefly.bundle.refusals import BundleError, Damaged, NewerFormat, NoSuchBundle, NotWritten, TooLarge
from onthefly.errors import UsageError
from tests.conftest import wait_for

if TYPE_CHECKING:
    from pathlib import Path

MUTATIONS = 200 if os.environ.get("ONTHEFLY_FULL") else 20
MEMBERS = {"a.bin": [b"first", bytes(1000)], "b.json": [b"{}"]}


def make(parent: Path, name: str = "baseline-1", **about: Any) -> Path:
    """A folder with two members."""
    return folder.write(parent, name, MEMBERS, {"step": 1, **about}).path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = make(tmp_path / "checkpoints", why="é")
    listed, members = folder.read(path)
    assert (listed["step"], listed["why"], listed["format"]) == (1, "é", 1)
    assert {name: bytes(data) for name, data in members.items()} == {"a.bin": b"first" + bytes(1000), "b.json": b"{}"}
    assert folder.names(tmp_path / "checkpoints") == ["baseline-1"]
    assert (path.stat().st_mode & 0o777, (path / "a.bin").stat().st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x", "a b", "x" * 65, ".tmp-x", "é", "a\0", "a\n"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no name of a checkpoint"):
        make(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_given_once(tmp_path: Path) -> None:
    path = make(tmp_path)
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(NotWritten, match="there already"):
        make(tmp_path)
    (tmp_path / "baseline-2").mkdir()
    with pytest.raises(NotWritten, match="there already"):
        make(tmp_path, "baseline-2")
    assert (path / "manifest.json").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["baseline-1", "baseline-2"]


def mutate(path: Path, chance: random.Random) -> str:
    """Damage one file of a folder."""
    victim = chance.choice(sorted(path.iterdir()))
    data = bytearray(victim.read_bytes())
    how = chance.choice(["flip", "flip", "cut", "longer", "gone", "extra", "swap"])
    if how == "flip":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        victim.write_bytes(data)
    elif how == "cut":
        victim.write_bytes(data[: chance.randrange(len(data))])
    elif how == "longer":
        victim.write_bytes(data + bytes(chance.randrange(1, 9)))
    elif how == "gone":
        victim.unlink()
    elif how == "extra":
        (path / "c.bin").write_bytes(b"")
    else:
        (path / "a.bin").write_bytes((path / "b.json").read_bytes())
    return f"{how} {victim.name}"


@pytest.mark.parametrize("protected", [True, False])
def test_no_mutation_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protected: bool) -> None:
    """Without the comparison of hashes some are: the test sees it."""
    chance, accepted = random.Random(13), list[str]()
    if not protected:
        monkeypatch.setattr(folder.hashlib, "sha256", lambda data=b"": Unhashed())
    for number in range(MUTATIONS):
        path = make(tmp_path, f"run-{number}")
        done = mutate(path, chance)
        try:
            folder.read(path)
            accepted.append(done)
        except BundleError as error:
            assert str(path) in error.message  # noqa: PT017
            assert error.remedy or "allowed" in error.message  # noqa: PT017
    assert bool(accepted) is not protected, accepted


class Unhashed:
    """A hash that is always the same."""

    def update(self, data: Any) -> None: ...

    def hexdigest(self) -> str:
        return "0" * 64


def test_newer_missing_large_and_linked(tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(TooLarge, match="where 100 are allowed"):
        folder.read(path, limit=100)
    with pytest.raises(NoSuchBundle):
        folder.read(tmp_path / "baseline-9")
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(Damaged, match="is a link"):
        folder.read(tmp_path / "link")
    manifest = path / "manifest.json"
    good = manifest.read_bytes()
    manifest.write_text(json.dumps({"format": 2, "of": "another time"}))
    with pytest.raises(NewerFormat, match="update onthefly"):
        folder.read(path)
    manifest.write_bytes(good)
    (path / "a.bin").rename(tmp_path / "elsewhere")
    (path / "a.bin").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Damaged):
        folder.read(path)
    (path / "a.bin").unlink()
    os.mkfifo(path / "a.bin")
    with pytest.raises(Damaged):
        folder.read(path)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Any:
        yield b"x" * 100
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NotWritten, match="the disk is full") as caught:
        folder.write(tmp_path, "baseline-1", {"a.bin": pieces()}, {})
    assert "free some space" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom onthefly.bundle import folder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: folder.write(Path(sys.argv[1]), 'a', {'x': [bytes(5000)]}, {})\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    assert resource.RLIMIT_FSIZE
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("NotWritten")
    assert "limit on file sizes" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_the_dead_are_swept_and_of_the_living_kept(tmp_path: Path) -> None:
    make(tmp_path)
    with subprocess.Popen([sys.executable, "-c", LEAVES, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"left\n"
        assert files.sweep(tmp_path) == 0
        process.kill()
    wait_for("the end", lambda: process.poll() is not None)
    foreign = tmp_path / ".tmp-00000000-1-abcd"
    foreign.mkdir()
    (tmp_path / ".tmp-link").symlink_to(tmp_path / "baseline-1")
    assert files.sweep(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [foreign.name, ".tmp-link", "baseline-1"]
    for name in (foreign, tmp_path / ".tmp-link"):
        os.utime(name, (time.time() - 90_000, time.time() - 90_000), follow_symlinks=False)
    assert files.sweep(tmp_path) == 2
    folder.read(tmp_path / "baseline-1")
    assert files.sweep(tmp_path / "not there") == 0


LEAVES = """
import sys, time
from pathlib import Path
from onthefly.bundle import folder
def slow():
    yield b"half"
    print("left", flush=True)
    time.sleep(60)
folder.write(Path(sys.argv[1]), "baseline-2", {"a": slow()}, {})
"""


def test_a_removed_folder_loses_its_name_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path)
    monkeypatch.setattr(files.shutil, "rmtree", lambda *given, **more: None)  # killed before anything is deleted
    files.remove_folder(path)
    assert folder.names(tmp_path) == []
    monkeypatch.undo()
    assert files.sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")

    def fails(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with pytest.raises(NotWritten, match="quota"):
        files.replace_file(path, fails)
    assert path.read_bytes() == b"old"
    assert files.replace_file(path, lambda temporary: temporary.write_bytes(b"newer")) == 5
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("model.pt", b"newer")]
