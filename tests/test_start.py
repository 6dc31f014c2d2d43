"""Before the first line: a resumed process draws what the first one drew, and nothing of ours hides a script's file."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from onthefly.core import start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Home

SHIM = """
import sys
before = set(sys.modules)
from onthefly.core import start
from onthefly.patching.imports import when_imported
fault = start.begin(when_imported, None, {path!r})
print(fault or sorted(name for name in set(sys.modules) - before if not name.startswith("onthefly")))
"""

DRAWS = """
import random
print(random.random(), random.gauss(0, 1), random.getrandbits(64))
import numpy.random
print(numpy.random.rand(3).tolist(), numpy.random.randn())
"""

KEEPS = """
open({path!r}, "wb").write(start.members()["start.json"])
"""


def drawn(home: Home, path: str, *more: str) -> list[str]:
    """What a process prints that begins as ``path`` says."""
    (home.folder / "draws.py").write_text(SHIM.format(path=path) + DRAWS + "".join(more))
    ended = home.python("draws.py")
    assert ended.err == b""
    return ended.out.decode().splitlines()


def test_a_process_that_begins_as_another_draws_the_same(home: Home) -> None:
    path = str(home.folder / "start.json")
    first = drawn(home, "", KEEPS.format(path=path))
    assert first[0] == "[]", "the shim imported something"
    again = drawn(home, path, KEEPS.format(path=path + ".2"))
    assert again == first
    assert drawn(home, "") != first
    one, two = (json.loads((home.folder / name).read_text()) for name in ("start.json", "start.json.2"))
    assert one == two, "a process that was begun so hands on the same"
    assert one["command"] == [sys.executable, "draws.py"]
    assert one["cwd"] == str(home.folder)


def test_what_the_script_seeds_itself_wins(home: Home) -> None:
    path = str(home.folder / "start.json")
    drawn(home, "", KEEPS.format(path=path))
    seeded = "random.seed(3); numpy.random.seed(4); print(random.random(), numpy.random.rand())"
    assert drawn(home, path, seeded)[-1] == drawn(home, "", seeded)[-1]


def test_a_file_of_the_scripts_with_that_name_is_left_alone(home: Home) -> None:
    path = str(home.folder / "start.json")
    drawn(home, "", KEEPS.format(path=path))
    (home.folder / "random.py").write_text("def getstate():\n    print('asked')\nsetstate = seed = getstate\n")
    (home.folder / "own.py").write_text(
        SHIM.format(path=path) + "import random\nprint(random.__file__, start._recorded)"
    )
    ended = home.python("own.py")
    assert ended.out.decode().splitlines()[1:] == [f"{home.folder / 'random.py'} {{}}"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-10], "not whole"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "another version"),
        (lambda text: text.replace(' "random": "', ' "random": "zz'), "literal"),
        (lambda text: text.replace(' "random": "', ' "random": "00000000'), "none"),
        (lambda text: text + " " * start.MAX_BYTES, "more than"),
        (lambda text: text.replace("1", "é", 1), "ascii"),
    ],
    ids=["torn", "version", "no number", "too long", "too large", "not ASCII"],
)  # fmt: skip
def test_what_is_no_start_is_refused(home: Home, damage: Callable[[str], str], said: str) -> None:
    path = home.folder / "start.json"
    drawn(home, "", KEEPS.format(path=str(path)))
    path.write_text(damage(path.read_text()), encoding="utf-8")
    assert start.begin(lambda name, callback: pytest.fail("it was begun"), None, str(path)).count(said) == 1


def test_a_string_of_the_command_line_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "_about", {})
    path = tmp_path / "start.json"
    spoofed = {"format": 1, "command": ['random": "00:0:', '\n "random": "00:0:'], "cwd": '"random": "0:0:'}
    path.write_text(json.dumps(spoofed, indent=1))
    begun: list[str] = []
    assert start.begin(lambda name, callback: begun.append(name), None, str(path)) == ""
    assert begun == ["random", "numpy.random"]
    assert start.read(str(path))["command"] == spoofed["command"]
