"""What users install: the wheel holds what it must, old Pythons can read it, the words in README and docs are true."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from onthefly.cli.main import COMMANDS
from tests.conftest import REPOSITORY

DOCS = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]


def test_the_wheel(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=REPOSITORY, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("onthefly_ai-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "onthefly/_shim/sitecustomize.py" in names
    assert "onthefly/hub/static/index.html" in names
    assert any(name.startswith("onthefly/hub/static/assets/") for name in names)
    # A top-level sitecustomize in site-packages would run at every interpreter start of the user's.
    assert not [name for name in names if name.startswith("sitecustomize")]
    assert not (REPOSITORY / "sitecustomize" / "__init__.py").exists()
    entries = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "onthefly = onthefly.__main__:main" in entries


def old_python() -> str:
    """A Python 3.9, if there is one."""
    kept = sorted((Path.home() / ".pyenv" / "versions").glob("3.9*/bin/python"))
    if kept:
        return str(kept[-1])
    found = shutil.which("python3.9")
    works = found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0
    return found if found and works else ""


@pytest.mark.skipif(not old_python(), reason="no Python 3.9 on this machine")
def test_python_3_9_reads_every_file_and_imports_what_needs_nothing() -> None:
    code = (
        "import ast, pathlib, sys\n"
        "files = [*pathlib.Path('onthefly').rglob('*.py'), *pathlib.Path('sitecustomize').rglob('*.py')]\n"
        "for path in files:\n"
        "    compile(path.read_text(encoding='utf-8'), str(path), 'exec')\n"
        "import onthefly, onthefly.settings, onthefly.errors, onthefly.bootstrap, onthefly.launch, onthefly.version\n"
        "import onthefly.patching.imports, onthefly.patching.slots, onthefly.core.meter, onthefly.link.proof\n"
        "import onthefly.cli.main, onthefly.cli.run\n"
        "print(onthefly.__version__, sorted(m for m in sys.modules if m in ('msgspec', 'torch', 'numpy')))\n"
    )
    done = subprocess.run([old_python(), "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")


def test_docs_name_every_command_and_setting() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCS)
    for command in COMMANDS:
        assert f"onthefly {command}" in text, command
    source = (REPOSITORY / "onthefly" / "settings.py").read_text(encoding="utf-8")
    for variable in set(re.findall(r'"(ONTHEFLY_[A-Z_]+)"', source)):
        assert variable in text, variable


def test_docs_name_no_command_that_is_not_there() -> None:
    for path in DOCS:
        for block in re.findall(r"```(?:bash|console)?\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            for command in re.findall(r"^\$? ?onthefly (\w+)", block, re.MULTILINE):
                assert command in COMMANDS, f"{path.name}: onthefly {command}"


def test_the_shim_lies_where_the_launcher_looks() -> None:
    from onthefly.launch import shim_folder

    assert (shim_folder() / "sitecustomize.py").is_file()
