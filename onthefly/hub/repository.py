"""The state of the git tree in which a script was started: its commit, and whether files differed from it.

Asked by the hub when a session begins, since a process that git runs in is no guest's to start in the script's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any, Optional

from onthefly.bundle import files
from onthefly.bundle.refusals import NotWritten
from onthefly.hub.staging import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("onthefly.hub")

SECONDS = 20.0
_GIT = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false")
"""A monitor is a program that the tree names."""


async def note(folder: Path, cwd: str) -> None:
    """Write down in the session's folder what git says of that place; nothing where it is no tree of git's."""
    commit = await _git(cwd, "rev-parse", "HEAD")
    if commit is None:
        return
    branch = await _git(cwd, "rev-parse", "--abbrev-ref", "HEAD")
    changed = await _git(cwd, "status", "--porcelain", "--untracked-files=no")
    found: dict[str, Any] = {
        "commit": commit.strip(), "branch": (branch or "").strip(), "time": int(time.time()),
        "dirty": None if changed is None else bool(changed.strip()),
    }  # fmt: skip
    try:
        files.replace_file(folder / REPOSITORY, lambda path: files.write_file(path, [json.dumps(found).encode()]))
    except NotWritten as error:
        log.warning("%s", error)


async def _git(cwd: str, *words: str) -> Optional[str]:
    """What git answers; None if it does not."""
    try:
        process = await asyncio.create_subprocess_exec(
            *_GIT, "-C", cwd, *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, ValueError):
        return None
    try:
        out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        return None
    return out.decode("utf-8", "replace") if process.returncode == 0 else None
