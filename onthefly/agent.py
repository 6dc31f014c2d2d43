"""The composition root of the training process: builds every part, hands each the callables it needs, closes them.

Which session a process has, and when it opens, is decided in :mod:`onthefly.sessions`.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from onthefly.actions import asked
from onthefly.actions.control import Control, Ties
from onthefly.capture.log import Log
from onthefly.capture.recorder import Recorder
from onthefly.core.ending import ends_here
from onthefly.core.gate import Place, Plan
from onthefly.core.introduction import RUN, Runs, hello
from onthefly.core.lineage import Lineage
from onthefly.core.meter import Meter
from onthefly.errors import Guard, HubUnavailable, Stop, report
from onthefly.instruments.backward import BackwardInstrument
from onthefly.instruments.copies import CopyInstrument
from onthefly.instruments.data import DataInstrument
from onthefly.instruments.evaluated import EvaluationInstrument
from onthefly.instruments.functions import FunctionInstrument
from onthefly.instruments.lightning import LightningInstrument
from onthefly.instruments.optimizer import OptimizerInstrument
from onthefly.instruments.scaler import ScalerInstrument
from onthefly.instruments.stdio import StdioInstrument
from onthefly.link.link import Link
from onthefly.protocol import Command, Noticed, StateChanged
from onthefly.state.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol, TypeVar

    from onthefly.capture.loaders import LoaderRecord
    from onthefly.protocol import AgentMessage, Metrics, Records, State
    from onthefly.settings import Settings

    class Instrument(Protocol):
        """Anything that was armed and can be put back."""

        def disarm(self) -> None:
            """Put back what was there."""

    Armed = TypeVar("Armed", bound=Instrument)


CLOSE_SECONDS, START_SECONDS = 2.0, 5.0
"""The longest that the end of the script waits for the hub: as a rule, and where nobody started one before it."""


class Role(NamedTuple):
    """What this process is to the session."""

    rank: int
    """-1: a child that is no rank of a job; the hub numbers it."""
    world_size: int
    process: str
    """What it is called; empty for the script itself."""


class Session:
    """The watched process, from opening to the end of the script or of the block that opened it."""

    def __init__(self, settings: Settings, role: Role, run: str = RUN) -> None:
        """``settings.session`` is its id; nothing is sent before :meth:`start`."""
        self.id = settings.session
        """8 characters, by which all commands know it."""
        self.url = ""
        """The dashboard's address, without the token; empty while no hub has answered."""
        self.settings = settings
        """Of this process, as they were when it opened."""
        self._role = role
        self._pid = os.getpid()
        self.ended: Callable[[], None] = lambda: None
        """Called when it has ended, by itself or with the process."""
        self._noticed, self._told = set[str](), set[str]()
        self._running = self._closed = False
        self.runs = Runs(settings, run)
        self._speaks = not role.process or (settings.target_pid or (not role.rank and self._pid)) == self._pid
        """The script itself, on whose standard error the user is told what concerns all."""
        meter = Meter()
        self._recorder = Recorder(self._record, self.notice, meter, self.runs.first)
        self._lineage = lineage = Lineage(settings, self.runs, self._recorder, lambda message: self._link.send(message))
        ties = Ties(
            lambda message: self._link.send(message), self._announce, self.notice, self._ranks, lambda: lineage.place,
            lambda: self._recorder.run, lambda: self._recorder.loaders(), lambda: self._recorder.work_off(),
            lambda: self._hold(), self._went_back, lambda: self._scalers.counts, meter, lambda: self._recorder.lender,
            lineage,
        )  # fmt: skip
        folder = settings.data_dir / "sessions" / settings.session
        self._control = Control(ties, folder / _own(role), Guard("control", strict=settings.strict, notify=self.notice))
        self._gate = self._control.gate
        link = Guard("the link to the hub", strict=settings.strict)
        self._log = Log(lambda: self._link.soon())
        self._link = Link(
            settings, hello(settings, self.runs.first, str(torch.__version__), **role._asdict()), link,
            on_command=self._control.take, on_open=self._opened, on_lost=self._lost, gather=self._log.take,
            on_end=self._control.lost, errand=Guard("describing this process").around(
                Surroundings(folder).note if self._speaks and role.rank <= 0 else bool),
        )  # fmt: skip
        gate = Guard("the gate", strict=settings.strict, notify=self.notice)
        self._flush = gate.around(self._send_all)
        self._watch_over = Guard("the watchdogs", strict=settings.strict, notify=self.notice).around(
            self._control.recorded
        )
        self._serve = self._control.signals.around(gate.around(self._gate.serve))
        self._values = Guard("recording logged values", strict=settings.strict, notify=self.notice).around(self._note)
        lightning = self._arm(
            "recording what Lightning logs",
            lambda guard: LightningInstrument(
                self._recorder.overhear, lambda: self._recorder.step, self._recorder.count_anew, self.notice, guard
            ),
        )
        self._lightning_there = self._recorder.began = lightning.look
        self._instruments: list[Instrument] = [lightning, self._control.signals]
        self._watch(meter)
        if settings.steps:
            self._end_after(settings.steps)
        asked.stop_on(self._control, settings.stop_on)
        self._control.insight.test_after(self._lineage.place) if settings.test_after else None
        asked.keep_safe(self._control, self._lineage.place, settings.save_on, settings.autosave)
        if settings.replay and self._speaks:
            asked.replay(self._control, settings.replay, self.notice)
        self._hang_up = link.around(self._link.close)
        gate.disarm = self._steps.disarm

    def _watch(self, meter: Meter) -> None:
        """Arm the instruments, each with the callable that it feeds."""
        self.register = self._control.insight.registered.register
        """Functions that evaluate: ``register(test=fn, step=fn)`` (docs/insight.md)."""
        settings, recorder, gate = self.settings, self._recorder, self._gate
        known = bool(settings.target_pid)  # the launcher's sessions open before the script's second line
        self._scalers = self._arm("noting scalers", lambda guard: ScalerInstrument(
            recorder.scaled, gate, self._hold_here, guard, lambda: self._steps.points))  # fmt: skip
        self._instruments += [
            self._arm("recording the log", lambda guard: StdioInstrument(self._log.written, guard)),
            self._arm("watching data loaders", lambda guard: DataInstrument(
                self._open_source, meter, guard, self._control)),
            self._arm("reading losses", lambda guard: BackwardInstrument(
                recorder.observe, recorder.beware_of_hooks, gate, self._hold_here, guard)),
            self._scalers,
            self._arm("noting losses", lambda guard: FunctionInstrument(recorder.computed, guard, known=known)),
            self._arm("recording validation", lambda guard: EvaluationInstrument(recorder.evaluated, guard)),
            self._arm("following batches", lambda guard: CopyInstrument(recorder.copied, guard, known=known)),
        ]  # fmt: skip
        self._steps = self._arm("recording steps", lambda guard: OptimizerInstrument(
            recorder.stepped, gate, self._hold, self._control.seen, guard))  # fmt: skip
        self._lineage.instrument = self._steps
        self._instruments.append(self._steps)

    @property
    def run(self) -> str:
        """The run under which records are filed now."""
        return self._recorder.run

    @property
    def step(self) -> int:
        """Finished steps of the first optimizer that stepped."""
        return self._recorder.step

    @property
    def epoch(self) -> int:
        """The epoch of the newest batch that was trained on."""
        return self._recorder.epoch

    @property
    def stopped(self) -> bool:
        """Somebody has stopped the script here."""
        return self._gate.stopped_by is not None

    @property
    def recorded(self) -> bool:
        """Something was recorded in it."""
        return self._running

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """The block has ended: so does the session, unless the launcher opened it for the whole script."""
        if self.settings.target_pid:
            self.flush()
        else:
            self.close(error)

    @property
    def closed(self) -> bool:
        """It has ended: nothing more is recorded."""
        return self._closed

    def start(self) -> None:
        """Tell the hub that this process is here, before it trains."""
        self._link.start()
        self._announce("starting", "", "")
        if self.settings.resume:
            self._control.resume(self.settings, lambda: self._hang_up(CLOSE_SECONDS))

    def log(self, values: Mapping[str, Any], *, step: int | None = None) -> None:
        """Record single numbers by name, for charts: ``session.log({"val_loss": loss})``.

        Numbers, tensors of one element (on an accelerator they are not waited for), and mappings of such. ``step``
        is the one they belong to; by default the one that comes next.
        """
        if not self._closed:
            self._values(values, step)

    def keep(self, every: int) -> None:
        """Make a checkpoint every so many steps, as ``onthefly ctl SESSION keep --every`` does."""
        asked.keep_every(self._control, self._lineage.place, every)

    def describe(self, *, name: str = "", project: str = "", parent: str = "", step: int = 0) -> None:
        """Give the session and its run a name, unless the command line has (``--name``, ``--project``).

        ``parent`` and ``step``: the run that it goes on from, and how far that counts.
        """
        self._lineage.describe(name, project, parent, step)

    def flush(self) -> None:
        """Send what waits, at a moment when training rests: the end of a fit, of a cell.

        The next training may be of something else: then the optimizer that steps first is the one whose steps count.
        """
        if self._closed:
            return
        if self._recorder.is_busy_elsewhere():
            self._gate.nudge()  # the thread that trains comes by after its next step, and sends it
        else:
            self._flush()
            self._recorder.count_anew()

    def notice(self, text: str, remedy: str) -> None:
        """Tell the user something in the dashboard, once."""
        if text not in self._noticed:
            self._noticed.add(text)
            self._link.send(Noticed(text=text, remedy=remedy, time=time.time()))

    def close(self, error: BaseException | None = None) -> None:
        """Training has ended, by ``error`` if there is one: send what is left, say how it ended, wait a little."""
        if self._closed or os.getpid() != self._pid:
            return
        self._control.arrive_or_end(error)
        self._flush()
        if self.settings.hold and self._ranks() == 1 and self._speaks:
            self._stay(error)
        self._closed = True
        for instrument in reversed(self._instruments):
            instrument.disarm()
        self._flush()
        self._control.close(CLOSE_SECONDS, error)
        self._gate.close(self._lineage.place)
        self._announce(*self._ending(error))
        self.ended()
        self._hang_up(CLOSE_SECONDS if self.settings.target_pid else START_SECONDS)

    def leave(self, error: BaseException | None) -> None:
        """At exit. Ctrl-C then ends our wait, and not the script, which has ended: what is not sent yet is spooled."""
        with contextlib.suppress(KeyboardInterrupt):
            try:
                self.close(error)
            except KeyboardInterrupt:
                self._hang_up(0.0)

    def forked(self) -> bool:
        """In a forked child nothing of ours may act, no hook and no socket of the parent's; whether it was open."""
        if self._closed:
            return False
        self._closed = True
        for instrument in reversed(self._instruments):
            instrument.disarm()
        self._link.abandon()
        return True

    def _stay(self, error: BaseException | None) -> None:
        """The script has finished, and everything it made is still there: hold it until somebody lets it end."""
        if self._gate.stopped_by is None:
            report("the script has finished and is held (--hold): resume it in the dashboard, or press Ctrl-C")
            _, _, how = self._ending(error)
            self._gate.stay(self._lineage.place, f"the script has finished{f' ({how})' if how else ''}; it is held")

    def _arm(self, name: str, build: Callable[[Guard], Armed]) -> Armed:
        guard = Guard(name, strict=self.settings.strict, notify=self.notice)
        instrument = build(guard)
        guard.disarm = instrument.disarm
        return instrument

    def _ranks(self) -> int:
        """How many train together: a script may have become one of them since its session opened."""
        distributed: Any = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return max(self._role.world_size, distributed.get_world_size())
        return self._role.world_size

    def _open_source(self, loader: Any) -> LoaderRecord:
        self._lightning_there()
        return self._recorder.open_source(loader)

    def _hold(self) -> None:
        """After an optimizer's step, where parameters are consistent: send what there is, then do what was asked."""
        place = self._lineage.place
        if not self._gate.due(place):
            return
        self._flush()
        try:
            self._serve(place)
        except Stop as stop:
            raise ends_here(stop) from None
        self._recorder.held()

    def _hold_here(self) -> None:
        """At a place that serves where no optimizer's step comes by: after a backward call, after a scaler's step."""
        if not self._steps.inside and self._recorder.is_training_thread():
            self._hold()

    def _send_all(self) -> None:
        self._recorder.work_off(wait=True)
        for entry in self._log.take(last=True):
            self._link.send(entry)

    def _note(self, values: Mapping[str, Any], step: int | None) -> None:
        self._recorder.log(values, step)

    def _end_after(self, steps: int) -> None:
        """For a trial run: the script ends after so many steps."""

        def reached(place: Place) -> bool:
            return place.point > 0 and place.step >= steps

        def stop(place: Place) -> None:
            self._gate.submit(Command(n=-1, id="steps", name="stop", args={}, by="doctor"))

        self._gate.plan(Plan(f"step {steps}", "doctor", reached, same=True, act=stop))

    def _went_back(self, place: Place, run: str, stem: str) -> None:
        """The script is there again."""
        self._lineage.went_back(place, run, stem)
        self._announce("paused" if self._gate.paused else "running", "", f"went back to step {place.step}")

    def _record(self, message: Records | Metrics) -> None:
        if self._control.resuming is not None:
            return
        if not self._running:
            self._running = True
            self._announce("running", "", "")
        self._link.send(message)
        self._watch_over(message)

    def _announce(self, state: State, by: str, reason: str) -> None:
        place = self._lineage.place
        message: AgentMessage = StateChanged(
            state=state, step=place.step, epoch=place.epoch, time=time.time(), by=by, reason=reason
        )
        self._link.send(message)

    def _ending(self, error: BaseException | None) -> tuple[State, str, str]:
        """How the script ended, as far as a process can know of itself."""
        if self._gate.stopped_by is not None:
            return "stopped", self._gate.stopped_by, ""
        if error is None or isinstance(error, SystemExit):
            return "ended", "", ""
        if isinstance(error, KeyboardInterrupt):
            return "stopped", "", "interrupted (Ctrl-C)"
        return "crashed", "", f"{type(error).__name__}: {error}"[:500]

    def _opened(self, url: str) -> None:
        self.url = url
        if "opened" not in self._told and not self.settings.quiet and self._speaks:
            report(f"session {self.id} - dashboard: {url} (onthefly dashboard)")
        self._told.add("opened")

    def _lost(self, error: HubUnavailable) -> None:
        if "lost" not in self._told and self._speaks:
            remedy = f" ({error.remedy})" if error.remedy else ""
            report(f"{error.message}{remedy}; the script goes on, its records wait in {self.settings.data_dir}")
        self._told.add("lost")


def _own(role: Role) -> str:
    """The folder of this process within its session's: ranks make checkpoints of one name, each its own."""
    return "." if role.rank == 0 else f"rank{role.rank}" if role.rank > 0 else f"process{os.getpid()}"
