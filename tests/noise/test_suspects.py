"""Of planted wrong labels, how many the review list has within the first 1.5 times as many rows; what marks them."""

from __future__ import annotations

import base64
import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import FULL
from tests.noise.digits import load
from tests.reporting import note

if TYPE_CHECKING:
    from tests.conftest import Home

SCRIPT = Path(__file__).with_name("digits.py")
SEEDS = [0, *(pytest.param(seed, marks=FULL) for seed in range(1, 5))]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_nine_of_ten_wrong_labels_are_in_the_head_of_the_list(home: Home, seed: int) -> None:
    """And cleanlab's, pandas' and a DataLoader's ways of reading it see the same."""
    _, _, wrong = load(seed)
    done = home.watched(str(SCRIPT), "--seed", str(seed))
    assert done.code == 0, done.err
    home.wait_state("ended")
    rows: list[dict[str, Any]] = home.get("sessions/last/suspects")
    assert sorted(row["sample"] for row in rows) == list(range(len(wrong)))
    planted = int(wrong.sum())
    head = [row["sample"] for row in rows[: planted * 3 // 2]]
    share = float(wrong[head].sum()) / planted
    marked = [row["sample"] for row in rows if row["is_label_issue"]]
    found, precise = float(wrong[marked].sum()) / planted, float(wrong[marked].mean())
    note(
        "review list", seed=seed, within_one_and_a_half=round(share, 3), marked=round(found, 3), right=round(precise, 3)
    )
    assert share >= 0.9, share
    assert found >= 0.9, found
    assert precise >= 0.7, precise
    assert all(row["evidence"] for row in rows)
    answer = home.post("sessions/last/selection", {"select": "region=suspect", "what": "indices", "format": "json"})
    indices = json.loads(base64.b64decode(answer["file"]))
    assert indices == sorted(marked), "what torch.utils.data.Subset(data, indices) takes"
    said = home.run(sys.executable, "-m", "onthefly", "suspects", "last", "-o", "labels.csv")
    assert said.code == 0, said.err
    table = list(csv.DictReader((home.folder / "labels.csv").read_text().splitlines()))
    assert {"is_label_issue", "label_quality", "given_label", "predicted_label"} <= table[0].keys()
    assert [int(row["sample"]) for row in table] == [row["sample"] for row in rows]
