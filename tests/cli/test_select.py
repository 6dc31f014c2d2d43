"""The language of selections on the command line: rows, indices, files, tags; and what is refused, said plainly."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING

import pytest

from onthefly.link.discovery import read_hub
from onthefly.settings import Settings
from tests.conftest import wait_for
from tests.hub.made import SAMPLES, SESSION, WRONG, make

if TYPE_CHECKING:
    from tests.conftest import Ended, Home

BAD = list(range(0, SAMPLES, WRONG))


@pytest.fixture
def made(home: Home) -> Home:
    """A hub with the made session."""
    make(home.folder, at=Settings(home.environment).data_dir)
    home.start(sys.executable, "-m", "onthefly", "hub")
    wait_for("the hub", lambda: read_hub(Settings(home.environment)))
    return home


def onthefly(home: Home, *command: str) -> Ended:
    """What a person types."""
    return home.run(sys.executable, "-m", "onthefly", *command)


def test_a_selection_as_rows_indices_files_and_tags(made: Home) -> None:
    shown = onthefly(made, "select", SESSION, "region=suspect")
    assert shown.code == 0, shown.err
    assert f"(19 of {len(BAD)}" in shown.out.decode()
    assert json.loads(onthefly(made, "select", SESSION, "region=suspect", "--indices").out) == BAD
    done = onthefly(made, "select", SESSION, "class=1", "loss=:3", "-o", "ones.csv")
    assert done.code == 0, done.err
    rows = list(csv.DictReader((made.folder / "ones.csv").read_text().splitlines()))
    assert sorted(int(row["sample"]) for row in rows) == [i for i in range(1, SAMPLES, 4) if i % WRONG]
    assert b"put on 19 samples" in onthefly(made, "select", SESSION, "region=suspect", "--tag", "doubted").out
    assert onthefly(made, "tags", SESSION, "doubted", "11", "--off").code == 0
    assert b"18  doubted" in onthefly(made, "tags", SESSION).out
    assert json.loads(onthefly(made, "select", SESSION, "tag=doubted", "--indices").out) == [i for i in BAD if i != 11]
    listed = onthefly(made, "suspects", SESSION, "--limit", "2").out.decode()
    assert "class 3 led by 3.20 on average" in listed


def test_what_cannot_be_done_is_said(made: Home) -> None:
    assert b"no sample is meant by 'loss=99:'" in onthefly(made, "select", SESSION, "loss=99:").out
    empty = onthefly(made, "select", SESSION, "loss=99:", "-o", "none.csv")
    assert (empty.code, (made.folder / "none.csv").exists()) == (5, False)
    assert b"no sample is meant" in empty.err
    for output in ("nowhere/rows.csv", "."):
        refused = onthefly(made, "select", SESSION, "worst=3", "-o", output)
        assert refused.code in (2, 5), output
        assert b"Traceback" not in refused.err
    assert b"cannot be written: No such file or directory" in onthefly(
        made, "suspects", SESSION, "-o", "nowhere/rows.csv").err  # fmt: skip
    wrong = onthefly(made, "select", SESSION, "size=3")
    assert wrong.code == 2
    assert b"is no term of a selection" in wrong.err
