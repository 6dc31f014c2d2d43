"""What follows a rewind is what followed the first time, in the loops of training libraries too."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import FULL, REPOSITORY
from tests.state.frameworks import FRAMEWORKS
from tests.state.scripts import START

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys, warnings, torch
from pathlib import Path
from tests.state.rewinding import Played, expect_same
torch.set_num_threads(1)
warnings.simplefilter("ignore")
path = Path(sys.argv[1])
Played().run(path)  # imports draw random numbers
for taken, back in ((1, 2), (3, 8)):
    expect_same(path, taken, back)
"""


@FULL
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_goes_on_as_before(name: str, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(START + FRAMEWORKS[name])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr[-3000:]
