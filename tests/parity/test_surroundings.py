"""What lies around a script: files named like modules, a sitecustomize of the user's, broken packages, old torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY
from tests.parity.running import both, differences, execute
from tests.parity.seen import SEEN

if TYPE_CHECKING:
    from tests.conftest import Home

pytestmark = pytest.mark.dear

NAMES = [
    "aiohttp", "argparse", "decimal", "duckdb", "hmac", "ipaddress", "json", "logging", "msgspec", "pathlib",
    "platform", "queue", "random", "secrets", "shutil", "signal", "socket", "subprocess", "tempfile", "textwrap",
    "threading", "tokenize", "traceback", "typing", "uuid", "string", "copy", "select", "sitecustomize",
]  # fmt: skip
"""Files that users have beside their scripts; ``python -m`` itself cannot do with ``types.py`` and its like."""

SAYS = "print('the file of the user is imported')\n"


def test_files_named_like_modules_are_the_scripts(here: Home) -> None:
    for name in NAMES:
        (here.folder / f"{name}.py").write_text(SAYS + "raise SystemExit(9)\n")
    (here.folder / "s.py").write_text("import sys\nprint(len(sys.path))\n")
    assert differences(*both(here, ("s.py",))) == []


@pytest.mark.parametrize("name", ["random", "logging", "enum_", "typing", "tempfile", "traceback"])
def test_a_file_beside_the_script_is_imported_by_it(here: Home, name: str) -> None:
    (here.folder / f"{name}.py").write_text(SAYS)
    (here.folder / "s.py").write_text(f"import {name}\nprint({name}.__file__)\n")
    assert differences(*both(here, ("s.py",))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import builtins, sys; builtins.mine = 1; print(__file__)",
        "import no_such_dependency",
        "raise RuntimeError('of the user')",
        "def f(:",
        "raise SystemExit(3)",
        "raise KeyboardInterrupt",
        "raise ImportError('odd', name='sitecustomize')",
        "import sys; sys.modules['sitecustomize'] = 5",
    ],
)
def test_the_users_own_sitecustomize(here: Home, source: str) -> None:
    own = here.folder / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text(source)
    (here.folder / "s.py").write_text(
        SEEN + "print(sys.modules.get('sitecustomize'), 'mine' in dir(__builtins__))\nimport sitecustomize\n"
    )
    # The path is set below the launcher, whose own interpreter would run the user's file once more.
    command = ("/bin/sh", "-c", 'PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}own" exec "$@"', "sh", sys.executable, "s.py")
    plain = execute(here, command)
    ours = execute(here, (sys.executable, "-m", "onthefly", "run", "--", *command))
    if b"Fatal Python error" in plain.err:  # Python does not start, and shows the line of the shim that imports it
        assert (ours.code, ours.out, ours.err[-15:]) == (plain.code, plain.out, plain.err[-15:])
    else:
        assert differences(plain, ours) == []


def test_a_sitecustomize_that_imports_torch(here: Home) -> None:
    (here.folder / "sitecustomize.py").write_text("import torch")
    (here.folder / "torch.py").write_text("__version__ = '1.13'")
    (here.folder / "s.py").write_text("import torch")
    ours = execute(here, (sys.executable, "-m", "onthefly", "s.py"), {"PYTHONPATH": str(here.folder)})
    assert (ours.code, len(ours.ours())) == (0, 1)
    assert b"torch 1.13 is older than 2.2" in ours.err


def test_a_sitecustomize_that_fails_does_not_keep_us_out(here: Home) -> None:
    (here.folder / "sitecustomize.py").write_text("raise RuntimeError")
    (here.folder / "s.py").write_text("import sys\nprint([type(f).__module__ for f in sys.meta_path])\n")
    ours = execute(here, (sys.executable, "-m", "onthefly", "s.py"), {"PYTHONPATH": str(here.folder)})
    assert b"onthefly.patching.imports" in ours.out


@pytest.mark.parametrize("name", ["msgspec", "msgspec.json"])
@pytest.mark.parametrize("error", ["ImportError('broken')", "SystemExit(3)", "RuntimeError(1)", "KeyError(1)"])
def test_a_broken_package_of_ours_means_unobserved(here: Home, name: str, error: str) -> None:
    poison = here.folder / "poison"
    package, _, module = name.partition(".")
    (poison / package).mkdir(parents=True)
    (poison / package / "__init__.py").write_text("" if module else f"raise {error}\n")
    (poison / package / f"{module or 'other'}.py").write_text(f"raise {error}\n")
    (here.folder / "s.py").write_text(SEEN + "sys.exit(5)\n")
    plain, ours = both(here, ("s.py",), {"PYTHONPATH": str(poison), "PYTHONDONTWRITEBYTECODE": "1"})
    assert differences(plain, ours, lines=1) == []
    assert b"unobserved" in ours.err


TORCHES = {
    "old": ("__version__ = '1.13.1+cu117'", 1),
    "without-version": ("", 1),
    "odd-version": ("__version__ = 3", 1),
    "broken": ("raise ImportError('libcudart.so.12: cannot open shared object file')", 0),
    "failing": ("raise OSError('no such library')", 0),
    "exiting": ("raise SystemExit(4)", 0),
    "nested": ("import torch_missing_part", 0),
    "warning": ("import warnings\nwarnings.warn('of torch', stacklevel=2)\n__version__ = '1.0'", 1),
    "replacing": ("import sys, types\nsys.modules[__name__] = types.ModuleType('torch')", 1),
    "twice": ("import os\nif 'T' not in os.environ:\n    os.environ['T'] = ''\n    raise OSError\n__version__ = 1", 1),
}  # fmt: skip
"""Modules named torch: source, and how many lines we say."""

TRIES = """
import importlib.util
found = importlib.util.find_spec("torch")
print(found.origin, found.name, found.has_location, found.loader)
try:
    import torch
