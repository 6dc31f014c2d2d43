"""The container of a bundle: a zip in one exact form, so that every byte of it is one that we know.

Members are stored, one behind the other from the first byte on, with sizes in 64 bits, no time, no attribute, no
comment; then the directory. Any program opens that. What is read has to be that form and nothing else: headers are made
anew from name, size and CRC-32 and compared, so there is no room for links, encryption, a second name, compressed
bombs, overlapping members, or bytes between them. (``zipfile`` reads the whole directory before anything can be
refused, and follows the offsets that it is given.)

https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from onthefly.bundle.refusals import Damaged, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from onthefly.bundle.tensors import Buffer

MAX_MEMBERS = 4097
"""4,096 and the manifest."""
MAX_NAME = 512
BLOCK = 4 << 20
_REMEDY = "get the file again; was it packed anew by another program?"

_LOCAL = struct.Struct("<IHHHHHIIIHHHHQQ")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHIIHHQQQ")
_CENTRAL_FIXED, _CENTRAL_EXTRA = 46, 28
_END64 = struct.Struct("<IQHHIIQQQQ")
_LOCATOR = struct.Struct("<IIQI")
_END = struct.Struct("<IHHHHIIH")
_TAIL = _END64.size + _LOCATOR.size + _END.size
_VERSION, _UNIX, _MAX32, _JANUARY_1980 = 45, 3 << 8, 0xFFFFFFFF, 0x21
_MODE = 0o100600 << 16


class Entry(NamedTuple):
    """A member."""

    name: str
    size: int
    crc: int
    offset: int
    """Of its header."""

    @property
    def start(self) -> int:
        """Of its bytes."""
        return self.offset + _LOCAL.size + len(self.name)


def _local(entry: Entry) -> bytes:
    # The extra field (tag 1, 16 bytes) stands behind the name.
    head = _LOCAL.pack(0x04034B50, _VERSION, 0, 0, 0, _JANUARY_1980, entry.crc, _MAX32, _MAX32, len(entry.name), 20,
                       1, 16, entry.size, entry.size)  # fmt: skip
    return head[:30] + entry.name.encode("ascii") + head[30:]


def _central(entry: Entry) -> bytes:
    head = _CENTRAL.pack(0x02014B50, _UNIX | _VERSION, _VERSION, 0, 0, 0, _JANUARY_1980, entry.crc, _MAX32, _MAX32,
                         len(entry.name), _CENTRAL_EXTRA, 0, 0, 0, _MODE, _MAX32, 1, 24, entry.size, entry.size,
                         entry.offset)  # fmt: skip
    return head[:_CENTRAL_FIXED] + entry.name.encode("ascii") + head[_CENTRAL_FIXED:]


def _tail(count: int, size: int, offset: int) -> bytes:
    return (
        _END64.pack(0x06064B50, _END64.size - 12, _UNIX | _VERSION, _VERSION, 0, 0, count, count, size, offset)
        + _LOCATOR.pack(0x07064B50, 0, offset + size, 1)
        + _END.pack(0x06054B50, 0, 0, count, count, _MAX32, _MAX32, 0)
    )


class Writer:
    """Writes members into a new file, one after the other."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._entries: list[Entry] = []
        self._end = 0

    def add(self, name: str, write: Callable[[BinaryIO], tuple[int, int]]) -> Entry:
        """A member; ``write(file)`` writes its bytes there, and returns how many they are and their CRC-32."""
        if len(self._entries) == MAX_MEMBERS:
            raise TooLarge(f"more than {MAX_MEMBERS - 1} files", "choose fewer checkpoints")
        blank = Entry(name, 0, 0, self._end)
        self._file.write(_local(blank))
        size, crc = write(self._file)
        entry = blank._replace(size=size, crc=crc)
        self._file.seek(entry.offset)
        self._file.write(_local(entry))
        self._end = entry.start + size
        self._file.seek(self._end)
        self._entries.append(entry)
        return entry

    def close(self) -> None:
        """Write the directory behind the members."""
        directory = b"".join(map(_central, self._entries))
        self._file.write(directory + _tail(len(self._entries), len(directory), self._end))


