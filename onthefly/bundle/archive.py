"""A bundle, ``.otf``: one file with everything of a session, each part named with its bytes and SHA-256.

The manifest is its last member: hashes are taken while the bytes are copied, in one pass. Reading takes nothing before
the container, the manifest and its seal, the names and their number, and the sizes are all verified; and nothing is
returned or written under a final name before its hash is.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Optional, Union

from onthefly.bundle import checks, files, names, sealed, zips
from onthefly.bundle.refusals import Damaged, NoSuchBundle, NotWritten, TooLarge
from onthefly.bundle.zips import BLOCK
from onthefly.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from io import FileIO
    from pathlib import Path

FORMAT = 1
"""Of the manifest and what it names; the container stays, so that a later format can be told from a damaged file."""

SUFFIX = ".otf"
MAX_MANIFEST = 4 << 20
_REMEDY = "get the file again; nothing was taken from it"


class Member(NamedTuple):
    """What is put into a bundle."""

    name: str
    source: Union[bytes, FileIO]
    """Its bytes, or a file that is open; it is closed when it was copied."""
    sha256: str = ""
    """What its hash must be; empty: as it comes."""


class Written(NamedTuple):
    """A bundle that is on the disk."""

    path: Path
    bytes: int
    members: int
    seconds: float


class Listed(NamedTuple):
    """A member, as the manifest names it."""

    name: str
    bytes: int
    sha256: str
    kind: str


def write(target: Path, members: Iterable[Member], about: Mapping[str, Any]) -> Written:
    """Write a bundle, whole or not at all; ``about`` goes into its manifest (plain JSON).

    Raises :class:`~onthefly.bundle.refusals.NotWritten`, :class:`~onthefly.bundle.refusals.Damaged` where a member is
    not what it must be; then ``target`` is what it was.
    """
    started, count = time.monotonic(), 0

    def fill(path: Path) -> None:
        nonlocal count
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            count = _fill(file, members, about)

    if not target.parent.is_dir():
        raise NotWritten(f"{target} is not written: there is no folder {target.parent}", "make it first")
    files.sweep(target.parent, start=False)
    return Written(target, files.replace_file(target, fill), count, time.monotonic() - started)


def _fill(file: BinaryIO, members: Iterable[Member], about: Mapping[str, Any]) -> int:
    writer = zips.Writer(file)
    listed: list[dict[str, Any]] = []
    with ThreadPoolExecutor(1, "onthefly-hash") as hashing:
        for member in members:
            digest = hashlib.sha256()

            def copy(out: BinaryIO, source: Any = member.source, digest: Any = digest) -> tuple[int, int]:
                return _copied(source, out, digest, hashing)

            size = writer.add(member.name, copy).size
            if digest.hexdigest() != (member.sha256 or digest.hexdigest()):
                raise Damaged(f"{member.name} is not what was written: its hash differs",
                              "this checkpoint cannot be trusted: choose others with --checkpoints")  # fmt: skip
            listed.append({"name": member.name, "bytes": size, "sha256": digest.hexdigest(),
                           "kind": names.kind_of(member.name)})  # fmt: skip
    names.check_together(one["name"] for one in listed)
    head = {"format": FORMAT, **about, "made": time.time(), "onthefly": __version__}
    text = sealed.text({**head, "members": listed})
    if len(text) > MAX_MANIFEST:
        raise TooLarge(f"a manifest of {len(text)} bytes", "choose fewer checkpoints")
    writer.add(names.MANIFEST, lambda out: zips.written(out, [text]))
    writer.close()
    return len(listed)


def _copied(source: Any, out: BinaryIO, digest: Any, hashing: ThreadPoolExecutor) -> tuple[int, int]:
    """Copy a member; its bytes and CRC-32. A thread hashes one block while the next is read and the last is written."""
    if isinstance(source, bytes):
        digest.update(source)
        return zips.written(out, [source])
    size = crc = turn = 0
    buffers = [bytearray(BLOCK), bytearray(BLOCK)]
    waiting: list[Optional[Future[Any]]] = [None, None]
    with source:
        while True:
            under_way = waiting[turn]
            if under_way is not None:
                under_way.result()
            count = source.readinto(buffers[turn])
            if not count:
                break
            block = memoryview(buffers[turn])[:count]
            waiting[turn] = hashing.submit(digest.update, block)
            crc = zlib.crc32(block, crc)
            out.write(block)
            size, turn = size + count, 1 - turn
    for under_way in waiting:
        if under_way is not None:
            under_way.result()
    return size, crc


class Bundle:
    """An ``.otf`` that is open; use as a context. Its manifest is verified, its members when they are taken."""

    def __init__(self, path: Path, limit: int = 1 << 40) -> None:
        """``limit`` bounds all members together, in bytes.

        Raises :class:`~onthefly.bundle.refusals.NoSuchBundle`, :class:`~onthefly.bundle.refusals.NewerFormat`,
        :class:`~onthefly.bundle.refusals.Damaged`, :class:`~onthefly.bundle.refusals.TooLarge`.
        """
        self.path = path
        if not path.exists():
            raise NoSuchBundle(f"{path} is not there", "")
        self._file = files.open_file(path.resolve())
        try:
            found = {entry.name: entry for entry in self._entries()}
            self._found = found
            text = self._take(found.pop(names.MANIFEST, None), names.MANIFEST, MAX_MANIFEST)
            checks.scan(text, names.MANIFEST, MAX_MANIFEST)
            self.manifest = sealed.read(text, str(path), FORMAT)
            self.members = _listed(self.manifest)
            self._check(found, limit)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *reason: object) -> None:
        self._file.close()

    @property
    def pickled(self) -> list[str]:
        """Members that hold pickled objects: to load one is to run what its maker put there."""
        return [member.name for member in self.members.values() if member.kind == "pickle"]

    def read(self, name: str, limit: int = checks.MAX_BYTES) -> bytes:
        """A member, whole and verified."""
        member = self.members.get(name)
        if member is None:
            raise NoSuchBundle(f"there is no {name} in {self.path}", "")
        data = self._take(self._found[name], name, limit)
        if hashlib.sha256(data).hexdigest() != member.sha256:
            raise Damaged(f"{name} in {self.path} is not what was written: its hash differs", _REMEDY)
        return data

    def extract(self, name: str, path: Path) -> None:
        """Write a member into a new file, verified and flushed; where its hash differs, the file is taken away."""
        digest, member = hashlib.sha256(), self.members[name]
        try:
            files.write_file(path, zips.pieces(self._file, self._found[name]), seen=digest.update)
            if digest.hexdigest() != member.sha256:
                raise Damaged(f"{name} in {self.path} is not what was written: its hash differs", _REMEDY)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _entries(self) -> list[zips.Entry]:
        found = zips.entries(self._file)
        if not found or found[-1].name != names.MANIFEST or len({entry.name for entry in found}) != len(found):
            raise Damaged(f"{self.path} has no manifest at its end, or a name twice: it is no bundle", _REMEDY)
        return found

    def _take(self, entry: Optional[zips.Entry], name: str, limit: int) -> bytes:
        if entry is None or entry.size > limit:
            raise TooLarge(f"{name} has {entry.size if entry else 0} bytes, where {limit} are allowed", "")
        return b"".join(zips.pieces(self._file, entry))

    def _check(self, found: Mapping[str, zips.Entry], limit: int) -> None:
        """Names, kinds and sizes are those of the manifest: no member more, none less."""
        if set(found) != set(self.members):
            odd = ", ".join(sorted(set(found).symmetric_difference(self.members))[:5])
            raise Damaged(f"{self.path} does not hold exactly what its manifest names: {odd}", _REMEDY)
        names.check_together(self.members)
        for member in self.members.values():
            if names.kind_of(member.name) != member.kind:
                raise Damaged(f"{member.name} is called a {member.kind!r}, which it is not", _REMEDY)
            if found[member.name].size != member.bytes:
                raise Damaged(f"{member.name} has other bytes than the manifest says", _REMEDY)
        total = sum(member.bytes for member in self.members.values())
        if total > limit:
            raise TooLarge(f"{self.path} holds {total} bytes, where there is room for {limit}", "free some space")


def _listed(manifest: dict[str, Any]) -> dict[str, Listed]:
    """The members that a manifest names, by name."""
    given = manifest.get("members")
    if type(given) is not list or len(given) > zips.MAX_MEMBERS - 1:
        raise Damaged("the manifest lists no members, or too many", _REMEDY)
    found: dict[str, Listed] = {}
    for one in given:
        if type(one) is not dict or set(one) != set(Listed._fields):
            raise Damaged("the manifest lists something that is no member", _REMEDY)
        member = Listed(**one)
        texts = (member.name, member.sha256, member.kind)
        if not all(type(text) is str for text in texts) or type(member.bytes) is not int or member.name in found:
            raise Damaged("the manifest lists something that is no member", _REMEDY)
        found[member.name] = member
    return found
