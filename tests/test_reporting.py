"""What tests report for the docs: lines of the table of fidelity, and the page that is made of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from scripts import fidelity
from tests.conftest import REPOSITORY
from tests.fidelity.brute import dataset
from tests.reporting import row, seen
from tests.watching import watched

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_line_says_what_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONTHEFLY_REPORT", str(tmp_path / "report.json"))
    model = nn.Linear(6, 4)
    with watched() as kept:
        for number, (x, y) in enumerate(DataLoader(dataset("class", 24), 8)):
            loss = F.cross_entropy(model(x if number else x + 0), y if number else y + 0)
            (loss if number < 2 else torch.exp(loss)).backward()
    seen("loop", "mixed", kept)
    row("kind", "a | b", losses="all", identity="index", certificate="exact")
    rows = list(json.loads((tmp_path / "report.json").read_text())["fidelity"].values())
    assert rows[1] == {
        "kind": "loop", "name": "mixed", "losses": "2 of 3 calls", "identity": "none (1), index (1)",
        "certificate": "exact (2), none (1)",
        "reason": "the loss is the exponential of a mean or sum, which no sample has a share of; "
                  "the loss's target is not a tensor of a batch (it was copied or computed)",
    }  # fmt: skip
    page = fidelity.page(rows, [("test_x[a]", "a fault")])
    assert "2 rows, 1 of them exact with an index." in page
    assert r"| a \| b | all | index | exact |  |" in page
    assert page.index("## Loops") < page.index("## Kind") < page.index("- `test_x[a]`: a fault")


def test_the_page_has_what_was_promised() -> None:
    """At least 60 rows; and none that says less than everything without a reason."""
    lines = (REPOSITORY / "docs" / "fidelity.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split(" | ")] for line in lines if line.startswith("| ")]
    rows = [cells for cells in rows if cells[0] not in ("| what", "| ---")]
    assert len(rows) >= 60
    assert len({cells[0] for cells in rows}) == len(rows)
    whole = [["all", identity, "exact"] for identity in ("index", "stream", "key")]
    assert [cells for cells in rows if cells[1:4] not in whole and cells[4] == "|"] == []
