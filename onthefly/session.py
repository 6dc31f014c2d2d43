"""The composition root of the training process: builds every part, hands each the callables it needs, closes them.

One session a process. It opens when the script, or a rank of it, has imported torch; a child of the script joins it
when it trains.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from onthefly.capture.log import Log
from onthefly.capture.recorder import Recorder
from onthefly.core.gate import Gate, Place
from onthefly.core.meter import Meter
from onthefly.errors import Guard, HubUnavailable, report
from onthefly.instruments.backward import BackwardInstrument
from onthefly.instruments.data import DataInstrument
from onthefly.instruments.first_use import FirstUse
from onthefly.instruments.functions import FunctionInstrument
from onthefly.instruments.optimizer import OptimizerInstrument
from onthefly.instruments.stdio import StdioInstrument
from onthefly.link.link import Link
from onthefly.protocol import (
    PROTOCOL,
    SESSION_ALPHABET,
    Answer,
    Answered,
    Command,
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


class Role(NamedTuple):
    """What this process is to the session."""

    rank: int
    """-1: a child that is no rank of a job; the hub numbers it."""
    world_size: int
    process: str
    """What it is called; empty for the script itself."""


class Session:
    """The watched process: instruments, recorder, gate and link, from opening to the end of the script."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self.id = settings.session or new_session_id()
        self._settings = settings
        self._role = role
        self._pid = os.getpid()
        self._noticed: set[str] = set()
        self._told: set[str] = set()
        self._running = self._closed = False
        self._speaks = not role.process or settings.target_pid == self._pid
        """The script itself, on whose standard error the user is told what concerns all."""
        meter = Meter()
        self._recorder = Recorder(self._record, self.notice, meter, RUN)
        self._gate = Gate(self._answer, self._announce, world_size=role.world_size)
        link = Guard("the link to the hub", strict=settings.strict)
        self._log = Log(lambda: self._link.soon())
        self._link = Link(
            settings, _hello(self.id, settings, role), link,
            on_command=self._gate.submit, on_open=self._opened, on_lost=self._lost, gather=self._log.take,
        )  # fmt: skip
        gate = Guard("the gate", strict=settings.strict, notify=self.notice)
        self._flush = gate.around(self._send_all)
        self._serve = gate.around(self._gate.serve)
        stepped = self._stepped_until if settings.steps else self._recorder.stepped
        self._instruments: list[Instrument] = [
            self._arm("recording the log", lambda guard: StdioInstrument(self._log.written, guard)),
            self._arm("watching data loaders", lambda guard: DataInstrument(self._recorder.open_source, meter, guard)),
            self._arm("reading losses", lambda guard: BackwardInstrument(
                self._recorder.observe, self._recorder.beware_of_hooks, guard)),
            self._arm("noting losses", lambda guard: FunctionInstrument(self._recorder.computed, guard)),
            self._arm("recording steps", lambda guard: OptimizerInstrument(stepped, self._gate, self._hold, guard)),
        ]  # fmt: skip
        self._hang_up = link.around(self._link.close)
        gate.disarm = self._instruments[-1].disarm
        os.register_at_fork(after_in_child=self._forked)
        _at_exit(self._leave)

    def start(self) -> None:
        """Tell the hub that this process is here, before it trains."""
        self._link.start()
        self._announce("starting", "", "")

    def notice(self, text: str, remedy: str) -> None:
        """Tell the user something in the dashboard, once."""
        if text not in self._noticed:
            self._noticed.add(text)
            self._link.send(Noticed(text=text, remedy=remedy, time=time.time()))

    def close(self) -> None:
        """The script has ended: send what is left, say how it ended, wait a little for the hub."""
        if self._closed or os.getpid() != self._pid:
            return
        self._flush()
        if self._settings.hold and self._role.world_size == 1 and self._speaks:
            self._stay()
        self._closed = True
        for instrument in reversed(self._instruments):
            instrument.disarm()
        self._flush()
        self._gate.close(self._place())
        self._announce(*self._ending())
        self._hang_up(CLOSE_SECONDS)

    def _leave(self) -> None:
        """At exit. Ctrl-C then ends our wait, and not the script, which has ended: what is not sent yet is spooled."""
        with contextlib.suppress(KeyboardInterrupt):
            try:
                self.close()
            except KeyboardInterrupt:
                self._hang_up(0.0)

    def _stay(self) -> None:
        """The script has finished, and everything it made is still there: hold it until somebody lets it end."""
        if self._gate.stopped_by is None:
            report("the script has finished and is held (--hold): resume it in the dashboard, or press Ctrl-C")
            _, _, how = self._ending()
            self._gate.stay(self._place(), f"the script has finished{f' ({how})' if how else ''}; it is held")

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

    def _send_all(self) -> None:
        self._recorder.work_off(wait=True)
        for entry in self._log.take(last=True):
            self._link.send(entry)

    def _stepped_until(self, optimizer: Any) -> None:
        """For a trial run: a step like any other, and the end after so many of them."""
        self._recorder.stepped(optimizer)
        if self._recorder.step >= self._settings.steps:
            self._gate.submit(Command(n=-1, id="steps", name="stop", args={}, by="doctor"))

    def _place(self) -> Place:
        return Place(self._recorder.step, self._recorder.epoch)

    def _record(self, message: Records | Metrics) -> None:
        if not self._running:
            self._running = True
            self._announce("running", "", "")
        self._link.send(message)

    def _answer(self, answer: Answer) -> None:
        self._link.send(Answered(answer=answer))

    def _announce(self, state: State, by: str, reason: str) -> None:
        place = self._place()
        message: AgentMessage = StateChanged(
            state=state, step=place.step, epoch=place.epoch, time=time.time(), by=by, reason=reason
        )
        self._link.send(message)

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

    def _opened(self, url: str) -> None:
        if "opened" not in self._told and not self._settings.quiet and self._speaks:
            report(f"session {self.id} - dashboard: {url} (onthefly dashboard)")
        self._told.add("opened")

    def _lost(self, error: HubUnavailable) -> None:
        if "lost" not in self._told and self._speaks:
            remedy = f" ({error.remedy})" if error.remedy else ""
            report(f"{error.message}{remedy}; the script goes on, its records wait in {self._settings.data_dir}")
        self._told.add("lost")

    def _forked(self) -> None:
        """In a forked child nothing of ours may act, no hook and no socket of the parent's, until it trains itself."""
        if self._closed:
            return
        self._closed = True
        for instrument in reversed(self._instruments):
            instrument.disarm()
        self._link.abandon()
        settings = self._settings
        FirstUse(lambda: join_session(settings), Guard("watching a forked child", strict=settings.strict))


