"""Where the hub is: the runtime folder, ``hub.json``, and starting a hub when there is none.

Used by agents, by the launcher and by the CLI; the hub writes the file with :func:`publish`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from onthefly.errors import HubUnavailable, UnsafeFolder
from onthefly.protocol import PROTOCOL, HubFile

if TYPE_CHECKING:
    from pathlib import Path

    from onthefly.settings import Settings

POLL_SECONDS = 0.02

MAX_LOG = 8 * 1024 * 1024
"""Bytes of the hub's log, after which a hub that starts begins another one and keeps this one beside it."""


def hub_file_name() -> str:
    """``hub.json``; a later protocol would say ``hub-<n>.json``, so that hubs of two versions live side by side."""
    return "hub.json" if PROTOCOL == 1 else f"hub-{PROTOCOL}.json"


def runtime_folder(settings: Settings) -> Path:
    """The runtime folder, made with mode 0700; :class:`UnsafeFolder` if it is a link, another user's, or open.

    Where hosts share one (a home folder on the network), each but the first has a folder of its own in it.
    """
    folder = _private(settings.runtime_dir)
    own = folder / f"node-{re.sub(r'[^A-Za-z0-9.-]', '_', platform.node())}"
    if own.is_dir() or _node_of(folder / hub_file_name()) not in ("", platform.node()):
        return _private(own)
    return folder


def _node_of(path: Path) -> str:
    """The host whose hub wrote that file; empty if there is none."""
    try:
        return str(json.loads(path.read_bytes())["node"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise UnsafeFolder(f"the runtime folder {folder} cannot be used: {error.strerror or error}",
                           "set ONTHEFLY_RUNTIME_DIR to a folder that you own") from error  # fmt: skip
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeFolder(f"the runtime folder {folder} is a link, or no folder",
                           "remove it, or set ONTHEFLY_RUNTIME_DIR")  # fmt: skip
    if hasattr(os, "getuid"):
        if status.st_uid != os.getuid():
            raise UnsafeFolder(f"the runtime folder {folder} belongs to another user", "set ONTHEFLY_RUNTIME_DIR")
        if status.st_mode & 0o077:
            folder.chmod(0o700)
    return folder


def read_hub(settings: Settings) -> HubFile | None:
    """What ``hub.json`` says, if it is there, ours to trust, and of this machine; says nothing about a living hub."""
    try:
        path = runtime_folder(settings) / hub_file_name()
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as file:
            if hasattr(os, "getuid") and os.fstat(descriptor).st_uid != os.getuid():
                return None
            hub = msgspec.json.decode(file.read(), type=HubFile)
    except (OSError, UnsafeFolder, msgspec.MsgspecError):
        return None
    if hub.node != platform.node() or hub.protocol != PROTOCOL:
        return None
    return hub


def publish(folder: Path, hub: HubFile) -> Path:
    """Write ``hub.json`` whole, by rename, mode 0600."""
    path = folder / hub_file_name()
    temporary = folder / f".{path.name}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600) if hasattr(os, "fchmod") else None
        json.dump(msgspec.to_builtins(hub), file)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    return path


def alive(pid: int) -> bool:
    """Whether a process of that number runs on this machine (one that ended and was not waited for does not)."""
    if os.name == "nt":
        return True  # no cheap test; a connection decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except (OSError, IndexError):
        return True  # no /proc here: it exists, and that is all there is to know


def spawn_hub(settings: Settings) -> None:
    """Start a hub in the background, detached from this process; it decides itself whether it is needed.

    Two that start at once are settled by the hub's lock file: the second leaves. The child of this process is a shell
    that ends at once, so that the hub is nobody's child here: a script that calls ``os.wait()`` must not see it.
    """
    folder = runtime_folder(settings)
    environment = {k: v for k, v in os.environ.items() if k not in _NOT_FOR_THE_HUB}
    shim = os.environ.get("ONTHEFLY_SHIM", "")
    paths = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != shim]
    environment.pop("PYTHONPATH", None)
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment["ONTHEFLY_PORT"] = str(settings.port)
    command = [sys.executable, "-m", "onthefly", "hub"]
    with contextlib.ExitStack() as stack:
        try:
            path = folder / "hub.log"
            if path.exists() and path.stat().st_size > MAX_LOG:
                path.replace(folder / "hub.log.1")
            log = stack.enter_context(path.open("ab"))
            if os.name == "nt":
                flags = getattr(subprocess, "DETACHED_PROCESS", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
                                 env=environment, creationflags=flags)  # fmt: skip
                return
            subprocess.run(["/bin/sh", "-c", '"$@" &', "sh", *command], stdin=subprocess.DEVNULL, stdout=log,
                           stderr=log, cwd=folder, env=environment, start_new_session=True, check=True)  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise HubUnavailable(f"the hub could not be started: {error}", f"see {folder / 'hub.log'}") from error


_NOT_FOR_THE_HUB = frozenset(
    {"ONTHEFLY_SESSION", "ONTHEFLY_TARGET", "ONTHEFLY_NAME", "ONTHEFLY_PROJECT", "ONTHEFLY_SHIM", "ONTHEFLY_QUIET",
     "ONTHEFLY_HOLD", "ONTHEFLY_STEPS", "ONTHEFLY_RANK", "ONTHEFLY_STRICT",
     "PYTHONSTARTUP", "PYTHONINSPECT", "LD_PRELOAD"}
)  # fmt: skip


def find_hub(settings: Settings, *, start: bool, deadline: float = 10.0) -> HubFile:
    """The hub of this user and machine, started if asked and needed; :class:`HubUnavailable` after ``deadline`` s."""
    hub = living_hub(settings)
    if hub is not None:
        return hub
    if not start:
        raise HubUnavailable("no hub is running", "start one with: onthefly dashboard")
    spawn_hub(settings)
    limit = time.monotonic() + deadline
    while time.monotonic() < limit:
        hub = living_hub(settings)
        if hub is not None:
            return hub
        time.sleep(POLL_SECONDS)
    raise not_started(settings)


def living_hub(settings: Settings) -> HubFile | None:
    """What ``hub.json`` says, if the process that it names is alive."""
    hub = read_hub(settings)
    return hub if hub is not None and alive(hub.pid) else None


def not_started(settings: Settings) -> HubUnavailable:
    """The error for a hub that was started and did not appear."""
    return HubUnavailable("the hub did not start", f"see {settings.runtime_dir / 'hub.log'}")
