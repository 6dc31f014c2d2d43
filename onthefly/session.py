"""The composition root of the training process: builds every part, hands each the callables it needs, closes them.

One session a process. :func:`arm` is called when torch has been imported; in the process that the launcher turned into
the script the session opens at once, in a child of it (a rank, a worker, a subprocess) nothing is watched yet.
"""

from __future__ import annotations

import atexit
import os
import platform
import secrets
import sys
import time
from typing import TYPE_CHECKING

import torch

from onthefly.capture.recorder import Recorder
from onthefly.core.gate import Gate, Place
from onthefly.core.meter import Meter
from onthefly.errors import Guard, HubUnavailable, report
from onthefly.instruments.backward import BackwardInstrument
from onthefly.instruments.data import DataInstrument
from onthefly.instruments.functions import FunctionInstrument
from onthefly.instruments.optimizer import OptimizerInstrument
from onthefly.link.link import Link
from onthefly.protocol import (
    PROTOCOL,
    SESSION_ALPHABET,
    Answer,
    Answered,
    Hello,
    Noticed,
    StateChanged,
)  # fmt: skip
from onthefly.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from onthefly.protocol import AgentMessage, Metrics, Records, State
    from onthefly.settings import Settings

    class Instrument(Protocol):
        """Anything that was armed and can be put back."""

        def disarm(self) -> None:
            """Put back what was there."""


CLOSE_SECONDS = 2.0
"""The longest that the end of the script waits for the hub."""

RUN = "baseline"

_session: Session | None = None


class Session:
    """The watched process: instruments, recorder, gate and link, from opening to the end of the script."""

    def __init__(self, settings: Settings) -> None:
        self.id = settings.session or new_session_id()
        self._settings = settings
        self._pid = os.getpid()
        self._noticed: set[str] = set()
        self._told: set[str] = set()
        self._linked = self._running = self._closed = False
        meter = Meter()
        self._recorder = Recorder(self._record, self.notice, meter, RUN)
        self._gate = Gate(self._answer, self._announce, world_size=settings.world_size)
        link = Guard("the link to the hub", strict=settings.strict)
        self._link = Link(
            settings, _hello(self.id, settings), link,
            on_command=self._gate.submit, on_open=self._opened, on_lost=self._lost,
        )  # fmt: skip
        gate = Guard("the gate", strict=settings.strict, notify=self.notice)
        self._flush = gate.around(lambda: self._recorder.work_off(wait=True))
        self._serve = gate.around(self._gate.serve)
        self._instruments: list[Instrument] = [
            self._arm("watching data loaders", lambda guard: DataInstrument(self._recorder.open_source, meter, guard)),
            self._arm("reading losses", lambda guard: BackwardInstrument(
                self._recorder.observe, self._recorder.beware_of_hooks, guard)),
            self._arm("noting losses", lambda guard: FunctionInstrument(self._recorder.computed, guard)),
            self._arm("recording steps", lambda guard: OptimizerInstrument(
                self._recorder.stepped, self._gate, self._hold, guard)),
        ]  # fmt: skip
        self._hang_up = link.around(self._link.close)
        gate.disarm = self._instruments[-1].disarm
        os.register_at_fork(after_in_child=self._forked)
        atexit.register(self.close)

    def start(self) -> None:
        """Tell the hub that the script is here, before it trains."""
        self._announce("starting", "", "")

    def notice(self, text: str, remedy: str) -> None:
        """Tell the user something in the dashboard, once."""
        if text not in self._noticed:
            self._noticed.add(text)
            self._send(Noticed(text=text, remedy=remedy, time=time.time()))

    def close(self) -> None:
        """The script has ended: send what is left, say how it ended, wait a little for the hub."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        for instrument in reversed(self._instruments):
            instrument.disarm()
        self._flush()
        self._gate.close(self._place())
        if self._linked:
            self._announce(*self._ending())
            self._hang_up(CLOSE_SECONDS)

    def _arm(self, name: str, build: Callable[[Guard], Instrument]) -> Instrument:
        guard = Guard(name, strict=self._settings.strict, notify=self.notice)
        instrument = build(guard)
        guard.disarm = instrument.disarm
        return instrument

    def _hold(self) -> None:
        """After an optimizer's step, where parameters are consistent: send what there is, then do what was asked."""
        self._flush()
        self._serve(self._place())
        self._recorder.held()

    def _place(self) -> Place:
        return Place(self._recorder.step, self._recorder.epoch)

    def _record(self, message: Records | Metrics) -> None:
        if not self._running:
            self._running = True
            self._announce("running", "", "")
        self._send(message)

    def _answer(self, answer: Answer) -> None:
        self._send(Answered(answer=answer))

    def _announce(self, state: State, by: str, reason: str) -> None:
        place = self._place()
        self._send(
            StateChanged(state=state, step=place.step, epoch=place.epoch, time=time.time(), by=by, reason=reason)
        )

    def _ending(self) -> tuple[State, str, str]:
        """How the script ended, as far as a process can know of itself."""
        if self._gate.stopped_by is not None:
            return "stopped", self._gate.stopped_by, ""
        kind: type[BaseException] | None = getattr(sys, "last_type", None)
        if kind is None:
            return "ended", "", ""
        if issubclass(kind, KeyboardInterrupt):
            return "stopped", "", "interrupted (Ctrl-C)"
        return "crashed", "", f"{kind.__name__}: {getattr(sys, 'last_value', '')}"[:500]

    def _send(self, message: AgentMessage) -> None:
        if not self._linked:
            self._linked = True
            self._link.start()
        self._link.send(message)

    def _opened(self, url: str) -> None:
        if "opened" not in self._told and not self._settings.quiet:
            report(f"session {self.id} - dashboard: {url} (onthefly dashboard)")
        self._told.add("opened")

    def _lost(self, error: HubUnavailable) -> None:
        if "lost" not in self._told:
            remedy = f" ({error.remedy})" if error.remedy else ""
            report(f"{error.message}{remedy}; the script goes on, its records wait in {self._settings.data_dir}")
        self._told.add("lost")

    def _forked(self) -> None:
        """In a forked child nothing of ours may act: no hook, no socket of the parent's."""
        if self._closed:
            return
        self._closed = True
        for instrument in reversed(self._instruments):
            instrument.disarm()
        self._link.abandon()


