"""The session of this process: one at a time.

It opens when a script that runs under us, or a rank of it, has imported torch; when a child of the script trains; or
when the script asks for it (:func:`session`, ``Trainer``, ``attach_lightning``). It ends with the process, or before.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import secrets
import sys
from typing import TYPE_CHECKING, Any, Union

from onthefly.agent import RUN, Role, Session
from onthefly.core import start as first_line
from onthefly.core.introduction import run_name
from onthefly.core.kernel import is_interactive
from onthefly.errors import Guard, UsageError, outcome
from onthefly.instruments.first_use import FirstUse
from onthefly.protocol import SESSION_ALPHABET
from onthefly.settings import Settings, claim_rank, put

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SESSION_LENGTH = 8

_session: Session | None = None
_prepared = 0
"""Pid of the process in which the end and forks are attended to."""

_started = 0
"""Sessions of this process so far."""

_whole: Session | None = None
"""The session of the process as a whole, in a notebook: it makes way for one that is asked for."""

_awaited: FirstUse | None = None
"""Opens the next session of the process as a whole when something trains."""


class Unwatched:
    """Stands for the session where there is none: switched off, or it could not be opened, which was told."""

    id = url = run = ""
    step = epoch = 0
    stopped = False
    closed = True

    def __enter__(self) -> Unwatched:
        return self

    def __exit__(self, *raised: object) -> None: ...

    def log(self, values: Mapping[str, Any], *, step: int | None = None) -> None:
        """Record nothing."""

    def register(self, test: Any = None, step: Any = None, embed: Any = None) -> None:
        """Take nothing."""

    def keep(self, every: int) -> None:
        """Make no checkpoint."""

    def notice(self, text: str, remedy: str) -> None:
        """Tell nobody."""

    def flush(self) -> None:
        """Send nothing."""

    def close(self) -> None:
        """End nothing."""


def session(project: str = "", name: str = "", *, quiet: bool = False, port: int = 0) -> Union[Session, Unwatched]:
    """Watch this process from now on: ``with onthefly.session(project="demo", name="baseline") as session: ...``.

    The hooks are those of ``python -m onthefly``. The session ends with the ``with`` block, with ``close()``, or with
    the process. Under ``python -m onthefly`` it is the one that is open already, and ends with the script. In a
    notebook that is watched (``%load_ext onthefly``), it takes the place of the notebook's own one until it ends.

    Args:
        project: what the session is filed under; ``--project`` wins.
        name: what it and its run are called; ``--name`` wins.
        quiet: do not print the line with the dashboard's address.
        port: the port that a hub is to prefer, if one has to be started.

    Raises:
        UsageError: this process has opened a session already, and not closed it.
    """
    if not _makes_way() and is_own():
        raise UsageError(f"this process is watched already, in session {current().id}",
                         "close that one first: it ends with its with block, or with close()")  # fmt: skip
    return watch(project=project, name=name, quiet=quiet, port=port)


def watch(
    *, project: str = "", name: str = "", quiet: bool = False, port: int = 0, rank: int = 0, world_size: int = 1
) -> Union[Session, Unwatched]:
    """The session of this process, opened if there is none, under these names.

    ``rank`` of ``world_size``: what a framework that starts the ranks of a job itself knows before they have met.
    """
    settings = Settings()
    if settings.disabled:
        return Unwatched()
    if _session is not None and not _session.closed:
        _session.describe(name=name, project=project)
        return _session
    settings.quiet = settings.quiet or quiet
    settings.port = port or settings.port
    settings.name, settings.project = settings.name or name, settings.project or project
    guard = Guard("training goes on unobserved: opening its session", strict=settings.strict)
    role = Role(rank, world_size, f"rank {rank}") if world_size > 1 else None
    guard.around(join_session if settings.session else _open_own)(settings, role)
    return _session if _session is not None and not guard.failures else Unwatched()


def current() -> Union[Session, Unwatched]:
    """The session that is open in this process."""
    return _session if _session is not None and not _session.closed else Unwatched()


def is_own() -> bool:
    """Whether a session is open that this process has asked for itself."""
    return not current().closed and _session is not _whole and not Settings().target_pid


def watch_process() -> Union[Session, Unwatched]:
    """Watch this process as a whole, quietly, in a session that makes way for one that is asked for."""
    global _whole
    if current().closed and isinstance(watch(quiet=True), Session):
        _whole = _session
    return current()


def await_training() -> None:
    """Open the next session of the process as a whole as soon as something trains in it."""
    global _awaited
    settings = Settings()
    if _awaited is None and current().closed and not settings.disabled:
        _awaited = FirstUse(watch_process, Guard("watching the next training", strict=settings.strict))


def await_nothing() -> None:
    """Take :func:`await_training` back."""
    global _awaited
    if _awaited is not None:
        _awaited.disarm()
    _awaited = None


def leave_process() -> None:
    """End :func:`watch_process`: what trains from now on is not watched, unless that is asked for."""
    await_nothing()
    if _whole is not None:
        _whole.close()


def _makes_way() -> bool:
    """Whether the open session is one that makes way: it ends, or, while it is empty, is the one asked for now.

    Under the launcher a block only names the script's session. In a notebook, where one block after the other is
    tried, each is to be found in the list under its own name, with steps that begin at 0 and an end of its own.
    """
    global _whole
    whole, _whole = _whole, None
    if whole is None or whole is not _session or whole.closed:
        return False
    if whole.recorded:
        whole.close()
    return True


def open_session(settings: Settings) -> None:
    """Watch the script itself, or a rank of it, which the launcher has started."""
    if _session is None:
        name = f"rank {settings.rank}" if settings.world_size > 1 else ""
        _start(settings, Role(settings.rank, settings.world_size, name))


def join_session(settings: Settings, role: Role | None = None) -> None:
    """Watch a child of the script, which has begun to train."""
    if _session is None or _session.closed:
        settings.quiet = True  # whoever opened it has said so
        _start(settings, _rank() or role or Role(-1, 1, _process_name()))


def _open_own(settings: Settings, expected: Role | None = None) -> None:
    """Watch this process, which has asked for it itself; ranks of one job agree on the session without speaking.

    One that is ``expected`` to become a rank starts the others itself, and tells its children the session.
    """
    role = _rank()
    if role is None and settings.world_size > 1 and claim_rank():
        role = Role(settings.rank, settings.world_size, f"rank {settings.rank}")
    settings.session = _id_of_job(settings) if role is not None else new_session_id()
    _start(settings, role or expected or Role(0, 1, ""), run_name(settings.name) if settings.name else RUN)
    if expected is not None and role is None and _session is not None:
        _session.ended = put("ONTHEFLY_SESSION", settings.session)


def _start(settings: Settings, role: Role, run: str = RUN) -> None:
    global _session, _prepared, _started
    _started += 1
    await_nothing()
    _session = Session(settings, role, run)
    if _prepared != os.getpid():
        if not _prepared:
            os.register_at_fork(after_in_child=_forked)
        _prepared = os.getpid()
        _at_exit(_leave)
    _session.start()
    if role.rank == 0 and settings.target_pid:
        outcome(first_line.keep, str(settings.data_dir / "sessions" / settings.session))
    if settings.resume_expected and not settings.resume:
        _session.describe()  # it begins anew: there is nothing to wait for


def _leave() -> None:
    """The process ends."""
    if _session is not None:
        # An interactive interpreter goes on after an error, and that is not how it ended.
        _session.leave(None if is_interactive() else getattr(sys, "last_value", None))


def _forked() -> None:
    """In a forked child of the script: leave the parent's session, and wait until this process trains itself."""
    global _session
    parents, _session = _session, None
    if parents is not None and parents.forked():
        settings = parents.settings
        FirstUse(lambda: join_session(settings), Guard("watching a forked child", strict=settings.strict))


