"""Frames are read and written in every Python that we support: the parts that need no torch, in each that is here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import itertools, sys
from onthefly.state import frames, stack
assert stack.known()
class At:
    taken = total = None
    calls = 0
def pause():
    At.calls += 1
    found = frames.script_frames(sys._getframe(1), lambda file: file == __file__)
    assert not frames.drivers(found)
    if At.calls == 3:
        At.taken, At.total = [frames.FrameState(one, lambda value: value) for one in found], TOTAL
    elif At.calls == 6:
        frames.check(At.taken, found)
        for state, frame in zip(At.taken, found):
            state.put_back(frame, lambda value: value)
        globals()["TOTAL"] = At.total
TOTAL = 0
def step(x):
    global TOTAL
    y = x * 2
    TOTAL += y
    pause()
    return y
def train():
    total, count = 0.5, 0
    def note():
        nonlocal count
        count += 1
    with open(__file__):
        for i, (x, z) in enumerate(zip(itertools.islice(range(2, 60, 2), 1, 20), "abcdefghijkl")):
            if i == 4:
                late = 1
            note()
            try:
                total += step(x)
            finally:
                seen.append((i, x, z, total, count, TOTAL, "late" in dir()))
    return total
def walked():
    n = 0
    for x in [5, 6, 7, 8, 9, 10, 11, 12]:
        n += step(x)
        yield n
def outer():
    got = yield from walked()
    return got
seen = []
train()
first, rest = seen[:6], seen[5:]
assert [row[0] for row in seen] == [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], seen
assert seen[2:5] == seen[5:8] and not seen[2][-1] and seen[4][-1], seen
At.calls, TOTAL = 0, 0
ticks = [(i, n) for i, n in enumerate(outer())]
assert ticks == [(0, 10), (1, 22), (2, 36), (3, 52), (4, 70), (2, 36), (3, 52)] + ticks[7:], ticks
assert len(ticks) == 11 and ticks[-1] == (7, 136), ticks
At.calls = 0
def summed():
    return sum(step(x) for x in range(3))
try:
    summed()
except AssertionError:
    print("all right")
"""


@pytest.mark.parametrize("minor", [9, 10, 11, 12, 13])
def test_frames(minor: int, tmp_path: Path) -> None:
    python = sys.executable if sys.version_info[1] == minor else _found(f"python3.{minor}")
    if not python:
        pytest.skip(f"no Python 3.{minor} here")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run(
        [python, "-W", "error", str(path)], env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("all right\n", "")


def _found(name: str) -> str:
    """The interpreter itself: a version manager puts stand-ins on the path, which may lead to it or to none."""
    path = shutil.which(name)
    if path is None:
        return ""
    asked = subprocess.run([path, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
    return asked.stdout.strip()
