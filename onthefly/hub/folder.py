"""A session's folder: its ``session.json``, written whole by rename, and its store; and what is left of older ones."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import shutil
from typing import TYPE_CHECKING, Optional

import msgspec

from onthefly.bundle import files
from onthefly.hub.dispatch import Ledger
from onthefly.protocol import LIVE_STATES, SESSION_PATTERN, Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger("onthefly.hub")


class SessionFile(msgspec.Struct, kw_only=True):
    """``session.json``."""

    format: int = 1
    node: str
    hub_pid: int
    session: Session
    commands: Ledger = msgspec.field(default_factory=Ledger)


class DataFolder:
    """The folder ``sessions/`` of this user, one folder in it a session."""

    def __init__(self, data_dir: Path) -> None:
        self.sessions = data_dir / "sessions"
        self.sessions.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.sessions, *self.sessions.iterdir()):
            if not folder.is_symlink():
                files.sweep(folder)

    def of(self, session: str) -> Path:
        """The folder of a session; ids are checked here, so that no path comes from outside."""
        if not SESSION_PATTERN.fullmatch(session):
            raise ValueError(f"{session!r} is no session id")
        return self.sessions / session

    def write(self, session: Session, ledger: Optional[Ledger] = None) -> None:
        """Write ``session.json``; a failure is logged, the session lives on in memory."""
        folder = self.of(session.id)
        content = SessionFile(node=platform.node(), hub_pid=os.getpid(), session=session,
                              commands=ledger or Ledger())  # fmt: skip
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            temporary = folder / ".session.json.new"
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(content))
            temporary.replace(folder / "session.json")
        except OSError as error:
            log.warning("session %s: session.json is not written: %s", session.id, error)
            with contextlib.suppress(OSError):
                (folder / ".session.json.new").unlink(missing_ok=True)

    def read_all(self, only: str = "") -> Iterator[tuple[Session, Ledger, str]]:
        """The sessions that were here before us, each with its commands, and whose it is.

        Empty for ours, else the other hub's host. Hosts may share this folder (a home on the network); what runs under
        another one's hub is its.
        """
        for folder in [self.of(only)] if only else self.sessions.iterdir():
            if folder.is_symlink():
                continue  # what is behind it is not ours to change or delete
            found = self._read(folder / "session.json")
            if found is not None and found.session.id == folder.name and SESSION_PATTERN.fullmatch(folder.name):
                foreign = found.session.state in LIVE_STATES and found.node != platform.node()
                yield found.session, found.commands, found.node if foreign else ""

    def _read(self, path: Path) -> Optional[SessionFile]:
        try:
            content = msgspec.json.decode(path.read_bytes(), type=SessionFile)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s is not readable: %s", path, error)
            return None
        for rank in content.session.ranks:
            rank.connected = False
        return content

    def spools(self) -> list[Path]:
        """What agents left on disk because no hub was there."""
        return [path for path in self.sessions.glob("*/spool/*.frames") if not path.is_symlink()]

    def set_aside(self, spool: Path) -> None:
        """Keep a file that is no spool of ours under another name: nothing is deleted that was not understood."""
        spool.rename(spool.with_suffix(".unreadable"))

    def discard(self, spool: Path) -> None:
        """The frames of this spool are in the store."""
        spool.unlink(missing_ok=True)

    def delete(self, session: str) -> None:
        """Remove a session's folder and nothing else; a link in its place is removed, not followed."""
        folder = self.of(session)
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            gone = self.sessions / files.temporary_name()
            folder.rename(gone)  # its name goes at once: what is left of it after a kill is swept, and no session
            shutil.rmtree(gone)
