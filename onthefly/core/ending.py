"""A script that is stopped: by what exception, where it trains.

:class:`~onthefly.errors.Stop` ends the thread that trains, and no more: a main thread that joins it goes on to its own
end, one that waits for its next result would wait for ever. That one is interrupted as by Ctrl-C.
"""

from __future__ import annotations

import _thread
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from onthefly.core.kernel import cancelled, in_background_task
from onthefly.errors import report

if TYPE_CHECKING:
    from onthefly.errors import Stop

PATIENCE = 3.0
"""Seconds that the main thread may stand at one wait for another thread, once what it waits for was stopped."""

POLL = 0.2
WAITS = (threading.__file__, queue.__file__)


def ends_here(stop: Stop) -> BaseException:
    """What to raise in this thread, so that the script ends."""
    if in_background_task():
        return cancelled()
    # Of a plain SystemExit a thread says nothing; of a class of our own it would print a traceback.
    return SystemExit(0) if _release_main() else stop


def _release_main() -> bool:
    """See to it that the main thread does not wait for this one, which is about to end; False: this is that one."""
    if threading.current_thread() is threading.main_thread():
        return False
    threading.Thread(target=_watch, name="onthefly-ending", daemon=True).start()
    return True


def _watch() -> None:
    main = threading.main_thread()
    before, since = (0, 0), time.monotonic()
    while main.is_alive():
        frame = sys._current_frames().get(main.ident or 0)  # pyright: ignore[reportPrivateUsage]
        waits = frame is not None and frame.f_code.co_filename in WAITS
        place = (id(frame), frame.f_lasti) if waits and frame is not None else (0, 0)
        del frame
        if place != before or place == (0, 0):
            before, since = place, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            report("the script was stopped in a thread that its main thread waits for: that one is interrupted, too")
            _interrupt(main)
            return
        time.sleep(POLL)


def _interrupt(main: threading.Thread) -> None:
    """By a signal to that very thread, which ends its wait for a lock; on Windows, at the next line it comes to."""
    if hasattr(signal, "pthread_kill") and main.ident is not None:
        signal.pthread_kill(main.ident, signal.SIGINT)
    else:
        _thread.interrupt_main()
