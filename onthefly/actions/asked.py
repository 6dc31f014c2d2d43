"""What the command line asks for, from the first step on: watchdogs that hold, checkpoints, a journal's changes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onthefly.actions import journal
from onthefly.actions.watching import HOLDING
from onthefly.core.signal_names import parse
from onthefly.errors import UsageError, outcome, report
from onthefly.protocol import arguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from onthefly.actions.control import Control
    from onthefly.core.gate import Place

AUTOSAVED = ("SIGTERM", "SIGUSR1")
"""What announces the end of a job (SLURM, a machine that is taken back): ``--autosave`` saves at these."""


def stop_on(control: Control, names: str) -> None:
    """Have these watchdogs, by comma, hold the script where they find something."""
    for name in filter(None, map(str.strip, names.split(","))):
        if not control.watchdogs.hold_on(name):
            known = ", ".join(HOLDING)
            report(f"--stop-on: there is no watchdog {name!r} that can hold the script; known: {known}")


def keep_safe(control: Control, place: Place, signals: str, seconds: float) -> None:
    """Make checkpoints at these signals, by comma, and by the clock: then at those that announce an end, too."""
    try:
        names = parse(signals)
    except UsageError as error:
        report(f"--save-on: {error}")
        names = []
    if seconds > 0:
        names += [name for name in AUTOSAVED if name not in names and hasattr(signal, name)]
    if names:
        control.signals.expect(names)
        given = arguments("keep", {"on_signal": names, "seconds": max(seconds, 0.0)})
        control.checkpoints.keep(given, place, "")


def keep_every(control: Control, place: Place, steps: int) -> None:
    """Make a checkpoint every so many steps; :class:`~onthefly.errors.UsageError` where that is none."""
    try:
        given = arguments("keep", {"every": steps})
    except ValueError as error:
        raise UsageError(f"a checkpoint every {steps!r} steps: {error}", "give a whole number") from error
    control.checkpoints.keep(given, place, "")


def replay(control: Control, path: str, notice: Callable[[str, str], None]) -> None:
    """Have the changes of that journal made again, each at its moment."""
    entries, fault = outcome(journal.read, Path(path))
    if fault is not None:
        report(f"nothing is replayed: {fault}")
        return

    def again(entry: dict[str, Any], place: Place) -> None:
        """One change, at its moment; where it cannot be made, the user is told, and the script goes on."""
        try:
            given = arguments(entry["name"], entry["args"])
        except ValueError as error:
            given, fault = None, error
        else:
            _, fault = outcome(control.gate.actions[entry["name"]], given, place, f"{entry.get('by', '')} (replay)")
        if fault is not None:
            notice(f"{entry['name']} of the journal was not repeated at step {place.step}: {fault}", "")

    journal.plan(control.gate, entries, again)
