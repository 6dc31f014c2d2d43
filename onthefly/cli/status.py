"""``onthefly ctl SESSION status``: what is under control, in words."""

from __future__ import annotations

import time
from typing import Any


def told(session: dict[str, Any]) -> str:
    """A paragraph for each thing that there is."""
    shown: dict[str, Any] = session["controls"]
    by = f" by {session['by']}" if session["by"] else ""
    reason = f": {session['reason']}" if session["reason"] else ""
    lines = [
        f"{session['id']}  {session['name']}  run {session['run']}",
        f"{session['state']}{by} for {_age(session['since'])}{reason}",
        f"step {session['step']}, epoch {session['epoch']}",
    ]
    ranks = [rank for rank in session["ranks"] if rank["trains"]]
    if len(ranks) > 1:
        lines += [f"  rank {rank['rank']}: {rank['state']}, step {rank['step']}"
                  f"{'' if rank['connected'] else ', not connected'}" for rank in ranks]  # fmt: skip
    for heading, rows in (
        ("runs", [_run(one) for one in shown["runs"]]),
        ("pauses to come", [f"{pause['text']} ({pause['by']})" for pause in shown["pauses"]]),
        ("parameter groups", [_group(group) for group in shown["groups"]]),
        ("changed", _changes(shown)),
        ("checkpoints", [_checkpoint(checkpoint) for checkpoint in shown["checkpoints"]]),
        ("kept by themselves", [f"{name.replace('_', ' ')}: {value}" for name, value in shown["keep"].items()]),
        ("watchdogs", [_watch(watch) for watch in shown["watches"]]),
        ("found", [f"step {found['step']}: {found['text']}" for found in shown["findings"]]),
        ("trial", _trial(shown["trial"])),
        (
            "receipts",
            [
                f"{one['run']} from step {one['from_step']} of {one['from_run']}: {one['text']}"
                for one in session["receipts"]
            ],
        ),
    ):
        if rows:
            lines += [f"{heading}:", *(f"  {row}" for row in rows)]
    return "\n".join(lines)


def _age(since: float) -> str:
    seconds = max(time.time() - since, 0.0)
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else (
        f"{seconds / 3600:.0f} h")  # fmt: skip


def _number(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_number, value))
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _group(group: dict[str, Any]) -> str:
    values = " ".join(f"{name}={_number(value)}" for name, value in group["values"].items())
    which = f"{group['kind']} (optimizer {group['optimizer']}) group {group['group']}"
    return f"{which}, {group['parameters']:,} parameters: {values}"


def _changes(shown: dict[str, Any]) -> list[str]:
    rows = [f"gradients are clipped by {shown['clip']}"] if shown["clip"] else []
    if shown["frozen"]:
        rows.append(f"{', '.join(shown['frozen'])} frozen ({shown['frozen_parameters']:,} parameters)")
    if shown["subset"] is not None:
        subset = shown["subset"]
        rows.append(f"{subset['loader']} draws with {subset['mode']} of {subset['count']:,} samples")
    return rows


def _run(one: dict[str, Any]) -> str:
    kept = f", kept as {one['checkpoint']}" if one["checkpoint"] else ""
    back = "current" if one["current"] else "can be switched to" if one["back"] else f"no way to it: {one['reason']}"
    return f"{one['run']}: step {one['step']}{kept}; {back}"


def _checkpoint(kept: dict[str, Any]) -> str:
    state = f"{kept['state']}: {kept['fault']}" if kept["fault"] else kept["state"]
    back = (
        "can be rewound to" if kept["back"] else f"no way back: {kept['reason']}" if kept["reason"] else "no way back"
    )
    size = f"{(kept['disk'] or kept['memory']) / 1e6:.1f} MB"
    return f"{kept['name']}: step {kept['step']}, epoch {kept['epoch']}, {size}, {state}; {back}"


def _watch(watch: dict[str, Any]) -> str:
    given = "".join(f" {name}={_number(value)}" for name, value in watch["parameters"].items())
    return f"{watch['alarm']}: {watch['action']}{given} - {watch['text']} ({watch['cost']}), found {watch['found']}"


def _trial(trial: dict[str, Any] | None) -> list[str]:
    if trial is None:
        return []
    rows = [f"{trial['change']}, {trial['steps']} steps from step {trial['start']}: {trial['phase']}"]
    if trial["effect"] is not None:
        rows.append(f"effect on the loss {_number(trial['effect'])} "
                    f"({_number(trial['low'])} to {_number(trial['high'])})")  # fmt: skip
    return [*rows, trial["verdict"]] if trial["verdict"] else rows