def _rank() -> Role | None:
    """What ``torch.distributed`` says this process is."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    rank = distributed.get_rank()
    return Role(rank, distributed.get_world_size(), f"rank {rank}")


def _process_name() -> str:
    """As ``multiprocessing`` calls it."""
    processes: Any = sys.modules.get("multiprocessing.process")
    name = processes.current_process().name if processes is not None else "MainProcess"
    return name if name != "MainProcess" else f"process {os.getpid()}"


def _at_exit(close: Callable[[], None]) -> None:
    """Call ``close`` when this process ends, in a child of ``multiprocessing`` as well, where ``atexit`` is silent."""
    atexit.register(close)
    processes: Any = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, close, exitpriority=-100)  # after everything of the script's


def new_session_id() -> str:
    """8 random characters that are hard to confuse with each other (the script's generators are not touched)."""
    return "".join(secrets.choice(SESSION_ALPHABET) for _ in range(SESSION_LENGTH))


def _id_of_job(settings: Settings) -> str:
    """The id on which the ranks of a job agree that no launcher of ours has started: those with the same parent.

    From what all of them see alike. Asking rank 0 would be a message between ranks, and we add none.
    """
    parent = os.getppid()
    try:
        with open(f"/proc/{parent}/stat", "rb") as file:
            started = (
                file.read().rpartition(b")")[2].split()[19].decode()
            )  # in clock ticks: numbers of processes repeat
    except (OSError, IndexError):
        started = ""
    seen = hashlib.sha256(f"{parent} {started} {settings.job} {_started}".encode()).digest()
    return "".join(SESSION_ALPHABET[byte % len(SESSION_ALPHABET)] for byte in seen[:SESSION_LENGTH])
