"""The watchdogs of a session: which watch, what they have found, and what is done then.

A finding is told, or told and the script held, or told and the script taken back to the newest checkpoint before it and
held there. Gradients are looked at before a step and parameters after it, so that a script that is held because of them
has not been touched by them.
"""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Any

import torch

from onthefly.actions.living import roots
from onthefly.alarms import activations, nonfinite, steps
from onthefly.alarms.flight import Batch, FlightRecord, batch_of
from onthefly.alarms.free import FREE, FreeWatchdogs, default
from onthefly.alarms.origin import Event, Origin
from onthefly.alarms.table import BY_NAME, ROWS
from onthefly.core.gate import Plan
from onthefly.core.newest import losses
from onthefly.errors import Refused, UsageError
from onthefly.protocol import Finding, Records, WatchInfo
from onthefly.state.random import RandomStates

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onthefly.actions.checkpoints import Checkpoints
    from onthefly.actions.optimizers import Optimizers
    from onthefly.alarms.finding import Finding as Found
    from onthefly.core.gate import Gate, Place
    from onthefly.errors import Guard
    from onthefly.protocol import AlarmAction, Metrics

HOLDING = tuple(row.name for row in ROWS if row.cost != "on demand")
"""Watchdogs that watch all the time, and so can hold the script."""

MAX_FINDINGS, MAX_RECORDS = 100, 4
"""Findings that are shown; blocks of records that are kept for a flight record."""