def arm(settings: Settings, *, target: bool) -> None:
    """Watch this process from now on: called once torch is imported.

    A child of the script is watched if it is a rank of a distributed job; its session opens when it trains.
    """
    global _session
    if _session is not None or not (target or settings.world_size > 1):
        return
    _session = Session(settings)
    if target:
        _session.start()


def new_session_id() -> str:
    """8 random characters that are hard to confuse with each other (the script's generators are not touched)."""
    return "".join(secrets.choice(SESSION_ALPHABET) for _ in range(8))


def _hello(session: str, settings: Settings) -> Hello:
    script = _script()
    return Hello(
        protocol=PROTOCOL,
        session=session,
        rank=settings.rank,
        pid=os.getpid(),
        process="" if settings.world_size == 1 else f"rank {settings.rank}",
        node=platform.node(),
        argv=list(sys.argv) if hasattr(sys, "argv") else [],
        cwd=os.getcwd(),
        script=script,
        name=settings.name or os.path.basename(script),
        project=settings.project,
        run=RUN,
        world_size=settings.world_size,
        started=time.time(),
        versions={"onthefly": __version__, "python": platform.python_version(), "torch": str(torch.__version__)},
    )


def _script() -> str:
    """What the user would call the script: its path, ``-m package.module`` or ``-c``."""
    original: list[str] = getattr(sys, "orig_argv", [])
    for place, word in enumerate(original[:-1]):
        if word == "-m":
            return f"-m {original[place + 1]}"
    return sys.argv[0] if getattr(sys, "argv", None) and sys.argv[0] else "python"
