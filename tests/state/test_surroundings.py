"""What a bundle tells of its script's process: true, without secrets, and gathered at no cost to the script."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
import zipfile
from typing import TYPE_CHECKING

from onthefly.state import surroundings
from onthefly.state.surroundings import FILE, Surroundings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.conftest import Home

SCRIPT = """
import os, sys, threading, torch, helper.inner
os.environ["ONTHEFLY_TEST_SECRET"] = "of the environment"
w = torch.ones(3, requires_grad=True)
o = torch.optim.SGD([w], 0.1)
for _ in range(3):
    (w ** 2).sum().backward()
    o.step()
print([name for name in ("aiohttp", "duckdb") if name in sys.modules])
"""


def test_packages_are_those_that_python_knows() -> None:
    known = {
        (one.metadata["Name"] or "").replace("_", "-").lower(): one.version
        for one in importlib.metadata.distributions()
    }
    found = surroundings.packages()
    differing = {name for name in known if name.replace(".", "-") not in {one.replace(".", "-") for one in found}}
    assert not differing
    assert found["torch"].startswith("2.")
    assert len([name for name, version in found.items() if known.get(name) == version]) > 0.9 * len(known)


def test_of_a_script(home: Home) -> None:
    (home.folder / "helper").mkdir()
    (home.folder / "helper" / "__init__.py").write_text("")
    (home.folder / "helper" / "inner.py").write_text("x = 1\n")
    (home.folder / "train.py").write_text(SCRIPT)
    ended = home.watched("train.py", "--api-key", "of the command line", "--lr", "1")
    assert (ended.code, ended.out) == (0, b"[]\n"), ended.err
    session = home.wait_state("ended")["id"]
    assert home.watched("export", session, "a.otf").code == 0
    with zipfile.ZipFile(home.folder / "a.otf") as made:
        names = [name for name in made.namelist() if name.startswith("script/")]
        assert names == ["script/helper/__init__.py", "script/helper/inner.py", "script/train.py"]
        assert made.read("script/train.py").decode() == SCRIPT
        told = json.loads(made.read("environment.json"))
        everything = b"".join(made.read(name) for name in made.namelist() if name != "script/train.py")
    assert told["argv"] == ["train.py", "--api-key", "***", "--lr", "1"]
    assert told["script"] == {"name": "train.py", "sha256": hashlib.sha256(SCRIPT.encode()).hexdigest()}
    assert told["python"]["version"] == sys.version.split()[0]
    assert told["torch"]["version"] == told["packages"]["torch"]
    assert {"name": "helper/inner.py", "member": "script/helper/inner.py", "bytes": 6,
            "sha256": hashlib.sha256(b"x = 1\n").hexdigest()} in told["files"]  # fmt: skip
    assert told["repository"] is None
    for secret in (b"of the environment", b"of the command line", home.hub()["token"].encode()):
        assert secret not in everything


def test_a_file_stays_as_it_was_when_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor saves it while the script runs; of a name that no bundle holds, the text is there all the same."""
    files = {"ok.py": "1\n", "with space.py": "2\n", "big.py": "#" * (surroundings.MAX_FILE + 1), "bad.py": "\xe9"}
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    given = [(str(tmp_path / name), name) for name in files]
    monkeypatch.setattr(surroundings, "_own_files", lambda main: iter(given))
    noted = Surroundings(tmp_path / "session")
    noted.note()
    (tmp_path / "ok.py").write_text("changed\n")
    noted.note()
    found = json.loads((tmp_path / "session" / FILE).read_text())
    assert found["texts"] == {"script/ok.py": "1\n", "script/file1.py": "2\n"}
    assert [entry["name"] for entry in found["files"]] == list(files)
    assert len(found["left_out"]) == 2
    assert [path.name for path in (tmp_path / "session").iterdir()] == [FILE]


def test_a_disk_that_takes_nothing_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Surroundings(tmp_path / "file" / "session").note()