except OSError as error:
    import traceback
    traceback.print_exc()
    import torch
print(torch.__loader__, torch.__spec__, len(torch.__dict__), sys.modules["torch"] is torch)
print([f for f in sys.meta_path if type(f).__module__.startswith("onthefly")])
importlib.reload(torch)
"""


@pytest.mark.parametrize("kind", TORCHES)
def test_a_torch_that_is_none_for_us(here: Home, kind: str) -> None:
    source, lines = TORCHES[kind]
    (here.folder / "torch.py").write_text(source + "\n")
    (here.folder / "s.py").write_text(SEEN + TRIES)
    assert differences(*both(here, ("s.py",)), lines=lines) == []


def test_a_torch_that_is_no_package(here: Home) -> None:
    (here.folder / "torch").mkdir()
    (here.folder / "s.py").write_text("import torch\nprint(torch.__path__, torch.__spec__)\n")
    plain, ours = both(here, ("-I", "s.py"))
    assert plain.code == ours.code
    missing = (
        SEEN + "class No:\n    def find_spec(self, name, *a):\n        if name == 'torch': raise ImportError(name)\n"
    )
    (here.folder / "s.py").write_text(missing + "sys.meta_path.insert(0, No())\nimport torch\n")
    assert differences(*both(here, ("s.py",))) == []


def test_a_command_that_is_no_python_keeps_its_signals(here: Home) -> None:
    command = ("/bin/sh", "-c", "grep SigIgn /proc/$$/status; yes | head -1; exit 3")
    plain = execute(here, command)
    assert differences(plain, execute(here, (sys.executable, "-m", "onthefly", "run", "--", *command))) == []


@pytest.mark.parametrize("command", ["absent", "./folder", "./text"])
def test_a_command_that_cannot_be_run(here: Home, command: str) -> None:
    (here.folder / "folder").mkdir()
    (here.folder / "text").write_text("no program")
    plain = execute(here, (command,))
    ours = execute(here, (sys.executable, "-m", "onthefly", "run", "--", command))
    assert (ours.code, len(ours.ours())) == (plain.code, 1)


OTHERS = sorted(Path.home().glob(".pyenv/versions/*/bin/python")) or [Path(sys._base_executable)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("python", OTHERS, ids=lambda path: path.parts[-3])
def test_another_interpreter_stands_aside(here: Home, python: Path) -> None:
    if subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip("does not run here")
    (here.folder / "s.py").write_text("import sys\nprint(sys.argv, sys.path, sorted(sys.modules))\n")
    plain = execute(here, (str(python), "s.py", "a"))
    ours = execute(here, (sys.executable, "-m", "onthefly", "run", "--", str(python), "s.py", "a"))
    assert differences(plain, ours, lines=1) == []
    assert b"does not have OnTheFly installed" in ours.err


@pytest.mark.parametrize("python", OTHERS, ids=lambda path: path.parts[-3])
def test_the_launcher_runs_wherever_it_is_imported(here: Home, python: Path) -> None:
    """Without msgspec, and on a Python that is too old as well: one line, and the script."""
    version = subprocess.run([python, "-c", "import sys; print(sys.version_info >= (3, 9))"], capture_output=True)
    if version.stdout != b"True\n":
        pytest.skip("older than ours")
    (here.folder / "s.py").write_text(SEEN)
    command = (str(python), "s.py", "a")
    environment = {"PYTHONPATH": str(REPOSITORY)}
    plain = execute(here, command, environment)
    ours = execute(here, (str(python), "-m", "onthefly", *command[1:]), environment)
    assert differences(plain, ours, lines=1) == []
    assert b"msgspec" in ours.err
