"""The extension in a real VS Code (code-server): what a person sees, and what the extension host makes of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import lru_cache
from typing import TYPE_CHECKING

import pytest

from scripts import chromium, vscode
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Home

HOST = REPOSITORY / "extension" / "host"
VSIX = REPOSITORY / "dist" / "onthefly.vsix"
SCRIPT = '''"""Two rings of points, told apart by a small network."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train(epochs):
    points = torch.randn(2000, 2)
    labels = (points.norm(dim=1) > 1.2).long()
    model = nn.Sequential(nn.Linear(2, 1024), nn.ReLU(), nn.Linear(1024, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005)
    data = TensorDataset(points, labels)
    loader = DataLoader(data, batch_size=64, shuffle=True)
    for epoch in range(epochs):
        for batch, target in loader:
            loss = nn.functional.cross_entropy(model(batch), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    train(epochs=100_000)
'''
STARTED = """import json
import os
import sys
{imports}


if __name__ == "__main__":
    with open("started.part", "w") as file:
        json.dump({{"argv": sys.argv, "cwd": os.getcwd()}}, file)
    os.replace("started.part", "started.json")
"""

pytestmark = [
    pytest.mark.skipif(not chromium.find(), reason="no Chromium on this machine"),
    pytest.mark.skipif(vscode.find() is None, reason="no VS Code for tests: python -m scripts.vscode"),
    pytest.mark.skipif(not VSIX.exists(), reason="no vsix: make vsix"),
    pytest.mark.timeout(200),
]


@lru_cache(maxsize=1)
def bare_python() -> str:
    """An interpreter without OnTheFly: the base of this one's virtual environment."""
    base = os.path.realpath(sys.executable)
    done = subprocess.run([base, "-c", "import onthefly"], cwd="/", env={}, capture_output=True, check=False)
    return base if done.returncode == 1 else ""


def drive(home: Home, program: str, **environment: str) -> str:
    """Run one of the host's e2e programs to its end; what it printed, if all was as it should be."""
    editor = vscode.find()
    assert editor is not None
    scratch = tempfile.mkdtemp(prefix="onthefly-")  # short: the editor's sockets lie in it
    process = subprocess.Popen(
        [str(editor.node), f"e2e/{program}"], cwd=HOST, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
        env={**home.environment, "CODE_SERVER": str(editor.entry), "CHROMIUM": chromium.find(), "VSIX": str(VSIX),
             "SCRATCH": scratch, "TMPDIR": scratch, "XDG_RUNTIME_DIR": scratch,
             "SHOTS": str(REPOSITORY / "screenshots"), "PYTHON": sys.executable, "BARE_PYTHON": bare_python(),
             **environment},
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=180)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(scratch, ignore_errors=True)
    assert process.returncode == 0, said
    return said


@pytest.fixture
def project(home: Home) -> Path:
    """A folder with a script, both with names that a shell would take apart."""
    folder = home.folder / "it's a project"
    folder.mkdir()
    (folder / "train it.py").write_text(SCRIPT, encoding="utf-8")
    return folder


@pytest.mark.always
def test_a_person_runs_watches_pauses_and_reloads(home: Home, project: Path) -> None:
    said = drive(home, "live.mjs", FOLDER=str(project), SCRIPT="train it.py")
    assert "the hub was killed, and another one was found" in said


@pytest.mark.skipif(not bare_python(), reason="every interpreter here has OnTheFly")
def test_what_is_missing_is_said(home: Home, project: Path) -> None:
    said = drive(home, "odd.mjs", FOLDER=str(project), SCRIPT="train it.py")
    assert "the package is installed after a yes; a hub is started in place of the dead one" in said


@pytest.mark.always
@pytest.mark.skipif(not bare_python(), reason="every interpreter here has OnTheFly")
def test_inside_the_extension_host(home: Home) -> None:
    one, two = home.folder / "one's", home.folder / "two"
    one.mkdir()
    two.mkdir()
    text = STARTED.format(imports="import torch")
    (one / "train it.py").write_text(text, encoding="utf-8")
    (one / "plain.py").write_text(STARTED.format(imports=""), encoding="utf-8")
    (two / "other.py").write_text(text, encoding="utf-8")
    workspace = home.folder / "all.code-workspace"
    workspace.write_text(json.dumps({"folders": [{"path": "one's"}, {"path": "two"}]}), encoding="utf-8")
    said = drive(home, "inhost.mjs", WORKSPACE=str(workspace), EXTENSION=str(HOST))
    assert said.count("ok: ") == 8
