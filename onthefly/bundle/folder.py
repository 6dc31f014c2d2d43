"""A checkpoint is a folder: its members, and ``manifest.json``, which names each with its size and SHA-256.

The manifest is sealed with a hash of itself, and is the last file written into a folder that gets its name when all of
it is on the disk. Reading starts from the manifest, takes exactly the members that it names, and returns nothing before
all of them are verified.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.bundle import files, sealed
from onthefly.bundle.refusals import Damaged, NoSuchBundle, TooLarge
from onthefly.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from onthefly.bundle.tensors import Buffer

FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MANIFEST = "manifest.json"
MAX_MANIFEST = 1 << 20
MAX_MEMBERS = 4096
_BLOCK = 4 << 20
_MEMBER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


class Written(NamedTuple):
    """A folder that is on the disk."""

    path: Path
    bytes: int
    """All its files together."""
    seconds: float


def path_in(parent: Path, name: str) -> Path:
    """Where the folder ``name`` is; names are checked here, so that no path comes from outside (``UsageError``)."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a checkpoint", "names are 1 to 64 letters, digits, - and _")
    return parent / name


def write(parent: Path, name: str, members: Mapping[str, Iterable[Buffer]], about: Mapping[str, Any]) -> Written:
    """Write a folder; each member is given as its pieces. ``about`` goes into the manifest as it is (plain JSON).

    Raises :class:`~onthefly.bundle.refusals.NotWritten`; then nothing stands under that name, and no piece of it
    elsewhere.
    """
    path, started, total = path_in(parent, name), time.monotonic(), 0

    def fill(folder: Path) -> None:
        nonlocal total
        listed: list[dict[str, Any]] = []
        for member, pieces in members.items():
            digest = hashlib.sha256()
            size = files.write_file(folder / member, pieces, seen=digest.update)
            listed.append({"name": member, "bytes": size, "sha256": digest.hexdigest()})
            total += size
        total += files.write_file(folder / MANIFEST, [sealed.text({"format": FORMAT, **about, "members": listed})])

    files.make_folder(path, fill)
    return Written(path, total, time.monotonic() - started)


def manifest(path: Path) -> dict[str, Any]:
    """The manifest of a folder, itself verified; its members are not looked at.

    Raises :class:`~onthefly.bundle.refusals.NoSuchBundle`, :class:`~onthefly.bundle.refusals.NewerFormat`,
    :class:`~onthefly.bundle.refusals.Damaged`.
    """
    if path.is_symlink():
        raise Damaged(f"{path} is a link", "give the folder itself")
    if not path.is_dir():
        raise NoSuchBundle(f"{path} is not there", "")
    try:
        data = bytes(files.read_file(path / MANIFEST, MAX_MANIFEST))
    except NoSuchBundle as error:
        raise Damaged(f"{path} has no {MANIFEST}: it is no checkpoint, or not a whole one") from error
    found = sealed.read(data, str(path), FORMAT)
    if not _lists_members(found):
        raise Damaged(f"the manifest of {path} is not what was written")
    return found


def read(path: Path, limit: int = 1 << 40) -> tuple[dict[str, Any], dict[str, bytearray]]:
    """Manifest and members of a folder, every byte verified. ``limit`` bounds what is read, in bytes.

    Raises what :func:`manifest` raises, and :class:`~onthefly.bundle.refusals.TooLarge` before anything is read.
    """
    listed = manifest(path)
    total = sum(member["bytes"] for member in listed["members"])
    if total > limit:
        raise TooLarge(f"{path} holds {total} bytes, where {limit} are allowed", "")
    _check_set(path, listed)
    members: dict[str, bytearray] = {}
    for member in listed["members"]:
        place = path / member["name"]
        size = _size(place)
        if size != member["bytes"]:
            raise Damaged(f"{place} has {size} bytes, and the manifest says {member['bytes']}")
        data = files.read_file(place, size)
        if hashlib.sha256(data).hexdigest() != member["sha256"]:
            raise Damaged(f"{place} is not what was written: its hash differs")
        members[member["name"]] = data
    return listed, members


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a folder after every byte of it was verified, block by block: it may be larger than memory.

    Raises as :func:`read`.
    """
    listed = manifest(path)
    _check_set(path, listed)
    for member in listed["members"]:
        place, digest, size = path / member["name"], hashlib.sha256(), 0
        with files.open_file(place) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
        if size != member["bytes"] or digest.hexdigest() != member["sha256"]:
            raise Damaged(f"{place} is not what was written: its hash differs")
    return listed


def _check_set(path: Path, listed: dict[str, Any]) -> None:
    names = [member["name"] for member in listed["members"]]
    there = set(os.listdir(path)) - {MANIFEST}
    if len(set(names)) != len(names) or there != set(names):
        odd = sorted(there.symmetric_difference(names))
        raise Damaged(f"{path} does not hold exactly what its manifest names: {', '.join(odd) or 'a name twice'}")


def names(parent: Path) -> list[str]:
    """The folders under a final name, whatever is in them."""
    try:
        return sorted(e.name for e in os.scandir(parent) if NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}") from error


def _lists_members(found: dict[str, Any]) -> bool:
    members = found.get("members")
    return (
        type(members) is list
        and len(members) <= MAX_MEMBERS
        and all(
            type(member) is dict
            and set(member) == {"name", "bytes", "sha256"}
            and type(member["name"]) is str
            and _MEMBER.fullmatch(member["name"]) is not None
            and type(member["bytes"]) is int
            and member["bytes"] >= 0
            for member in members
        )
    )
