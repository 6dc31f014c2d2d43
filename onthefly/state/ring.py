"""The checkpoints that are kept: in memory, on the disk, or both; bounded, the oldest dropped first.

Memory and disk have a budget each. What was asked to be kept (pinned) and the newest stay, whatever the budget; on the
disk the newest that was acknowledged as durable. A folder is dropped by taking its name away first, so that what is
under a name is whole.
"""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from onthefly.bundle import files, folder
from onthefly.bundle.refusals import BundleError, NoSuchBundle
from onthefly.errors import Refused
from onthefly.state.form import Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onthefly.state.files import Outcome

GIB = 1 << 30


class Snapshot(Protocol):
    """What is kept in memory."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        ...


@dataclasses.dataclass
class Entry:
    """One checkpoint."""

    name: str
    place: Place
    reason: str
    """Why it was made: ``asked``, ``every``, ``pause``, ``signal``, ``trial``, ``run``, ``end``."""
    time: float
    """When, in seconds since 1970."""
    snapshot: Any = None
    """What is in memory; None: nothing."""
    path: Path | None = None
    """Its folder; None: it is not on the disk, or not yet."""
    bytes_disk: int = 0
    durability: str = "accepted"
    """``accepted`` (in memory), ``durable`` (on the disk)."""
    error: str = ""
    """Why it is not on the disk, where it should be."""
    resume: str = "it was made by a version that could not resume"
    """Why no other process can go on from it; empty: one can."""
    pinned: bool = False
    awaited: bool = False
    """It is being written, or waits for that."""

    @property
    def bytes_memory(self) -> int:
        """What it takes in memory."""
        return 0 if self.snapshot is None else self.snapshot.nbytes

    def row(self) -> dict[str, Any]:
        """For a table: plain values."""
        return {
            "name": self.name, **self.place._asdict(), "time": self.time, "reason": self.reason,
            "bytes_memory": self.bytes_memory, "bytes_disk": self.bytes_disk, "durability": self.durability,
            "pinned": self.pinned, "error": self.error,
        }  # fmt: skip


class Ring:
    """The checkpoints of one process, oldest first. Any thread may call it."""

    def __init__(self, parent: Path, *, memory_bytes: int = GIB, disk_bytes: int = 10 * GIB, keep: int = 10) -> None:
        """At most ``keep`` in memory and as many on the disk, within the bytes for each."""
        self.parent = parent
        self._memory_bytes, self._disk_bytes, self._keep = memory_bytes, disk_bytes, keep
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def limit(self, *, memory_bytes: int | None = None, disk_bytes: int | None = None) -> None:
        """Other budgets from now on; None: as it is."""
        self._memory_bytes = self._memory_bytes if memory_bytes is None else memory_bytes
        self._disk_bytes = self._disk_bytes if disk_bytes is None else disk_bytes

    def look(self) -> list[str]:
        """Find again what an earlier process of this session wrote. Returns what is damaged there, with the reason."""
        damaged: list[str] = []
        found: list[Entry] = []
        for name in folder.names(self.parent):
            path = self.parent / name
            try:
                about = folder.manifest(path)
                place = Place(*(about[field] for field in Place._fields))
                size = sum(member["bytes"] for member in about["members"]) + (path / folder.MANIFEST).stat().st_size
                entry = Entry(name, place, str(about.get("reason", "asked")), float(about["time"]), path=path)
                entry.bytes_disk, entry.durability, entry.pinned = size, "durable", about.get("pinned") is True
                entry.resume = str(about.get("resume", entry.resume))
                found.append(entry)
            except BundleError as error:
                damaged.append(error.message)
            except (KeyError, TypeError, ValueError, OSError) as error:
                damaged.append(f"{path} is no checkpoint of a training: {error!r}")
        with self._lock:
            known = list(self._entries.values())
            self._entries = {entry.name: entry for entry in sorted(found, key=lambda entry: entry.time)}
            self._entries.update((entry.name, entry) for entry in known)
        return damaged

    def name_for(self, place: Place) -> str:
        """A name that is free: ``<run>-<step>``, and a number behind it where there is one of that step."""
        base = f"{re.sub('[^A-Za-z0-9_-]', '-', place.run)[:40]}-{place.step}"
        with self._lock:
            number, name = 1, base
            while name in self._entries or os.path.lexists(self.parent / name):
                number += 1
                name = f"{base}-{number}"
            return name

    def add(
        self, name: str, place: Place, reason: str, snapshot: Snapshot | None = None,
        *, awaited: bool = True, pin: bool = False,
    ) -> Entry:  # fmt: skip
        """A checkpoint is made; older ones make room for it in memory. Never waits for the disk.

        ``awaited``: it is being written, and :meth:`wrote` will tell of it.
        """
        entry = Entry(name, place, reason, time.time(), snapshot, pinned=pin, awaited=awaited)
        with self._lock:
            self._entries[name] = entry
            in_memory = [one for one in self._entries.values() if one.snapshot is not None]
            for old in self._surplus(in_memory, self._memory_bytes, lambda one: one.bytes_memory):
                old.snapshot = None
            self._forget()
        return entry

    def wrote(self, outcome: Outcome) -> None:
        """The outcome of writing one, to be given to the writer as its ``done``. Older ones make room on the disk."""
        with self._lock:
            entry = self._entries.get(outcome.name)
            if entry is not None:
                entry.awaited, entry.path, entry.bytes_disk = False, outcome.path, outcome.bytes
                entry.error, entry.durability = outcome.error, outcome.durability or entry.durability
        if entry is None and outcome.path is not None:  # dropped while it was written
            files.remove_folder(outcome.path)
        self._make_room_on_disk()

    def get(self, name: str) -> Entry:
        """The entry of that name; ``last``: the newest. Raises :class:`~onthefly.bundle.refusals.NoSuchBundle`."""
        with self._lock:
            if name == "last" and self._entries:
                return next(reversed(self._entries.values()))
            entry = self._entries.get(name)
        if entry is None:
            known = ", ".join(self._entries) or "none"
            raise NoSuchBundle(f"there is no checkpoint {name!r}", f"there are: {known}")
        return entry

    def newest(self, wanted: Callable[[Entry], bool]) -> Entry | None:
        """The newest that is as wanted, e.g. of a step before some other."""
        with self._lock:
            return next((entry for entry in reversed(self._entries.values()) if wanted(entry)), None)

    def pin(self, name: str, pinned: bool = True) -> None:
        """Keep one whatever the budget, or no longer; a later process of the session does not know of it."""
        self.get(name).pinned = pinned
        self._make_room_on_disk()

    def drop(self, name: str) -> None:
        """Remove one, from memory and disk. Raises :class:`~onthefly.errors.Refused` if the disk does not let it go."""
        entry = self.get(name)
        self._off_disk([entry])
        if entry.path is not None:
            raise Refused(f"{name} stays: {entry.error}", "see who may write in that folder")
        with self._lock:
            self._entries.pop(entry.name, None)
            entry.snapshot = None

    def rows(self) -> list[dict[str, Any]]:
        """A row for each, oldest first."""
        with self._lock:
            return [entry.row() for entry in self._entries.values()]

    def _make_room_on_disk(self) -> None:
        with self._lock:
            durable = [entry for entry in self._entries.values() if entry.path is not None]
            surplus = self._surplus(durable, self._disk_bytes, lambda entry: entry.bytes_disk)
        self._off_disk(surplus)
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        """Those of which nothing is left; the newest stays, to show what became of it."""
        for entry in list(self._entries.values())[:-1]:
            if entry.snapshot is None and entry.path is None and not entry.awaited:
                del self._entries[entry.name]

    @staticmethod
    def _off_disk(entries: list[Entry]) -> None:
        # Not under the lock: removing gigabytes takes a while, and the training thread must not wait for it.
        for entry in entries:
            path = entry.path
            if path is not None:
                try:
                    files.remove_folder(path)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    entry.error = f"it cannot be removed: {error.strerror}"
                    continue
                entry.path, entry.bytes_disk = None, 0

    def _surplus(self, entries: list[Entry], budget: int, size: Callable[[Entry], int]) -> list[Entry]:
        """The oldest that have to go; never the newest, never a pinned one."""
        count, total, go = len(entries), sum(map(size, entries)), list[Entry]()
        for entry in entries[:-1]:
            if (count > self._keep or total > budget) and not entry.pinned:
                go.append(entry)
                count, total = count - 1, total - size(entry)
        return go
