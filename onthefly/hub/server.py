"""The hub's life: one per user and machine, on its ports, found by its file, gone when nobody needs it."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import logging
import os
import platform
import secrets
import shutil
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Optional

import duckdb
from aiohttp import web

from onthefly.errors import ExitCode
from onthefly.hub.agents import AgentServer
from onthefly.hub.api import Api
from onthefly.hub.auth import Guardian, add_headers, middleware
from onthefly.hub.bundles import Bundles
from onthefly.hub.connections import BACKLOG, LOOPBACK, Connections, OneLine, listen, names, reached_at
from onthefly.hub.explore import Explorer
from onthefly.hub.folder import DataFolder
from onthefly.hub.forks import Forks
from onthefly.hub.keeper import Keeper
from onthefly.hub.maps import Maps
from onthefly.hub.presentations import Followers
from onthefly.hub.registry import Registry
from onthefly.hub.spool import SpoolReader
from onthefly.hub.storekeeping import Storekeeper
from onthefly.hub.telemetry import MEGABYTE, Telemetry
from onthefly.hub.websocket import Clients
from onthefly.link.discovery import hub_file_name, living_hub, publish, read_hub, runtime_folder
from onthefly.protocol import PROTOCOL, HubFile, HubStatus
from onthefly.version import __version__

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from onthefly.settings import Settings

log = logging.getLogger("onthefly.hub")

HOUSEKEEPING_SECONDS = 2.0
LEAVING_SECONDS = 8.0
HUNG_SECONDS = 10.0
MAX_BODY = 1024 * 1024
MAX_LINE = 16 * 1024
"""Of a request's first line: a selection of a thousand signs that are each twelve bytes there."""


class Watchdog:
    """Ends a hub whose event loop hangs: agents and pages find a fresh one, and what was not committed is sent again.

    A thread, since a loop that hangs cannot look after itself. Two looks without a beat between them: a machine that
    slept, or a process that was stopped, wakes up with one.
    """

    def __init__(self, seconds: float = HUNG_SECONDS) -> None:
        self._seconds = seconds
        self._beats = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="onthefly-watchdog", daemon=True)

    async def beat(self) -> None:
        """Show for ever that the loop runs."""
        self._thread.start()
        try:
            while True:
                self._beats += 1
                await asyncio.sleep(self._seconds / 10)
        finally:
            self._over.set()

    def _watch(self) -> None:
        seen, missed = self._beats, 0
        while missed < 2:
            if self._over.wait(self._seconds / 2):
                return
            missed = missed + 1 if self._beats == seen else 0
            seen = self._beats
        log.critical("the hub's event loop hangs: it ends, and another takes over")
        faulthandler.dump_traceback(sys.stderr)
        os._exit(ExitCode.FAILED)


