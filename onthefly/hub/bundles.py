"""Sessions out of the data folder and into it, for the routes: the work is done in threads, the loop goes on."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from onthefly.bundle import files, gather
from onthefly.bundle.archive import SUFFIX
from onthefly.errors import NoSuchSession, Refused, UsageError
from onthefly.hub import branches, importing, staging
from onthefly.protocol import RUN_PATTERN, SESSION_PATTERN, ExportRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from onthefly.hub.folder import DataFolder
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession, Registry

log = logging.getLogger("onthefly.hub")

STALLED_SECONDS = 30.0
"""How long an upload may bring nothing."""

T = TypeVar("T")


class Bundles:
    """What the routes ``stage``, ``export`` and ``import`` do."""

    def __init__(self, registry: Registry, keeper: Keeper, folder: DataFolder) -> None:
        self._registry = registry
        self._keeper = keeper
        self._folder = folder
        # One after the other: each reads all of a store, and writes as fast as the disk takes it.
        self._thread = ThreadPoolExecutor(1, "onthefly-bundles")

    async def stage(self, live: LiveSession, wanted: ExportRequest, pid: int) -> Path:
        """Write documents and tables into a new folder, which is that process's to remove."""
        for run in wanted.runs:
            if not RUN_PATTERN.fullmatch(run):
                raise UsageError(f"{run[:40]!r} is no name of a run")
        store, info = await self._keeper.store(live), live.info
        parents = branches.parents(info)
        folder = self._folder.of(info.id)
        stage = folder / files.temporary_name(pid)

        def write() -> Path:
            files.sweep(folder, start=False)
            stage.mkdir(mode=0o700)
            try:
                with store.reading() as cursor:
                    staging.write(cursor, stage, folder, info, parents, wanted)
            except BaseException:
                shutil.rmtree(stage, ignore_errors=True)
                raise
            return stage

        return await self._in_thread(write)

    async def export(self, live: LiveSession, wanted: ExportRequest) -> Path:
        """Put the whole bundle together, in a folder of its own; to be removed with that when it was sent."""
        stage = await self.stage(live, wanted, os.getpid())
        whole = self._folder.of(live.info.id) / files.temporary_name()

        def pack() -> Path:
            try:
                whole.mkdir(mode=0o700)
                target = whole / f"{live.info.id}{SUFFIX}"
                gather.pack(target, stage, stage.parent, checkpoints=wanted.checkpoints, runs=wanted.runs)
            except BaseException:
                shutil.rmtree(whole, ignore_errors=True)
                raise
            finally:
                shutil.rmtree(stage, ignore_errors=True)
            return target

        return await self._in_thread(pack)

    async def receive(self, chunks: AsyncIterator[bytes], *, trust: bool) -> LiveSession:
        """Take in a bundle that is sent to us."""
        path = self._folder.sessions / files.temporary_name()
        try:
            room = shutil.disk_usage(self._folder.sessions).free // 2 - importing.SPARE
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                while chunk := await asyncio.wait_for(_next(chunks), STALLED_SECONDS):
                    room -= len(chunk)
                    if room < 0:
                        raise Refused("there is no room for this bundle", "free some space")
                    file.write(chunk)
            sessions = self._folder.sessions
            identifier = await self._in_thread(lambda: importing.in_child(path, sessions, trust=trust))
        finally:
            path.unlink(missing_ok=True)
        return self.adopt(identifier)

    def adopt(self, identifier: str) -> LiveSession:
        """Show a session that stands in the data folder by now."""
        if not SESSION_PATTERN.fullmatch(identifier):
            raise UsageError(f"{identifier[:20]!r} is no session id")
        found = self._registry.adopt(identifier)
        if found is None:
            raise NoSuchSession(f"there is no session {identifier} in the data folder", "onthefly import FILE")
        log.info("session %s was imported", identifier)
        return found

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    """The next one; empty at the end."""
    try:
        return await chunks.__anext__()  # anext() is not in Python 3.9
    except StopAsyncIteration:
        return b""
