"""What can go wrong on our side: the error tree with its exit codes, the guard around our hooks, and our few words.

Standard library only: the shim's process reaches this before torch, and often without it.
"""

from __future__ import annotations

import enum
import functools
import os
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Switch(Protocol):
        """What can be switched off while it stands."""

        enabled: bool


class ExitCode(enum.IntEnum):
    """What a command of the CLI ends with (``run`` ends with the script's own code)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_SESSION = 3
    NO_HUB = 4
    REFUSED = 5


class OnTheFlyError(Exception):
    """The root of our errors: what happened, to which thing, and what to do next."""

    exit_code = ExitCode.FAILED
    code = "failed"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} ({remedy})" if remedy else message)
        self.message = message
        self.remedy = remedy


class UsageError(OnTheFlyError):
    """A command line or a request that cannot be understood."""

    exit_code = ExitCode.USAGE
    code = "usage"


class NoSuchSession(OnTheFlyError):
    """No session has that id, prefix or place."""

    exit_code = ExitCode.NO_SESSION
    code = "no_such_session"


class HubUnavailable(OnTheFlyError):
    """No hub answers, and none could be started."""

    exit_code = ExitCode.NO_HUB
    code = "no_hub"


class UnsafeFolder(HubUnavailable):
    """The runtime folder is a link, another user's, or open to others."""

    code = "unsafe_folder"


class StoreUnavailable(OnTheFlyError):
    """The records of a session cannot be read or written now: disk, permissions, or another process holds them."""

    code = "store_unavailable"


class Refused(OnTheFlyError):
    """A command that was understood and cannot be done now; the message says why."""

    exit_code = ExitCode.REFUSED
    code = "refused"


class Stop(SystemExit):
    """Raised in the script, at the gate, by ``stop``: its ``finally`` and ``atexit`` run, its exit code is 0.

    A ``SystemExit``, so that no ``except Exception`` of the script swallows it.
    """

    def __init__(self) -> None:
        super().__init__(0)


def report(text: str) -> None:
    """Say one line to the user on the process's own standard error; silent when that is gone."""
    stream = sys.__stderr__
    if stream is None or stream.closed:
        return
    try:
        stream.write(f"onthefly: {text}\n")
        stream.flush()
    except (OSError, ValueError):
        # A closed pipe or terminal: there is nobody to tell, and the script must not learn of it from us.
        return


def leave_frame_out(error: BaseException) -> None:
    """Take the frame that has caught the error out of its traceback, which shows the script's and torch's lines alone.

    To be followed by a bare ``raise``, which from Python 3.11 on does not put it back. In a frame of ours around the
    user's call, and there only.
    """
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next


def uncounted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have ``warnings`` not count this function's frames where a caller of what it calls is to be named.

    ``warn(..., stacklevel=2)`` names the caller's line, and a frame of ours would be that caller. Of frames that are
    counted, Python itself and its C code leave out those of the import system, which they know by the file's name.
    """
    code = function.__code__
    function.__code__ = code.replace(co_filename=f"{code.co_filename} (importlib._bootstrap)")
    return function


def outcome(function: Callable[..., Any], *args: Any) -> tuple[Any, Exception | None]:
    """What a command's own code gives, or what it raises: its sender is told, and the script goes on.

    ``BaseException`` (an interrupt, a stop) passes.
    """
    try:
        return function(*args), None
    except Exception as error:  # noqa: BLE001 - a boundary between our faults and the user's script, as in Guard
        return None, error


class Guard:
    """Stands around our code inside the user's process: what fails there is counted, reported once, and disarmed.

    Around our own lines only, never around the user's call. ``Exception`` only: a ``KeyboardInterrupt`` or
    ``SystemExit`` passes. After :attr:`LIMIT` failures :attr:`disarm` is called, and the hook it stands for must not
    run again. With ``strict`` (``ONTHEFLY_STRICT=1``) errors pass through, so that tests see them.
    """

    LIMIT = 3

    def __init__(self, name: str, *, strict: bool = False, notify: Callable[[str, str], None] | None = None) -> None:
        """``notify(text, remedy)`` tells the dashboard what standard error was told."""
        self.name = name
        self.failures = 0
        self.disarm: Callable[[], None] | None = None
        """Takes out the hook; set once that stands."""
        self._strict = strict
        self._notify = notify

    def around(self, function: Callable[..., object]) -> Callable[..., None]:
        """``function`` with this guard around it; what it returns is dropped.

        One call more, 0.1 us: a context manager on the hot path costs five times that.
        """

        def guarded(*args: object) -> None:
            try:
                function(*args)
            except Exception as error:  # noqa: BLE001 - the one boundary between our faults and the user's script
                self._fail(error)

        return guarded

    def ahead_of(
        self,
        original: Callable[..., Any],
        ours: Callable[..., object],
        slot: Switch,
        after: Callable[[], object] | None = None,
    ) -> Callable[..., Any]:
        """``original`` with ``ours`` called before it, on the same arguments, while the slot is enabled.

        ``after()`` is called when it has returned; it has a guard of its own.
        Guard and replacement in one function, since this runs for every step.
        """

        @functools.wraps(original)
        @uncounted
        def replacement(*args: Any, **kwargs: Any) -> Any:
            if slot.enabled:
                try:
                    ours(*args, **kwargs)
                except Exception as error:  # noqa: BLE001 - as above
                    self._fail(error)
            try:
                result = original(*args, **kwargs)
            except BaseException as error:
                leave_frame_out(error)
                raise
            if after is not None and slot.enabled:
                after()
            return result

        return replacement

    def _fail(self, error: Exception) -> None:
        if self._strict:
            raise error
        self.failures += 1
        where = traceback.extract_tb(error.__traceback__)
        place = f" ({os.path.basename(where[-1].filename)}:{where[-1].lineno})" if where else ""
        text = f"{self.name} failed: {type(error).__name__}: {error}{place}"
        if self.failures == self.LIMIT:
            text += f"; switched off after {self.LIMIT} failures, the script goes on without it"
            if self.disarm is not None:
                self.disarm()
        if self.failures in (1, self.LIMIT):
            report(text)
            if self._notify is not None:
                self._notify(text, "please report it; ONTHEFLY_STRICT=1 shows the traceback")
