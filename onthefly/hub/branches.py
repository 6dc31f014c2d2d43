"""What agents say of runs that go on from others: bounded before it is kept, and put among those of its session."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from onthefly.hub.columns import BadColumns
from onthefly.hub.controls import cut, finite
from onthefly.protocol import RUN_PATTERN, Branch
from onthefly.protocol.runs import MAX_RUNS

if TYPE_CHECKING:
    from onthefly.protocol import Described, Session

MAX_BRANCHES = 200
MAX_TEXT = 500
MAX_NUMBER = 1 << 53


def checked(branch: Branch) -> Branch:
    """The same with short texts and numbers that JSON has; ``BadColumns`` where it is the run of nothing.

    A selection that is too long ends in dots, so that no part of it is taken for the whole.
    """
    names = [branch.run, branch.parent, *branch.parents]
    if not all(RUN_PATTERN.fullmatch(name) for name in names) or branch.run in names[1:] or len(names) > MAX_RUNS + 2:
        raise BadColumns("a branch without a run, or of a run that is none")
    if branch.checkpoint and not RUN_PATTERN.fullmatch(branch.checkpoint):
        raise BadColumns("a branch of a checkpoint that is none")
    numbers = (branch.step, branch.samples, branch.trained)
    if not all(0 <= number <= MAX_NUMBER for number in numbers) or not math.isfinite(branch.time):
        raise BadColumns("a branch with a number that is none")
    if len(branch.selection) > MAX_TEXT:
        branch.selection = f"{branch.selection[: MAX_TEXT - 4]} ..."
    branch.changes = finite(branch.changes)
    try:
        kept = msgspec.convert(cut(msgspec.to_builtins(branch)), Branch)
        msgspec.json.encode(kept)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadColumns(f"a branch that cannot be shown: {error}") from error
    if not all(_is_number(value) for value in kept.changes.values()):
        raise BadColumns("a branch with changes that are no numbers")
    return kept


def _is_number(value: Any) -> bool:
    parts: list[Any] = value if isinstance(value, list) else [value]
    return len(parts) <= MAX_RUNS and all(isinstance(part, (int, float)) for part in parts)


def show(info: Session, message: Described) -> None:
    """Put it among the session's, in the place of what was said of that run before."""
    told = message.branch
    if told is None:
        if not RUN_PATTERN.fullmatch(message.parent) or message.parent == message.run:
            return
        told = Branch(run=message.run, parent=message.parent, step=message.step)
    place = next((place for place, one in enumerate(info.branches) if one.run == told.run), None)
    if place is None:
        info.branches = [*info.branches, told][:MAX_BRANCHES]
    elif message.branch is not None:
        info.branches[place] = told


def line(info: Session, run: str) -> list[tuple[str, int]]:
    """The runs that one goes on from, each with the steps of it that count; of a merge, its first parent's."""
    found: list[tuple[str, int]] = []
    step = 1 << 62
    for branch in reversed(info.branches):
        if branch.run == run:
            run, step = branch.parent, min(step, branch.step)
            found.append((run, step))
    return found


def parents(info: Session) -> dict[str, list[str]]:
    """Of each run that goes on from others: which."""
    return {branch.run: branch.parents or [branch.parent] for branch in info.branches}
