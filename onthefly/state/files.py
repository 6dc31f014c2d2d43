"""Checkpoints on the disk: a thread that writes them, and reading them again.

The thread sees the copies in a :class:`~onthefly.state.form.Form`, never a tensor of the script. It lives in one
process: a forked child has none, and what it submits is refused.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from onthefly.bundle import files, folder
from onthefly.core import start
from onthefly.errors import OnTheFlyError
from onthefly.state.form import Form

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from onthefly.errors import Guard

WAITING = 2
"""How many checkpoints may wait while one is written: each is held in memory."""


class Outcome(NamedTuple):
    """What became of a checkpoint."""

    name: str
    path: Path | None = None
    """Its folder; None: it is not there."""
    bytes: int = 0
    """What it takes on the disk."""
    seconds: float = 0.0
    """How long writing took."""
    durability: str = ""
    """``durable``: flushed to the disk, it survives a power cut. Empty: not written."""
    error: str = ""
    """Why it is not written."""
    remedy: str = ""


class _Job(NamedTuple):
    form: Form
    name: str
    done: Callable[[Outcome], None]
    about: Mapping[str, Any]


class Writer:
    """Writes forms into folders below ``parent``, one after the other, on a daemon thread that starts when needed."""

    def __init__(self, parent: Path, guard: Guard) -> None:
        """``guard`` stands around the thread's work: a fault of ours there is told once."""
        self._parent = parent
        self._guard = guard
        self._pid = os.getpid()
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._writing = False

    @property
    def busy(self) -> bool:
        """Whether another one would be refused now: to be asked before its copy is made."""
        return os.getpid() != self._pid or self._closed or len(self._jobs) >= WAITING

    def submit(
        self,
        form: Form,
        name: str,
        done: Callable[[Outcome], None],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Have a form written as the folder ``name``; never waits for the disk.

        ``done(outcome)`` is called once, on the writer's thread, or here if it is refused at once. ``about`` (plain
        JSON) goes into the manifest, where :meth:`~onthefly.state.ring.Ring.look` finds it.
        """
        if os.getpid() != self._pid:  # before any lock: one may have been held when this process was forked
            done(Outcome(name, error="a forked child writes no checkpoints", remedy="ask for one in its parent"))
            return
        with self._changed:
            reason = "the session is closing" if self._closed else "" if not self.busy else (
                f"{WAITING} checkpoints wait already for the disk")  # fmt: skip
            if not reason:
                self._jobs.append(_Job(form, name, done, about or {}))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="onthefly-checkpoints", daemon=True)
                    self._thread.start()
                self._changed.notify_all()
        if reason:
            done(Outcome(name, error=f"not written: {reason}", remedy="ask again in a moment"))

    def flush(self, timeout: float) -> bool:
        """Wait until everything submitted has its outcome; False: not within ``timeout`` seconds."""
        if os.getpid() != self._pid:
            return True
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._writing, timeout)

    def close(self, timeout: float) -> bool:
        """Take no more, and wait for what is under way; False: some of it is not written, and nothing half."""
        if os.getpid() != self._pid:
            return True
        self._closed = True
        return self.flush(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._jobs)
                job, self._writing = self._jobs.popleft(), True
            self._guard.around(self._write)(job)

    def _write(self, job: _Job) -> None:
        try:
            written = write_form(job.form, self._parent, job.name, job.about)
            outcome = Outcome(job.name, written.path, written.bytes, written.seconds, "durable")
        except OnTheFlyError as error:
            outcome = Outcome(job.name, error=error.message, remedy=error.remedy)
        except MemoryError:
            outcome = Outcome(job.name, error="not written: no memory is left", remedy="keep fewer in memory")
        except BaseException as error:
            job.done(Outcome(job.name, error=f"not written: {type(error).__name__}: {error}"))
            raise
        job.done(outcome)


def write_form(form: Form, parent: Path, name: str, about: Mapping[str, Any] | None = None) -> folder.Written:
    """Write a form as the folder ``name`` of ``parent``, on this thread. Raises ``OnTheFlyError``."""
    described = {
        "kind": "checkpoint", **form.place._asdict(), "time": time.time(), "versions": form.versions,
        "left_out": form.left_out, **(about or {}),
    }  # fmt: skip
    begun = {member: [data] for member, data in start.members().items()}
    return folder.write(parent, name, {**form.members(), **begun}, described)


def read_form(path: Path, limit: int = 1 << 40) -> Form:
    """The form in a folder, every byte of it verified. Raises :class:`~onthefly.bundle.refusals.BundleError`."""
    _, members = folder.read(path, limit)
    return Form.read(members)


def prepare(parent: Path) -> int:
    """At the start of a session: make the folder for checkpoints, remove what was left there half-written."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return files.sweep(parent)