def open_session(settings: Settings) -> None:
    """Watch the script itself, or a rank of it, from now on."""
    global _session
    if _session is None:
        name = f"rank {settings.rank}" if settings.world_size > 1 else ""
        _session = Session(settings, Role(settings.rank, settings.world_size, name))
        _session.start()


def join_session(settings: Settings) -> None:
    """Watch a child of the script, which has begun to train."""
    global _session
    _session = Session(settings, _role_of_child())
    _session.start()


def _role_of_child() -> Role:
    """A rank where ``torch.distributed`` says so, else a process that is called as ``multiprocessing`` calls it."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        rank = distributed.get_rank()
        return Role(rank, distributed.get_world_size(), f"rank {rank}")
    processes: Any = sys.modules.get("multiprocessing.process")
    name = processes.current_process().name if processes is not None else "MainProcess"
    return Role(-1, 1, name if name != "MainProcess" else f"process {os.getpid()}")


def _at_exit(close: Callable[[], None]) -> None:
    """Call ``close`` when this process ends, in a child of ``multiprocessing`` as well, where ``atexit`` is silent."""
    atexit.register(close)
    processes: Any = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, close, exitpriority=-100)  # after everything of the script's


def new_session_id() -> str:
    """8 random characters that are hard to confuse with each other (the script's generators are not touched)."""
    return "".join(secrets.choice(SESSION_ALPHABET) for _ in range(8))


def _hello(session: str, settings: Settings, role: Role) -> Hello:
    script = _script()
    return Hello(
        protocol=PROTOCOL,
        session=session,
        rank=role.rank,
        pid=os.getpid(),
        process=role.process,
        node=platform.node(),
        argv=list(sys.argv) if hasattr(sys, "argv") else [],
        cwd=os.getcwd(),
        script=script,
        name=settings.name or os.path.basename(script),
        project=settings.project,
        run=RUN,
        world_size=role.world_size,
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