class Watchdogs:
    """The commands ``watch`` and ``diagnose``, and everything that watches."""

    def __init__(
        self, folder: Path, gate: Gate, optimizers: Optimizers, checkpoints: Checkpoints, guard: Guard,
        *, notice: Callable[[str, str], None], changed: Callable[[], None], place: Callable[[], Place],
        serve: Callable[[], None],
    ) -> None:  # fmt: skip
        """``folder`` gets the flight records; ``changed()`` is told that other steps may have to be looked at.

        ``serve()`` holds the thread where the gate is paused.
        """
        self._folder, self._gate, self._optimizers, self._checkpoints = folder, gate, optimizers, checkpoints
        self._guard, self._notice, self._changed, self._place = guard, notice, changed, place
        self._serve = serve
        self._actions: dict[str, AlarmAction] = {row.name: row.action if row.on else "off" for row in ROWS}
        self._settings: dict[str, dict[str, float]] = {row.name: row.settings({}) for row in ROWS}
        self._counts: dict[str, int] = {}
        self.findings: list[Finding] = []
        self._free = FreeWatchdogs(default())
        self._steps = steps.StepWatchdogs({}, roots)
        self._records: list[Records] = []
        """The newest blocks, for the batch of a finding."""
        self._random: RandomStates | None = None
        """When the gradients of the step before were there, while gradients are watched: this step began so."""
        self._origin: Origin | None = None
        self._plan: Plan | None = None

    def rows(self) -> list[WatchInfo]:
        """For clients."""
        return [
            WatchInfo(alarm=row.name, text=row.watches, cost=row.cost, action=self._actions[row.name],
                      parameters=self._settings[row.name], found=self._counts.get(row.name, 0))
            for row in ROWS
        ]  # fmt: skip

    @property
    def before(self) -> bool:
        """Whether gradients are looked at before each step."""
        return self._steps.before

    def watch(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """The command ``watch``."""
        row = BY_NAME.get(given.alarm)
        if row is None:
            raise Refused(f"there is no watchdog {given.alarm!r}", f"known: {', '.join(BY_NAME)}")
        try:
            settings = row.settings(given.parameters)
        except UsageError as error:
            raise Refused(error.message, error.remedy) from error
        if row.name == activations.NAME:
            if given.action != "off":
                self._look_for_dead(settings, moment)
            return {"before": {}, "after": {"watched": f"step {moment.step}"}}
        before = self._actions[row.name]
        self._actions[row.name], self._settings[row.name] = given.action, settings
        self._choose()
        return {"before": {row.name: before}, "after": {row.name: given.action}}

    def hold_on(self, name: str) -> bool:
        """As the command line says at the start (``--stop-on``); False where no watchdog of that name can."""
        if name in HOLDING:
            self._actions[name] = "pause"
            self._choose()
        return name in HOLDING

    def take(self, message: Records | Metrics) -> None:
        """A block goes to the hub: what it shows."""
        if isinstance(message, Records):
            self._records = [*self._records[1 - MAX_RECORDS :], message]
        for found in self._free.take(message):
            self._found(found)

    def look_before(self, optimizer: Any) -> None:
        """A step begins: at its gradients. Holds the thread here, where that was asked for."""
        step = self._place().step
        found = self._steps.look_before(optimizer, step)
        if found is not None:
            self._found(found, before=True)
        self._random = RandomStates.take(self._random)

    def diagnose(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """The command ``diagnose``: back to before the newest finding, and that step again under observation."""
        severe = [finding for finding in self.findings if finding.alarm.startswith("nonfinite")]
        step = severe[-1].step if severe else moment.step
        entry = self._checkpoints.before(step)
        if entry is None:
            raise Refused(f"no checkpoint from before step {step} is in memory",
                          "keep some: onthefly ctl SESSION keep --every 100")  # fmt: skip
        self._checkpoints.back_to(entry, by)
        start = entry.snapshot.moment

        def begin(moment: Place) -> None:
            self._origin = Origin(self._guard)
            self._origin.enter()
            self._gate.plan(Plan("the end of the step", by, lambda now: now.point > moment.point, same=True, act=end))

        def end(moment: Place) -> None:
            self._over(by, step)

        if start.step >= step:
            begin(start)
        else:
            self._gate.plan(Plan(f"step {step}", by, lambda now: now.step >= step, same=True, act=begin))
        self._gate.go_on(by)
        return {"from": entry.name, "watched": f"step {step}"}

    def _over(self, by: str, step: int) -> None:
        """The step that was watched is over, or its gradients are about to be stepped with."""
        origin, self._origin = self._origin, None
        if origin is None:
            return
        origin.exit()
        event = origin.found
        text = event.text if event is not None else "all numbers were finite this time"
        text = f"step {step}: {text}"
        self._tell(Finding(alarm="origin", step=step, time=time.time(), text=text))
        if event is not None:
            self._fly("origin", step, text, event)
        entry = self._checkpoints.before(step)
        if entry is not None:  # a composite may take another path under observation: its bits are not kept
            self._checkpoints.back_to(entry, by)
        self._gate.hold(by, text)

    def _look_for_dead(self, settings: dict[str, float], moment: Place) -> None:
        models = [model for model in roots() if any(True for _ in model.parameters())]
        watches = [activations.DeadActivations(**settings) for _ in models]
        if not sum(watch.install(model) for watch, model in zip(watches, models)):
            raise Refused("no ReLU-like module is there to be watched", "functions (F.relu) cannot be")

        def act(now: Place) -> None:
            for watch in watches:
                for found in watch.remove(moment.step):
                    self._found(found)

        self._gate.plan(Plan("dead activations", "", lambda now: now.point > moment.point, same=True, act=act))

    def _choose(self) -> None:
        on = {name: self._settings[name] for name, action in self._actions.items() if action != "off"}
        self._free = FreeWatchdogs({name: settings for name, settings in on.items() if name in FREE})
        self._steps = steps.StepWatchdogs({name: on[name] for name in steps.NAMES if name in on}, roots)
        if self._plan is not None and self._plan in self._gate.plans:
            self._gate.plans.remove(self._plan)
        self._plan = None
        if self._steps.after:
            self._watch_parameters()
        self._changed()

    def _watch_parameters(self) -> None:
        """Look after each step; the gate asks a plan at each pause point."""

        def reached(moment: Place) -> bool:
            found = self._steps.look_after(self._optimizers.living(), moment.step - 1)
            if found is not None:
                self._found(found)
            return False

        self._plan = Plan(nonfinite.PARAMETER, "", reached, same=True, act=lambda moment: None)
        self._gate.plan(self._plan)

    def _found(self, found: Found, *, before: bool = False) -> None:
        """Tell it, and do what its watchdog is to do."""
        name = found.name if found.name in self._actions else next(
            row.name for row in ROWS if found.name in row.also
        )  # fmt: skip
        action = self._actions[name]
        late = self._place().step - found.step - (0 if before else 1)
        text = found.text + (f"; seen {late} steps later" if late > 0 else "")
        flight = self._fly(found.name, found.step, text, None, found) if found.severity == "severe" else ""
        self._counts[name] = self._counts.get(name, 0) + 1
        self._tell(Finding(alarm=found.name, step=found.step, time=time.time(), text=text, flight=flight))
        if action == "pause" and before:
            self._gate.hold(f"watchdog {name}", f"{text}: held before the step, nothing was changed by it")
            self._serve()
        elif action in ("pause", "rewind"):
            self._gate.plan(Plan(name, f"watchdog {name}", lambda moment: True, same=False,
                                 act=lambda moment: self._act(action, found, text)))  # fmt: skip

    def _act(self, action: str, found: Found, text: str) -> None:
        by = f"watchdog {found.name}"
        if action == "rewind":
            entry = self._checkpoints.before(found.step)
            try:
                if entry is None:
                    raise Refused("no checkpoint from before it is in memory")
                self._checkpoints.back_to(entry, by)
                text += f"; went back to {entry.name}"
            except Refused as refusal:
                text += f"; could not go back: {refusal.message}"
        self._gate.hold(by, text)

    def _tell(self, finding: Finding) -> None:
        self.findings = [*self.findings[1 - MAX_FINDINGS :], finding]
        entry = self._checkpoints.before(finding.step)
        remedy = f"the newest checkpoint before it: {entry.name}" if entry is not None else ""
        self._notice(finding.text, remedy)
        self._gate.changed()

    def _fly(self, alarm: str, step: int, text: str, event: Event | None, found: Any = None) -> str:
        """Write the flight record of that step; its name, or empty where the disk takes none.

        The first one stays: what a step gives when it is taken again under observation is recorded less well.
        """
        name = f"{alarm}-{step}"
        if (self._folder / f"{name}.json").exists():
            return name
        batches: list[Batch] = []
        for records in self._records:
            for loss in losses(records):
                batch = batch_of(records, loss.backward) if loss.step == step else None
                batches += [batch] if batch is not None else []
        entry = self._checkpoints.before(step)
        session = self._folder.parent.name
        record = FlightRecord(
            finding=found or _as_found(alarm, step, text), batches=tuple(batches), position=-1,
            random_states=_bytes(self._random) if self._random is not None else {}, origin=event,
            replay=f"onthefly ctl {session} diagnose" if entry is not None else "",
            versions={"torch": str(torch.__version__), "python": platform.python_version()},
        )  # fmt: skip
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._folder / f"{name}.json").write_text(record.to_json(), encoding="utf-8")
        except OSError as error:
            self._notice(f"the flight record of step {step} could not be written: {error.strerror}", "")
            return ""
        return name


def _as_found(alarm: str, step: int, text: str) -> Found:
    from onthefly.alarms.finding import Finding as Found

    return Found(alarm, step, text, "severe")


def _bytes(states: RandomStates) -> dict[str, bytes]:
    """The states as bytes, by the name of the generator: tensors and arrays as they lie in memory, the rest as text."""
    found: dict[str, bytes] = {}
    for name, state in states.tree().items():
        parts = state if isinstance(state, (list, tuple)) else [state]
        for place, part in enumerate(parts):
            key = f"{name}:{place}" if len(parts) > 1 else name
            if isinstance(part, torch.Tensor):
                found[key] = bytes(part.cpu().tolist())  # a state is uint8
            else:
                found[key] = part.tobytes() if hasattr(part, "tobytes") else repr(part).encode()
    return found
