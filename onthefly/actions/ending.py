"""``stop --now``: the script is ended wherever it is, by signals to its own process."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from onthefly.protocol import Answer, Answered

if TYPE_CHECKING:
    from onthefly.actions.control import Ties
    from onthefly.core.gate import Gate
    from onthefly.protocol import Command

GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL."""


def end_at_once(command: Command, gate: Gate, ties: Ties) -> None:
    """SIGTERM, whose handler is the script's if it has one; SIGKILL if it is still there a while later."""
    gate.stopped_by = command.by
    ties.announce("stopped", command.by, "ended at once")
    ties.send(Answered(answer=Answer(id=command.id, n=command.n, status="applied", step=-1)))
    last = getattr(signal, "SIGKILL", signal.SIGTERM)
    for seconds, number in ((0.2, signal.SIGTERM), (GRACE_SECONDS, last)):  # what was just said leaves first
        timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()
