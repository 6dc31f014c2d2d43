"""What agents say is under control, bounded before it is kept: it goes to every client, and into ``session.json``."""

from __future__ import annotations

import math
from typing import Any, Optional

import msgspec

from onthefly.hub.columns import BadColumns
from onthefly.protocol import Controls

MAX_BYTES = 256 * 1024
MAX_TEXT = 500
MAX_ROWS = {"pauses": 100, "groups": 200, "frozen": 200, "checkpoints": 500, "watches": 50, "findings": 100}
"""Of each list; of findings the newest are kept, of the others the first."""

MAX_VALUES = 50
"""Entries of a dictionary."""

MAX_TRIAL = 1000
"""Steps of a trial whose losses are shown."""


def bounded(controls: Controls) -> Controls:
    """The same with short lists and texts, without numbers that JSON lacks; ``BadColumns`` where that is not enough.

    ``session.json`` must be readable again: a NaN would be written as null, and where a number has to stand, that costs
    the whole session. What is cut is what no page shows: the agents themselves keep far fewer.
    """
    for name, most in MAX_ROWS.items():
        rows = getattr(controls, name)
        setattr(controls, name, rows[-most:] if name == "findings" else rows[:most])
    for group in controls.groups:
        group.values = finite(group.values)
    for watch in controls.watches:
        watch.parameters = finite(watch.parameters)
    controls.keep = {name: value for name, value in finite(controls.keep).items() if _is_plain(value)}
    trial = controls.trial
    if trial is not None:
        trial.without = [_number(loss) for loss in trial.without[:MAX_TRIAL]]
        trial.changed = [_number(loss) for loss in trial.changed[:MAX_TRIAL]]
        trial.effect, trial.low, trial.high = _number(trial.effect), _number(trial.low), _number(trial.high)
    if not all(math.isfinite(shown.time) for shown in (*controls.checkpoints, *controls.findings)):
        raise BadColumns("a time that is none")
    try:
        kept = msgspec.convert(cut(msgspec.to_builtins(controls)), Controls)
        size = len(msgspec.json.encode(kept))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadColumns(f"controls that cannot be shown: {error}") from error
    if size > MAX_BYTES:
        raise BadColumns(f"controls of {size} bytes are over the limit of {MAX_BYTES}")
    return kept


def _number(value: Optional[float]) -> Optional[float]:
    return value if value is not None and math.isfinite(value) else None


def finite(values: dict[str, Any]) -> dict[str, Any]:
    """What has no NaN or infinity, at most :data:`MAX_VALUES` of it."""
    kept = [
        (name, value) for name, value in values.items()
        if all(math.isfinite(part) for part in (value if isinstance(value, list) else [value])
               if isinstance(part, float))
    ]  # fmt: skip
    return dict(kept[:MAX_VALUES])


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def cut(value: Any) -> Any:
    """With its texts cut short, names included."""
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if isinstance(value, list):
        return [cut(item) for item in value]
    if isinstance(value, dict):
        return {name[:MAX_TEXT]: cut(item) for name, item in value.items()}
    return value