class Hub:
    """All parts of a hub, put together."""

    def __init__(self, settings: Settings, host: str = LOOPBACK) -> None:
        self._settings = settings
        self._host = host
        self._token = secrets.token_urlsafe(32)
        self._guardian = Guardian(self._token)
        folder = DataFolder(settings.data_dir)
        self.registry = Registry(folder)
        self._keeper = Keeper(self.registry, folder)
        explorer = Explorer(self._keeper, Followers(self._keeper), Maps(self._keeper))
        self._clients = Clients(self.registry, self._keeper, Forks(explorer))
        self._telemetry = Telemetry(self.registry, self._keeper)
        self._agents = AgentServer(self._token, lambda: self.url, self.registry, self._keeper)
        self._spools = SpoolReader(self.registry, self._keeper, folder)
        self.port = 0
        self._started = time.time()
        self._used = time.monotonic()
        self._connections = Connections()
        guard = middleware(self._guardian, self._connections)
        self.app = web.Application(middlewares=[guard], client_max_size=MAX_BODY)
        self.app.on_response_prepare.append(add_headers)
        self.app.on_response_prepare.append(self._note_use)
        bundles = Bundles(self.registry, self._keeper, folder)
        self._storage = Storekeeper(self.registry, folder, settings.data_budget)
        api = Api(self._token, self.registry, self._keeper, self._status, self._guardian.admit, bundles, self._storage,
                  explorer)  # fmt: skip
        api.add_to(self.app, self._clients.serve)

    @property
    def url(self) -> str:
        """Where this machine finds the dashboard."""
        host = reached_at(self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def serve(self, folder: Path, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set or nobody has needed it for its idle time."""
        self._keeper.start()
        helpers = [asyncio.ensure_future(work) for work in (
            self._telemetry.run(), self._connections.sweep_forever(), Watchdog().beat(), self._storage.run(),
        )]  # fmt: skip
        http = logging.getLogger("onthefly.http")
        http.addFilter(OneLine())
        # No inflating of request bodies: a kilobyte would become a megabyte.
        runner = web.AppRunner(
            self.app, access_log=None, handle_signals=False, auto_decompress=False, logger=http, max_line_size=MAX_LINE
        )
        await runner.setup()
        assert runner.server is not None
        protocol = functools.partial(self._connections.protocol, runner.server)
        listener = listen(self._host, self._settings.port)
        self.port = listener.getsockname()[1]
        self._guardian.serve_on(self.port, names(self._host))
        server = await asyncio.get_running_loop().create_server(protocol, sock=listener, backlog=BACKLOG)
        file = HubFile(
            pid=os.getpid(), node=platform.node(), host=reached_at(self._host), port=self.port,
            agent_port=await self._agents.start(self._host), token=self._token, version=__version__, protocol=PROTOCOL,
            python=sys.executable, started=self._started,
        )  # fmt: skip
        path = publish(folder, file)
        log.info("hub %s serves on port %d (agents %d)", __version__, self.port, file.agent_port)
        try:
            await self._wait(stop)
        finally:
            _unpublish(path, self._settings)
            server.close()
            for helper in helpers:
                helper.cancel()
            for live in self.registry.sessions.values():
                live.commands.agreement.close()
            await self._agents.close()
            await self._clients.close()
            await runner.cleanup()
            await self._keeper.close()

    async def _wait(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), min(HOUSEKEEPING_SECONDS, self._settings.idle_seconds))
            await self._spools.sweep()
            for live in list(self.registry.sessions.values()):
                live.check_alive()
            if self._agents.connections or self._clients.clients:
                self._used = time.monotonic()
            if time.monotonic() - self._used >= self._settings.idle_seconds:
                log.info("nobody has needed the hub for %.0f s: it ends", self._settings.idle_seconds)
                return

    async def _status(self) -> HubStatus:
        """What ``GET /api/v1/hub`` tells."""
        usage = self._telemetry.hub
        return HubStatus(
            version=__version__, protocol=PROTOCOL, python=platform.python_version(), duckdb=duckdb.__version__,
            pid=os.getpid(), node=platform.node(), port=self.port, started=self._started,
            cpu=usage.get("cpu", 0.0), rss=usage["rss"], clients=len(self._clients.clients),
            agents=len(self._agents.connections), sessions=len(self.registry.sessions),
            data_dir=str(self._settings.data_dir), free=shutil.disk_usage(self._settings.data_dir).free / MEGABYTE,
        )  # fmt: skip

    async def _note_use(self, request: web.Request, response: web.StreamResponse) -> None:
        self._used = time.monotonic()


def run(settings: Settings, host: str = LOOPBACK) -> int:
    """Serve on ``host`` until told to end, or until idle; 0. If a hub runs already, leave at once."""
    os.umask(0o077)  # DuckDB makes its write-ahead log with whatever mask it finds
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    folder = runtime_folder(settings)
    with _only_one(folder, settings) as alone:
        if not alone:
            log.info("a hub runs already")
            return 0
        asyncio.run(_main(settings, folder, host))
    return 0


async def _main(settings: Settings, folder: Path, host: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in ("SIGTERM", "SIGINT"):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the loop by itself
            loop.add_signal_handler(getattr(signal, name), stop.set)
    await Hub(settings, host).serve(folder, stop)


@contextlib.contextmanager
def _only_one(folder: Path, settings: Settings) -> Generator[bool, None, None]:
    """Hold the lock file for as long as this hub lives; False if another one does."""
    descriptor = os.open(folder / "hub.lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        yield _lock_or_leave(descriptor, settings)
    finally:
        os.close(descriptor)


def _lock_or_leave(descriptor: int, settings: Settings) -> bool:
    """Take the lock; wait a little for a hub that is on its way out (it has taken its file away already)."""
    limit = time.monotonic() + LEAVING_SECONDS
    while not _lock(descriptor):
        if living_hub(settings) is not None or time.monotonic() >= limit:
            return False
        time.sleep(0.05)
    return True


def _lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unpublish(path: Path, settings: Settings) -> None:
    """Take ``hub.json`` away if it is still ours."""
    found: Optional[HubFile] = read_hub(settings)
    if found is not None and found.pid == os.getpid() and path.name == hub_file_name():
        path.unlink(missing_ok=True)
