"""The launcher and the shim: when they stand aside, how they are named, what they tell. Likeness: tests/parity."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from onthefly.patching import imports
from tests.conftest import FULL, Home, wait_for
from tests.lean import LEAN
from tests.parity.running import both, differences, execute
from tests.parity.seen import SEEN

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_options_that_keep_us_out_are_told(home: Home, option: str) -> None:
    (home.folder / "s.py").write_text("print('runs')")
    ours = home.run(sys.executable, "-m", "onthefly", "run", "--", sys.executable, option, "s.py")
    assert ours.code == 0
    assert ours.out == b"runs\n"
    assert ours.err.count(b"\n") == 1
    assert b"unobserved" in ours.err


@pytest.mark.parametrize("options", [("-sE",), ("-X", "dev", "-BI"), ("-W", "error", "-S")], ids=str)
def test_options_that_keep_us_out_are_found_among_others(home: Home, options: tuple[str, ...]) -> None:
    (home.folder / "s.py").write_text("print('runs')")
    ours = home.run(sys.executable, "-m", "onthefly", "run", "--", sys.executable, *options, "s.py")
    assert (ours.code, ours.out, ours.err.count(b"unobserved")) == (0, b"runs\n", 1)


@pytest.mark.parametrize("word", ["-S", "-E", "-I"])
def test_an_option_of_the_script_keeps_nobody_out(home: Home, word: str) -> None:
    (home.folder / "s.py").write_text(SEEN)
    assert differences(*both(home, ("s.py", word))) == []


@pytest.mark.parametrize("start", [("-m", "onthefly"), ("-Bm", "onthefly"), ("-monthefly",), ("-Bmonthefly",)], ids=str)
@pytest.mark.parametrize("arguments", [("s.py", "-m", "a"), ("-m", "s", "a"), ("-c", "import s", "-m")], ids=str)
def test_however_we_are_named_we_run_once(home: Home, start: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    (home.folder / "s.py").write_text(SEEN)
    options = ("-B",) if "B" in start[0] else ()
    plain = execute(home, (sys.executable, *options, *arguments))
    assert differences(plain, execute(home, (sys.executable, *start, *arguments))) == []


def test_the_console_script_runs_once(home: Home) -> None:
    console = home.folder / "onthefly-console"
    console.write_text("import sys\nfrom onthefly.__main__ import main\nsys.exit(main())\n")
    (home.folder / "s.py").write_text(SEEN)
    for arguments in (("s.py", "-m", "a"), ("-m", "s", "a")):
        plain = execute(home, (sys.executable, *arguments))
        assert differences(plain, execute(home, (sys.executable, str(console), *arguments))) == []


ARM_FAILS = """
import sys, types
session = types.ModuleType("onthefly.sessions")
def open_session(settings):
    raise {error}
session.open_session = open_session
sys.modules["onthefly.sessions"] = session
import torch
print("goes on", torch.__name__)
"""


@pytest.mark.parametrize("error", ["KeyError(1)", "ImportError('late')", "AssertionError()", "MemoryError()"])
def test_a_session_that_cannot_open_is_one_line(home: Home, error: str) -> None:
    (home.folder / "s.py").write_text(ARM_FAILS.format(error=error))
    ours = home.run(sys.executable, "-m", "onthefly", "s.py")
    assert (ours.code, ours.out) == (0, b"goes on torch\n")
    assert ours.err.count(b"\n") == 1
    assert b"unobserved" in ours.err


def test_disabled_is_plain(home: Home) -> None:
    (home.folder / "s.py").write_text(SEEN)
    assert differences(*both(home, ("s.py",), {"ONTHEFLY_DISABLE": "1"})) == []
    assert home.hub_file() is None


TRAINS = (
    LEAN
    + """
import os, sys
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
torch.nn.functional.cross_entropy(model(torch.ones(4, 3)), torch.tensor([0, 1, 1, 0])).backward()
optimizer.step()
"""
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home, and a hub, for all sessions of this file that differ in how they end."""
    home = Home(tmp_path_factory.mktemp("shared"))
    home.start(sys.executable, "-m", "onthefly", "hub")
    home.hub()
    yield home
    home.close()


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        pytest.param("", "ended", marks=FULL),
        ("1 / 0", "crashed"),
        ("sys.exit(3)", "ended"),
        ("raise KeyboardInterrupt", "stopped"),
    ],
)
def test_how_a_script_ended_is_told(shared: Home, ending: str, state: str) -> None:
    (shared.folder / "s.py").write_text(TRAINS + ending)
    (session,) = re.findall(rb"onthefly: session (\w+)", shared.watched("s.py").err)
    path = f"sessions/{session.decode()}"
    wait_for("its end", lambda: shared.get(path)["state"] in ("ended", "crashed", "stopped"))
    assert shared.get(path)["state"] == state


def test_quiet_says_nothing(home: Home) -> None:
    (home.folder / "s.py").write_text(TRAINS)
    assert home.watched("--quiet", "s.py").err == b""


def test_runpy_would_differ(home: Home) -> None:
    """The road not taken: running the script inside our own process shows in its traceback."""
    (home.folder / "s.py").write_text("raise ValueError('of the script')")
    plain = home.python("s.py")
    inside = home.python("-c", "import runpy; runpy.run_path('s.py', run_name='__main__')")
    assert inside.err != plain.err


def test_a_difference_is_seen(home: Home) -> None:
    """What the comparisons of this house look at."""
    (home.folder / "s.py").write_text(SEEN)
    (home.folder / "t.py").write_text("import json\n" + SEEN + "sys.stderr.write('x'); open('new', 'w'); sys.exit(2)")
    plain = execute(home, (sys.executable, "s.py"))
    other = execute(home, (sys.executable, "-O", "t.py"), {"NEW": "1"}, shell='exec "$@" | cat')
    found = {words.split(" ", 1)[0] for words in differences(plain, other)}
    assert found >= {"stderr", "modules", "names", "argv", "file", "flags", "environ", "files", "command"}


def test_without_its_disguise_the_wait_for_torch_shows(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a traceback, that is, of a module that fails to import."""
    (home.folder / "poor.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(home.folder)
    shown: list[bool] = []
    for disguise in (imports._as_importlib, lambda function: function):
        monkeypatch.setattr(imports, "_as_importlib", disguise)
        monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
        imports.when_imported("poor", lambda: None)
        with pytest.raises(ZeroDivisionError) as raised:
            __import__("poor")
        shown.append(any(str(entry.path).endswith("imports.py") for entry in raised.traceback))
    assert shown == [False, True]