def entries(file: BinaryIO) -> list[Entry]:
    """The members of such a file, all headers verified; their bytes are not looked at.

    Raises :class:`~onthefly.bundle.refusals.Damaged`, :class:`~onthefly.bundle.refusals.TooLarge` before more than a
    few hundred bytes are read.
    """
    length = file.seek(0, 2)
    if length < _TAIL:
        raise Damaged("too short for a bundle", _REMEDY)
    tail = _read(file, length - _TAIL, _TAIL)
    count, size, offset = _END64.unpack_from(tail)[7:]
    if tail[:4] == _tail(0, 0, 0)[:4] and count > MAX_MEMBERS:
        raise TooLarge(f"{count} members, where {MAX_MEMBERS - 1} are allowed", "")
    # In this order: numbers that are none of ours do not fit the fields that they would be compared in.
    if count > MAX_MEMBERS or offset + size + _TAIL != length or tail != _tail(count, size, offset):
        raise Damaged("the file does not end as a bundle does: it is cut, or no bundle", _REMEDY)
    if size > count * (_CENTRAL.size + MAX_NAME):
        raise Damaged("the directory is longer than its members make it", _REMEDY)
    directory = _read(file, offset, size)
    found: list[Entry] = []
    at = reached = 0
    for _ in range(count):
        entry, at = _entry(directory, at)
        if entry.offset != reached or _read(file, reached, entry.start - reached) != _local(entry):
            raise Damaged(f"the header of {entry.name!r} is not the one that was written", _REMEDY)
        reached = entry.start + entry.size
        if reached > offset:
            raise Damaged(f"{entry.name!r} is longer than the file", _REMEDY)
        found.append(entry)
    if at != len(directory) or reached != offset:
        raise Damaged("there are bytes that belong to no member", _REMEDY)
    return found


def _entry(directory: bytes, at: int) -> tuple[Entry, int]:
    """The entry of the directory that begins there, and where the next one does."""
    try:
        length = struct.unpack_from("<H", directory, at + 28)[0]
        if length > MAX_NAME:
            raise Damaged(f"a name of {length} letters", _REMEDY)
        name = directory[at + _CENTRAL_FIXED : at + _CENTRAL_FIXED + length].decode("ascii")
        crc = struct.unpack_from("<I", directory, at + 16)[0]
        size, _, offset = struct.unpack_from("<QQQ", directory, at + _CENTRAL_FIXED + length + 4)
    except (struct.error, UnicodeDecodeError) as error:
        raise Damaged(f"the directory is not what was written: {error}", _REMEDY) from error
    entry, end = Entry(name, size, crc, offset), at + _CENTRAL.size + length
    if _central(entry) != directory[at:end]:
        raise Damaged(f"the entry of {name[:100]!r} is none that we write: a link, compressed, encrypted?", _REMEDY)
    return entry, end


def pieces(file: BinaryIO, entry: Entry) -> Iterator[Buffer]:
    """The bytes of a member, in blocks; :class:`~onthefly.bundle.refusals.Damaged` at their end if the CRC differs."""
    at, end, crc = entry.start, entry.start + entry.size, 0
    while at < end:
        block = _read(file, at, min(BLOCK, end - at))
        crc = zlib.crc32(block, crc)
        at += len(block)
        yield block
    if crc != entry.crc:
        raise Damaged(f"{entry.name!r} is not what was written: its checksum differs", _REMEDY)


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    data = file.read(count)
    if len(data) != count:
        raise Damaged(f"the file ended after {at + len(data)} bytes", _REMEDY)
    return data


def written(file: BinaryIO, data: Iterable[Buffer]) -> tuple[int, int]:
    """Write these buffers; how many bytes they are, and their CRC-32."""
    size = crc = 0
    for piece in data:
        file.write(piece)
        size, crc = size + memoryview(piece).nbytes, zlib.crc32(piece, crc)
    return size, crc
