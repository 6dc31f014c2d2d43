"""A bundle is one exact file: what was written is read, any zip program opens it, and one bit more or less is none."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.bundle import archive, discretion, files, folder, names, source, zips
from onthefly.bundle.archive import Bundle, Member
from onthefly.bundle.refusals import BundleError, Damaged, NoSuchBundle, NotWritten

if TYPE_CHECKING:
    from pathlib import Path

FULL = bool(os.environ.get("ONTHEFLY_FULL"))
FLIPS, CUTS = (1000, 200) if FULL else (100, 40)
SEED = 13


def make(path: Path) -> Path:
    """A bundle with documents, a table and a checkpoint."""
    checkpoint(path.parent / "checkpoints", "baseline-1")
    members = [Member("session.json", b"{}"), Member("tables/samples.parquet", os.urandom(3000))]
    archive.write(path, [*members, *of_checkpoint(path.parent / "checkpoints" / "baseline-1")], {"kind": "session"})
    return path


def checkpoint(parent: Path, name: str, **about: Any) -> Path:
    """The folder of a checkpoint, with a tensor of two numbers."""
    header = b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  '
    data = len(header).to_bytes(8, "little") + header + bytes(8)
    content = {"tensors.safetensors": [data], "state.json": [b'{"a":[1]}'], "notes.txt": [b"x"]}
    return folder.write(parent, name, content, {"run": "baseline", "step": 1, "time": 1.0, **about}).path


def of_checkpoint(path: Path) -> list[Member]:
    """Its files as members."""
    return [Member(f"checkpoints/{path.name}/{file.name}", file.read_bytes()) for file in sorted(path.iterdir())]


def whole(path: Path) -> None:
    """Read all of a bundle."""
    with Bundle(path) as bundle:
        for name in bundle.members:
            bundle.read(name)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(random.Random(SEED).randbytes(3 * zips.BLOCK + 5))
    target = tmp_path / "a.otf"
    written = archive.write(target, [Member("session.json", b"{}"), Member("script/a.py", files.open_file(big))], {})
    assert (written.bytes, written.members) == (target.stat().st_size, 2)
    assert target.stat().st_mode & 0o777 == 0o600
    with Bundle(target) as bundle:
        assert list(bundle.members) == ["session.json", "script/a.py"]
        bundle.extract("script/a.py", tmp_path / "out")
        assert bundle.members["script/a.py"].sha256 == hashlib.sha256(big.read_bytes()).hexdigest()
    assert (tmp_path / "out").read_bytes() == big.read_bytes()
    with zipfile.ZipFile(target) as other:
        assert other.testzip() is None
        assert other.namelist() == ["session.json", "script/a.py", "manifest.json"]
        assert other.read("script/a.py") == big.read_bytes()
        assert json.loads(other.read("manifest.json"))["format"] == 1


def test_a_member_that_is_not_what_it_must_be_leaves_the_old_bundle(tmp_path: Path) -> None:
    target = make(tmp_path / "a.otf")
    before = target.read_bytes()
    with pytest.raises(Damaged, match="its hash differs"):
        archive.write(target, [Member("session.json", b"{}", "0" * 64)], {})
    with pytest.raises(NotWritten):
        archive.write(tmp_path / "no" / "a.otf", [], {})
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.otf", "checkpoints"]


@pytest.mark.parametrize("protected", [True, False])
def test_a_flipped_bit_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protected: bool) -> None:
    """Without the hashes some are not."""
    target, chance = make(tmp_path / "a.otf"), random.Random(SEED)
    if not protected:
        monkeypatch.setattr(Bundle, "read", unchecked)
    data = target.read_bytes()
    accepted = 0
    for _ in range(FLIPS):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        target.write_bytes(changed)
        try:
            whole(target)
            accepted += 1
        except BundleError:
            continue
    assert (accepted == 0) == protected


def unchecked(self: Bundle, name: str) -> bytes:
    """What the product does not do: take the bytes as they are."""
    entry = {entry.name: entry for entry in self._entries()}[name]  # pyright: ignore[reportPrivateUsage]
    return self.path.read_bytes()[entry.start : entry.start + entry.size]


def test_a_cut_is_seen(tmp_path: Path) -> None:
    target, chance = make(tmp_path / "a.otf"), random.Random(SEED)
    data = target.read_bytes()
    for length in [0, 1, len(data) - 1, *(chance.randrange(len(data)) for _ in range(CUTS))]:
        target.write_bytes(data[:length])
        with pytest.raises(BundleError):
            whole(target)
    for more in (b"\0", data, b"PK"):
        target.write_bytes(data + more)
        with pytest.raises(BundleError):
            whole(target)
        target.write_bytes(more + data)
        with pytest.raises(BundleError):
            whole(target)


@pytest.mark.parametrize(
    "name",
    ["session.json", "tables/samples.parquet", "script/a/b.py", "script/.gitignore", "checkpoints/a-1/state.json",
     "rank3/checkpoints/a/x", "process12/checkpoints/a/x"],
)  # fmt: skip
def test_names_that_a_bundle_may_hold(name: str) -> None:
    assert names.fits(name) == ("/." not in name)


def test_the_newest_checkpoint_of_anything(tmp_path: Path) -> None:
    session = tmp_path / "session"
    checkpoint(session / "checkpoints", "baseline-2", time=2.0)
    checkpoint(session / "checkpoints", "baseline-1", time=1.0)
    checkpoint(session / "rank1" / "checkpoints", "baseline-9", time=1.0)
    assert source.checkpoint_folder(session).name == "baseline-2"
    assert source.checkpoint_folder(session, "baseline-1").name == "baseline-1"
    assert source.checkpoint_folder(session, owner="rank1").name == "baseline-9"
    own = session / "checkpoints" / "baseline-1"
    assert source.checkpoint_folder(own) == own
    with pytest.raises(NoSuchBundle, match="there are: baseline-1, baseline-2"):
        source.checkpoint_folder(session, "nowhere")
    members = [member for name in ("baseline-2", "baseline-1") for member in of_checkpoint(own.parent / name)]
    archive.write(tmp_path / "a.otf", members, {})
    found = source.checkpoint_folder(tmp_path / "a.otf", into=tmp_path / "into")
    assert found == tmp_path / "into" / "baseline-2"
    assert {path.name: path.read_bytes() for path in found.iterdir()} == {
        path.name: path.read_bytes() for path in (own.parent / "baseline-2").iterdir()
    }
    assert source.checkpoint_folder(tmp_path / "a.otf", into=tmp_path / "into") == found
    (found / "state.json").write_bytes(b'{"a":[2]}')
    with pytest.raises(Damaged, match="its hash differs"):
        source.checkpoint_folder(tmp_path / "a.otf", into=tmp_path / "into")


def test_a_checkpoint_of_two_is_none(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path, "a-1"), checkpoint(tmp_path, "a-2", step=2)
    other = Member("checkpoints/a-1/manifest.json", (two / "manifest.json").read_bytes())
    mixed = [other if member.name == other.name else member for member in of_checkpoint(one)]
    mixed = [member._replace(source=b"y") if member.name.endswith("notes.txt") else member for member in mixed]
    archive.write(tmp_path / "a.otf", mixed, {})
    with pytest.raises(Damaged, match="several checkpoints"):
        source.checkpoint_folder(tmp_path / "a.otf", into=tmp_path / "into")
    assert not (tmp_path / "into" / "a-1").exists()


def test_a_pickled_part_is_not_taken(tmp_path: Path) -> None:
    archive.write(tmp_path / "a.otf", [
        *of_checkpoint(checkpoint(tmp_path, "a-1")), Member("checkpoints/a-1/model.pt", b"x")
    ], {})  # fmt: skip
    with pytest.raises(Damaged, match="pickled"):
        source.checkpoint_folder(tmp_path / "a.otf", into=tmp_path / "into")


def test_secrets_stay_at_home() -> None:
    given = ["train.py", "--api-key", "s1", "--lr", "0.1", "--token=s2", "hf_token=s3", "--auth", "--verbose", "s4"]
    assert discretion.arguments(given) == [
        "train.py", "--api-key", "***", "--lr", "0.1", "--token=***", "hf_token=***", "--auth", "--verbose", "s4",
    ]  # fmt: skip


def test_whatever_the_container_holds_the_error_is_ours() -> None:
    """Numbers beyond their fields, for instance, in a file that was cut so that its bytes stand elsewhere."""
    chance, file = random.Random(SEED), io.BytesIO()
    writer = zips.Writer(file)
    for number in range(3):
        writer.add(f"script/{number}", lambda out: zips.written(out, [b"x" * 50]))
    writer.close()
    refused = 0
    for _ in range(20 * FLIPS):
        data = bytearray(file.getvalue())
        for _ in range(chance.choice([1, 2, 8, 40])):
            data[chance.randrange(len(data))] = chance.choice([0, 255, chance.randrange(256)])
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        try:
            zips.entries(io.BytesIO(data))
        except BundleError:
            refused += 1
    assert refused > 10 * FLIPS
