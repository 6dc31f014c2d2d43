"""Interrupts a script, resumes it in a fresh process, and says whether it ended as one that was never interrupted."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from tests.resume.compare import STEP, differences
from tests.resume.running import LAUNCHED, Bench, Cut, Ran

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

    from tests.resume.cases import Case

EXACT, UNWRITTEN, REFUSED, WRONG = "exact", "refused when written", "refused at the resume", "WRONG"
REFUSED_CODE = 5


class Result(NamedTuple):
    """What became of one interruption, or of a chain of them."""

    verdict: str
    cuts: tuple[Cut, ...]
    detail: str = ""
    """Why it was refused, or what differs; of an exact one, archives whose values are equal and whose bytes are not."""
    said: str = ""
    """What OnTheFly said at the last resume."""

    @property
    def sound(self) -> bool:
        """Whether it is the same, or was refused with a reason."""
        return self.verdict != WRONG


def prove(
    case: Case,
    cuts: Sequence[Cut],
    folder: Path,
    whole: Ran | None = None,
    home: Path | None = None,
    launched: bool = LAUNCHED,
) -> Result:
    """Interrupt at each of ``cuts`` in turn, resume each time, and compare the end with ``whole`` (a plain run)."""
    with Bench(folder, case, home, launched) as bench:
        return judge(case, cuts, bench, whole or bench.plain())


def prove_on(
    case: Case, points: Sequence[int], folder: Path, home: Path | None = None, launched: bool = LAUNCHED
) -> list[Result]:
    """Make a checkpoint at each of ``points`` and go on to the end; resume from each, and compare with that end.

    For scripts that nobody seeded, and the way that takes the fewest processes.
    """
    with Bench(folder, case, home, launched) as bench:
        whole = bench.watched(Cut(points[0], "on", more=tuple(points[1:])))
        return [_resumed_on(case, Cut(point, "on"), bench, whole) for point in points]


def _resumed_on(case: Case, cut: Cut, bench: Bench, whole: Ran) -> Result:
    refusal = _not_to_be_resumed(bench, whole, (cut,))
    if refusal is not None:
        return refusal
    bench.put(whole.files)
    return _judged(case, whole, None, bench.watched(None, bench.checkpoint(cut.point)), (cut,))


def total(case: Case, whole: Ran) -> int:
    """Pause points of a run."""
    return len(STEP.findall(whole.out)) * case.points


def drawn(case: Case, whole: Ran, chance: random.Random) -> list[list[Cut]]:
    """Chains of cuts at random places: each way once, and two cuts that follow closely on each other."""
    last = total(case, whole) - 1

    def point(first: int = 1, end: int = last) -> int:
        return chance.randint(min(first, end), end)

    one = point(1, last - 6)
    two = point(one + 1, min(one + 5, last))
    return [
        [Cut(point(), "hold")], [Cut(point(1, last - 3), "kill", chance.randint(1, 3))],
        [Cut(point(1, last - 2), "stop", chance.randint(0, 2))], [Cut(one, "hold"), Cut(two, "hold")],
    ]  # fmt: skip


def judge(case: Case, cuts: Sequence[Cut], bench: Bench, whole: Ran) -> Result:
    """What becomes of that chain of cuts on that bench."""
    done: tuple[Cut, ...] = ()
    before: str | None = ""
    ran = bench.watched(cuts[0])
    for place, cut in enumerate(cuts):
        done = (*done, cut)
        before = before + ran.out if before is not None and cut.way == "hold" else None
        if before is not None and not whole.out.startswith(before):
            return Result(WRONG, done, "what was printed before the cut differs")
        refusal = _not_to_be_resumed(bench, ran, done)
        if refusal is not None:
            return refusal
        then = cuts[place + 1] if place + 1 < len(cuts) else None
        ran = bench.watched(then, bench.usable(cut.point))
        if _refused(ran):
            break
    return _judged(case, whole, before, ran, done)


def _not_to_be_resumed(bench: Bench, ran: Ran, cuts: tuple[Cut, ...]) -> Result | None:
    """Where the process made no checkpoint, or one that says why nothing can be resumed from it."""
    try:
        manifest = json.loads((bench.usable(cuts[-1].point) / "manifest.json").read_bytes())
    except FileNotFoundError:
        return Result(WRONG, cuts, f"no checkpoint was made; exit code {ran.code}: {ran.err[-500:]}")
    reason = manifest.get("resume", "")
    return Result(UNWRITTEN, cuts, reason) if reason else None


def _refused(ran: Ran) -> bool:
    return ran.code == REFUSED_CODE and not ran.out and bool(ran.ours)


def _judged(case: Case, whole: Ran, before: str | None, ran: Ran, cuts: tuple[Cut, ...]) -> Result:
    said = "; ".join(line.partition(": ")[2].strip() for line in ran.ours if "dashboard" not in line)
    if _refused(ran):
        return Result(REFUSED, cuts, said)
    point, each = cuts[-1].point, case.points
    place = ((point - 1) // each, (point + each - 1) // each) if before is None else None
    found = differences(whole, before or "", ran, place)
    if found and ran.out == whole.out:
        found.insert(0, "it was not resumed: it ran from its start")
    other = [name for name, content in whole.files.items() if ran.files.get(name) != content]
    if not found and other:
        return Result(EXACT, cuts, f"{', '.join(other)}: equal values in other bytes", said)
    return Result(WRONG if found else EXACT, cuts, "; ".join(found), said)


def replayed(result: Result) -> int | None:
    """How many steps ran again before the script was where it had been, if OnTheFly said so."""
    found = re.search(r"(\d+) steps? replayed", result.said)
    return int(found[1]) if found else None
