"""Every command, typed: what it is called, what it takes, and where its arguments are refused.

The one table :data:`COMMANDS` serves the hub (which checks what a client sends), the agent, the command line (its
options are made from it), the OpenAPI document and the dashboard.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union  # msgspec evaluates these, on Python 3.9 too

import msgspec

from onthefly.protocol.asking import Scan, Test
from onthefly.protocol.given import (
    MAX_SAMPLES,
    AlarmAction,
    CommandArguments,
    Count,
    Index,
    Name,
    Place,
    Positive,
    Seconds,
    SignalName,
    Text,
    Weight,
)
from onthefly.protocol.health import Health
from onthefly.protocol.runs import Compare, Fork, Merge, Switch
from onthefly.protocol.words import Whole


class Pause(CommandArguments):
    """Hold the script: after the step that runs, or at a later moment; several moments may be set at once."""

    step: Union[Whole, None] = None
    """After that many finished steps."""
    epoch: Union[Whole, None] = None
    """After the first step of that epoch."""
    when: Text = ""
    """As soon as this holds after a step: an expression over metrics, as ``loss < 0.1 and epoch >= 2``."""
    because: Text = ""
    """Why, for whoever sees that it is paused."""
    release: bool = False
    """Give the accelerator's memory back meanwhile: what the script's tensors hold waits in the host's memory."""


class Resume(CommandArguments):
    """Let the script go on."""


class Step(CommandArguments):
    """Let the script do so many steps, and hold it again."""

    steps: Count = 1


class Cancel(CommandArguments):
    """End the test, scan or health check that runs, keeping its results so far; else forget pauses set for later."""


class Stop(CommandArguments):
    """End the script: by an exception at its next pause point, so that its ``finally`` and ``atexit`` run."""

    now: bool = False
    """At once, wherever it is: by SIGTERM, and SIGKILL if it is still there five seconds later."""


class Set(CommandArguments):
    """Set a number of an optimizer's parameter groups: ``lr``, ``weight_decay``, ``momentum``, ``betas``, ..."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    value: Union[float, list[float]]
    group: Place = -1
    """Which group, from 0; -1: all."""
    optimizer: Place = -1
    """Which optimizer, from 0 in the order in which they stepped first; -1: all that have this number."""


class Clip(CommandArguments):
    """Clip gradients before each step, by their norm or each by value; with neither, clip no more."""

    norm: Union[Positive, None] = None
    value: Union[Positive, None] = None


class Freeze(CommandArguments):
    """Keep parameters as they are, by name: ``encoder.*``; their gradients are left out of each step."""

    pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Unfreeze(CommandArguments):
    """Let parameters train that :class:`Freeze` keeps."""

    pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] = "*"


class Subset(CommandArguments):
    """Which samples are drawn from now on, by their index in the data set."""

    mode: Literal["exclude", "include", "weights", "all"]
    """Leave those out; draw only those; draw those more or less often; draw all again, as the script does."""
    samples: Annotated[list[Index], msgspec.Meta(max_length=MAX_SAMPLES)] = []
    weights: Annotated[list[Weight], msgspec.Meta(max_length=MAX_SAMPLES)] = []
    """One for each of ``samples``, or one for all: how often each is taken on average when it is drawn once."""
    loader: Annotated[str, msgspec.Meta(max_length=100)] = ""
    """Which loader (``loader0``, ...); empty: the one that is trained on."""
    add: bool = False
    """To what was given before; else in its place."""


class Checkpoint(CommandArguments):
    """Keep the state of this moment, in memory to go back to and on disk."""

    name: Name = ""
    """Empty: after the run and the step."""


class Keep(CommandArguments):
    """When checkpoints are made by themselves, and how many bytes they may take."""

    every: Union[Whole, None] = None
    """Every so many steps; 0: no more."""
    seconds: Union[Seconds, None] = None
    """Every so many seconds, or as long as fifty times the wait for the copy, and at the script's end; 0: no more."""
    on_pause: Union[bool, None] = None
    on_signal: Union[Annotated[list[SignalName], msgspec.Meta(max_length=10)], None] = None
    """At these signals, before what the script does at them; an empty list: at none any more."""
    memory: Union[Index, None] = None
    """Bytes in memory, batches that are kept for going back included."""
    disk: Union[Index, None] = None
    """Bytes on disk."""


class Drop(CommandArguments):
    """Delete a checkpoint."""

    checkpoint: Name


class Rewind(CommandArguments):
    """Go back to a checkpoint of this epoch, in place; the script stays paused."""

    checkpoint: Name = ""
    """Empty: the newest."""


class Reset(CommandArguments):
    """Go back to the first step, in place, if a checkpoint of then is in memory; as run ``baseline-2``, ..."""


class Trial(CommandArguments):
    """From here, so many steps without a change and so many with it on the same data; then it waits for ``choose``."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    name: Literal["set", "clip", "freeze", "unfreeze"]
    args: dict[str, Any] = {}


class Choose(CommandArguments):
    """How the script goes on after a trial: with the change, without it, or from before both (``neither``)."""

    keep: Literal["with", "without", "neither"]


class Watch(CommandArguments):
    """What a watchdog does when it finds something."""

    alarm: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    action: AlarmAction
    parameters: dict[str, float] = {}


class Diagnose(CommandArguments):
    """At a pause: run the script's next step again, and name the first operation whose result is not finite."""


class Show(CommandArguments):
    """At a pause: read these samples from a loader's data set, and describe them so that they can be drawn."""

    samples: Annotated[list[Index], msgspec.Meta(min_length=1, max_length=64)]
    loader: Annotated[str, msgspec.Meta(max_length=100)] = ""
    """Of whose data set (``loader0``, ...); empty: of the one that is trained on."""
    size: Annotated[int, msgspec.Meta(ge=8, le=512)] = 96
    """Longest side of a picture, in pixels: larger ones are made smaller."""


COMMANDS: dict[str, type[CommandArguments]] = {
    "pause": Pause, "resume": Resume, "step": Step, "cancel": Cancel, "stop": Stop,
    "set": Set, "clip": Clip, "freeze": Freeze, "unfreeze": Unfreeze, "subset": Subset,
    "checkpoint": Checkpoint, "keep": Keep, "drop": Drop, "rewind": Rewind, "reset": Reset, "trial": Trial,
    "choose": Choose, "watch": Watch, "diagnose": Diagnose, "health": Health, "test": Test, "scan": Scan,
    "show": Show, "fork": Fork, "switch": Switch, "compare": Compare, "merge": Merge,
}  # fmt: skip
"""What each command is called."""

CHANGES = frozenset({"set", "clip", "freeze", "unfreeze", "subset", "rewind", "choose", "fork", "switch", "merge"})
"""What alters training: each is journaled, and repeated by ``--replay``."""


def plain(given: CommandArguments) -> dict[str, Any]:
    """Arguments as they travel, defaults left out."""
    return {name: value for name, value in msgspec.to_builtins(given).items() if value != _default(given, name)}


def _default(given: CommandArguments, name: str) -> Any:
    return next((field.default for field in msgspec.structs.fields(given) if field.name == name), None)


def arguments(name: str, args: dict[str, Any]) -> CommandArguments:
    """Those of a command; ``ValueError`` with a text for the user where they are none of its own."""
    try:
        return msgspec.convert(args, COMMANDS[name])
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`$.", "`").replace(" - at `$`", "")) from error
